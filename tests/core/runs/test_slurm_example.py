"""The example of an array on SLURM trains what its task says, and goes on where it was; see `tests/distributed`."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import keepfast

EXAMPLE = Path(__file__).parents[3] / "examples" / "slurm"


def test_a_task_of_the_example_is_a_run_of_its_own(tmp_path: Path) -> None:
    """Each has a directory, named by what is varied; started again with more to do, it goes on."""
    train = runpy.run_path(str(EXAMPLE / "train.py"))["train"]
    scores = [train(task, str(tmp_path), 20, 0.0) for task in range(4)]
    assert len(set(scores)) == 4
    assert train(3, str(tmp_path), 30, 0.0) >= scores[3]
    assert [len(keepfast.read_metrics(run)["Reward / Distance"].steps) for run in sorted(tmp_path.iterdir())] == [
        20,
        30,
        20,
        20,
    ]


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """And shows the script as it is."""
    monkeypatch.chdir(tmp_path)
    page = (project / "docs" / "how-to" / "slurm.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "page", "exec"), {"__name__": "page"})
    assert (tmp_path / "runs" / "lr-0.1-seed-1" / "config.json").exists()
    (shown,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    script = (EXAMPLE / "array.sh").read_text("utf-8")
    assert all(line in script for line in shown.replace('TASK_ID"\nended', 'TASK_ID" "$@"\nended').splitlines())


def test_the_example_is_short() -> None:
    """One page of Python, and the script passes each task its number and queues what saved itself."""
    assert len((EXAMPLE / "train.py").read_text().splitlines()) < 120
    script = (EXAMPLE / "array.sh").read_text()
    assert "--signal=USR1@120" in script
    assert 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' in script


@pytest.mark.parametrize("task", range(4))
def test_every_task_is_a_combination(task: int) -> None:
    """As many as the array has."""
    sweep = runpy.run_path(str(EXAMPLE / "train.py"))["SWEEP"]
    assert len(sweep) == 4
    assert len(set(sweep)) == 4
    assert sweep[task][0] in (0.1, 0.01)
