"""What the how-to pages show that need no framework runs as it stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.both_backends.documents import code_of

Called = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_page(project: Path, name: str) -> dict[str, Any]:
    variables: dict[str, Any] = {"__name__": "page"}
    exec(compile(code_of((project / "docs" / name).read_text("utf-8")), name, "exec"), variables)
    return variables


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("keepfast ")]


def test_the_page_on_sweeps_runs(call: Callable[..., Called], project: Path) -> None:
    """Four runs, and each command that the page shows on them."""
    left = run_page(project, "how-to/sweeps.md")
    printed = []
    for command in commands((project / "docs" / "how-to" / "sweeps.md").read_text("utf-8")):
        code, out, err = call(*shlex.split(command)[1:])
        assert (code, err) == (0, ""), command
        printed.append(out)
    assert len(printed) == 6
    assert len(re.findall(r"lr-0\.1-seed-\d", printed[0])) == 2
    assert "lr-0.01" not in printed[1]
    assert Path("sweep.html").exists()

    class Trial:
        number = 7

        def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
            return low

    assert left["objective"](Trial()) == pytest.approx(99 * 1e-4)


def test_the_page_on_notebooks_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells, one after the other, without a notebook."""
    assert run_page(project, "how-to/notebooks.md")["experiment"].completed == 100


def test_the_page_on_settings_runs(project: Path) -> None:
    """The three ways to give them, and an error."""
    agent = run_page(project, "configuration.md")["agent"]
    assert agent.experiment_dir.name == "walker"


@pytest.mark.needs("torch", "tensorboard", "wandb")
def test_the_page_on_wandb_runs(project: Path) -> None:
    """Offline, a run of wandb is on disk."""
    run_page(project, "how-to/wandb.md")
    assert list(Path("wandb").glob("offline-run-*/*.wandb")) or list(Path("runs/walker").rglob("*.wandb"))
