"""What the README and the guide show for PyTorch runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import keepfast

pytest.importorskip("torch")

from tests.both_backends.documents import ReadmeSuite, code_of, run
from tests.torch_backend.framework import Torch

PAGES = ("README.md", "docs/index.md")


class TestReadme(Torch, ReadmeSuite):
    heading = "PyTorch"
    memories = ".pt"


def test_five_lines_give_a_curve_and_checkpoints(project: Path, tmp_path: Path) -> None:
    """Those of README and of the home page, which are the same; a second start finds that all is done."""
    blocks = [re.findall(r"```python\n(.*?)```", (project / page).read_text("utf-8"), re.DOTALL)[0] for page in PAGES]
    assert blocks[0] == blocks[1]
    assert len([line for line in blocks[0].splitlines() if line]) == 5
    run(blocks[0], tmp_path)
    assert len(keepfast.read_metrics(tmp_path / "runs" / "first")["Loss / Policy loss"].steps) == 100
    assert len(list((tmp_path / "runs" / "first" / "checkpoints").glob("agent_*.pt"))) == 10


def test_the_guide_runs_on_torch(project: Path, tmp_path: Path) -> None:
    """Every block of the guide runs, one after the other, and a second run finds that all is done."""
    code = code_of((project / "docs" / "getting-started.md").read_text("utf-8"))
    run(code, tmp_path)
    run(code, tmp_path)
    assert (tmp_path / "runs" / "cartpole" / "checkpoints" / "agent_100.pt").exists()


def test_the_page_on_episodes_runs(project: Path, tmp_path: Path) -> None:
    """Every block of the page runs, one after the other, without a warning."""
    pytest.importorskip("gymnasium")
    code = code_of((project / "docs" / "episodes.md").read_text("utf-8"))
    assert code.count("assert ") == 7
    run("import warnings\nwarnings.simplefilter('error')\n" + code, tmp_path)
