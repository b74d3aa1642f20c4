"""A notebook, in a real kernel of Jupyter, and the page on Hydra, with Hydra."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((HOW_TO / page).read_text("utf-8")) if kind == language]


@pytest.mark.needs("nbclient", "ipykernel")
def test_every_object_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    """The cells of the page run in a kernel: each ends in a table, the metrics in pictures, and training in one table.

    The table of `console` is one display that changed, not a line a write.
    """
    import nbclient
    import nbformat

    cells = [nbformat.v4.new_code_cell(code) for code in blocks("notebooks.md", "python")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [[output.data for output in cell.outputs if "data" in output] for cell in notebook.cells]
    html = ["".join(data.get("text/html", "") for data in cell) for cell in shown]
    assert len(html) == 5
    assert "notebook" in html[0]
    assert all("<table" in html[number] for number in (0, 2, 3, 4))
    assert "<svg" in html[2]
    live = [data for cell in shown[:2] for data in cell if "Loss / Policy loss" in data.get("text/html", "")]
    assert len(live) == 1
    assert ">100<" in live[0]["text/html"] or "100" in live[0]["text/html"]
    assert [output for cell in notebook.cells for output in cell.outputs if output.output_type == "error"] == []


@pytest.mark.needs("hydra")
def test_the_page_on_hydra_runs(tmp_path: Path) -> None:
    """A job, and a multirun of four, leave runs whose names and settings are those that were typed."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(blocks("hydra.md", "yaml")[0], "utf-8")
    (tmp_path / "train.py").write_text(blocks("hydra.md", "python")[0], "utf-8")
    listed: list[Any] = []
    for command in blocks("hydra.md", "bash")[0].splitlines():
        program, *arguments = command.split()
        arguments = ["-m", "keepfast.cli", *arguments, "--json"] if program == "keepfast" else arguments
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        listed.append(done.stdout)
    groups = json.loads(listed[-1])["groups"]
    assert {group["of"]["lr"]: group["count"] for group in groups} == {0.001: 2, 0.0001: 2}
    names = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    assert names == {f"walker-{lr}-{seed}" for lr in ("0.001", "0.0001") for seed in (0, 1)}
