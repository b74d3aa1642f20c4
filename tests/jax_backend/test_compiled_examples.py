"""A training that is compiled as a whole is kept by three more lines, and is the same training."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")

import keepfast

EXAMPLES = Path(__file__).parents[2] / "examples" / "compiled_loops"
UPDATES = 6


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Return what runs an example in an empty directory, and returns what it printed."""

    def run(name: str, *arguments: int) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        names = runpy.run_path(str(EXAMPLES / name))
        if "experiment" in names:
            names["experiment"].close()
        return capsys.readouterr().out

    return run


def test_three_lines_are_changed() -> None:
    """Those that import, make the experiment, and run the loop; each file is a page of code."""
    before, after = ((EXAMPLES / name).read_text().splitlines() for name in ("before.py", "after.py"))
    assert max(len(before), len(after)) < 150
    changed = [line for line in difflib.ndiff(before, after) if line.startswith("+ ") and line.strip("+ ")]
    assert len(changed) == 3


def test_the_training_is_the_same(run: Any) -> None:
    """Its last episodes are, and its metrics come at each interval."""
    assert run("after.py", UPDATES) == run("before.py", UPDATES)
    metrics = keepfast.read_metrics("runs/PPO")
    assert {"Loss / Policy loss", "Loss / Value loss", "Policy / Entropy", "Episode / Last return"} == metrics.keys()
    assert metrics["Loss / Policy loss"].steps.tolist() == list(range(1, UPDATES + 1))
    with pytest.warns(keepfast.KeepfastWarning, match="is complete"):
        assert run("after.py", UPDATES) == run("before.py", UPDATES)


def test_many_seeds_are_one_run(run: Any) -> None:
    """With their mean, and how far they lie apart."""
    assert run("after.py", 3, 16) == run("before.py", 3, 16)
    metrics = keepfast.read_metrics("runs/PPO")
    assert metrics["Episode / Last return [standard error]"].steps.tolist() == [1, 2, 3]
    assert (metrics["Episode / Last return [minimum]"].values < metrics["Episode / Last return"].values).all()
