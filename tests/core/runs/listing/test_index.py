"""Many runs are listed from an index, which is made again where a run's files changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepfast.runs.listing import index
from keepfast.runs.listing.index import INDEX, list_runs
from keepfast.runs.reading import read_run

ROW = {"step": 5, "wall_time": 1.0}


def write_runs(root: Path, count: int) -> list[Path]:
    long_ago = time.time() - 1000
    made = []
    for number in range(count):
        (run := root / f"run-{number}").mkdir(parents=True)
        document = {"agent": "PPO", "timesteps": 10, "config": {"lr": number, "experiment": {}}}
        (run / "config.json").write_text(json.dumps(document))
        (run / "metrics.jsonl").write_text(json.dumps(ROW | {"scalars": {"Loss": number}}) + "\n")
        for path in (*run.iterdir(), run):
            os.utime(path, (long_ago, long_ago))
        made.append(run)
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the runs that are read, as they are."""
    names: list[str] = []

    def noted(path: Path) -> Any:
        names.append(path.name)
        return read_run(path)

    monkeypatch.setattr(index, "read_run", noted)
    return names


def listed(root: Path, **options: Any) -> list[Any]:
    problems: list[Any] = []
    found = list_runs(root, lambda *problem: problems.append(problem), **options)
    assert problems == []
    return found


def facts(run: Any) -> Any:
    about = (run.path, run.agent, run.steps, run.timesteps, run.best_score, run.changed, run.size, run.status)
    return about, dict(run.settings), dict(run.latest), run.label


def test_what_did_not_change_is_read_once(tmp_path: Path, read: list[str]) -> None:
    """A second listing is the same and reads no run; one that changed is read again, and only that."""
    runs = write_runs(tmp_path / "runs", 25)
    first = listed(tmp_path / "runs")
    assert [run.path for run in first] == runs
    assert len(read) == 25
    read.clear()
    assert list(map(facts, listed(tmp_path / "runs"))) == list(map(facts, first))
    assert read == []


def append(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 6, "wall_time": 1.0, "scalars": {"Loss": 1.0}}) + "\n")


def replace(run: Path) -> None:
    (run / "config.json").rename(run / "aside")
    (run / "config.json").write_text((run / "aside").read_text().replace("PPO", "SAC"))
    (run / "aside").unlink()


def add(run: Path) -> None:
    (run / "checkpoints").mkdir()


def nest(run: Path) -> None:
    (run / "seeds").mkdir()
    (run / "seeds" / "x").write_text("")


@pytest.mark.parametrize("change", [append, replace, add, nest])
def test_a_run_that_changed_is_read_again(tmp_path: Path, read: list[str], change: Callable[[Path], None]) -> None:
    """Whatever of it changed: and it alone."""
    runs = write_runs(tmp_path, 25)
    listed(tmp_path)
    read.clear()
    change(runs[7])
    found = listed(tmp_path)
    assert read == ["run-7"]
    assert facts(found[7]) == facts(read_run(runs[7]))


def test_runs_come_and_go(tmp_path: Path, read: list[str]) -> None:
    """As do those in folders; the order is that of their names, numbers as numbers."""
    runs = write_runs(tmp_path, 25)
    listed(tmp_path)
    runs[3].rename(tmp_path.parent / f"{tmp_path.name}-gone")
    write_runs(tmp_path / "sweep", 1)
    found = listed(tmp_path)
    assert [run.path for run in found] == [*runs[:3], *runs[4:], tmp_path / "sweep" / "run-0"]


@pytest.mark.parametrize("text", ["", "no index", '{"keepfast.runs": 1}\n[[[\t{}\t{}\n"a"\t[1]\t{}\t{}', "\ud800" * 9])
def test_an_index_that_makes_no_sense_is_made_again(tmp_path: Path, text: str) -> None:
    """Whoever wrote it: it is read as no index, and the runs are what counts."""
    runs = write_runs(tmp_path, 25)
    (tmp_path / INDEX).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert [run.path for run in listed(tmp_path)] == runs
    assert [run.path for run in listed(tmp_path, rebuild=True)] == runs


def test_an_index_names_nothing_outside(tmp_path: Path) -> None:
    """Runs are found by looking: a line of another directory adds none."""
    write_runs(tmp_path, 25)
    listed(tmp_path)
    index_file = tmp_path / INDEX
    index_file.write_text(index_file.read_text().replace('"run-3"', '"../run-3"').replace('"run-4"', '"/etc"'))
    assert len(listed(tmp_path)) == 25


def test_few_runs_have_no_index(tmp_path: Path) -> None:
    """They are read as quickly without one."""
    write_runs(tmp_path, 3)
    listed(tmp_path)
    assert not (tmp_path / INDEX).exists()


def test_a_folder_that_cannot_be_read_does_not_end_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, it is told, and the others are listed."""
    runs = write_runs(tmp_path, 25)

    def refuse(path: Path) -> Any:
        if path.name == "run-5":
            raise RecursionError("too deep")
        return read_run(path)

    monkeypatch.setattr(index, "read_run", refuse)
    problems: list[Path] = []
    found = list_runs(tmp_path, lambda path, _: problems.append(path))
    assert problems == [runs[5]]
    assert len(found) == 24


@pytest.mark.timing
def test_ten_thousand_runs_are_listed_in_a_second(tmp_path: Path) -> None:
    """As many of them as can be made here, in as much less; the processor's time counts."""
    write_runs(tmp_path, 300)
    listed(tmp_path)
    times = []
    for _ in range(3):
        before = time.process_time()
        listed(tmp_path)
        times.append(time.process_time() - before)
    assert min(times) < 1.0 * 300 / 10_000 + 0.02
