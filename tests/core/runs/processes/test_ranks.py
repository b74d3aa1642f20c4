"""What all ranks of a distributed run tracked is written together, and each keeps what it has for itself.

The ranks are threads here, whose process group is the test's own; `tests/distributed` has processes.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest

import keepfast
from keepfast.plain.state import Kept
from keepfast.runs.processes import exchange

pytestmark = pytest.mark.filterwarnings("ignore:this process takes itself for rank")

Loop = Callable[[keepfast.Experiment, int], Any]


class Group:
    """A process group whose processes are threads."""

    name = "threads"

    def __init__(self, size: int) -> None:
        self.size, self.is_there = size, True
        self.barrier = threading.Barrier(size)
        self.given: dict[int, bytes] = {}
        self.rank = threading.local()

    def exchange(self, payload: bytes, seconds: float) -> Sequence[bytes]:
        self.given[self.rank.number] = payload
        self.barrier.wait(seconds)
        found = [self.given[rank] for rank in range(self.size)]
        self.barrier.wait(seconds)
        return found

    def run(self, directory: Path, loop: Loop, **settings: Any) -> list[Any]:
        """Run a loop in an experiment of each rank, and return what each gives."""

        def one(rank: int) -> Any:
            self.rank.number = rank
            place = {"rank": rank, "world_size": self.size}
            cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "distributed": place}
            cfg |= {"write_interval": 5, "checkpoint_interval": 10, "distributed_seconds": 20.0, **settings}
            with keepfast.Experiment(cfg, timesteps=20) as experiment:
                experiment.register(net={"weight": np.zeros(2)})
                return loop(experiment, rank)

        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(one, range(self.size)))


@pytest.fixture
def make_group(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Group]:
    def make(size: int) -> Group:
        group = Group(size)
        monkeypatch.setattr(exchange, "grouped", lambda: group if group.is_there else None)
        return group

    return make


def written(directory: Path) -> dict[int, dict[str, float]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["scalars"] for line in map(json.loads, lines)}


def track(experiment: keepfast.Experiment, rank: int) -> tuple[Any, bool, bool]:
    for timestep in range(experiment.resume(), 20):
        experiment.track_data("Loss", float(timestep + 100 * rank))
        if rank:
            experiment.track_data("Of others", 1.0)
        experiment.record_transition(np.full(2, rank), np.full(2, timestep % 5 == rank), np.zeros(2, bool))
        experiment.step(timestep)
    return experiment.best_score, experiment.improved_within(5), experiment.improved_within(20)


def test_what_all_ranks_tracked_is_written(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """Once, by rank 0, and judged alike by all of them."""
    known = make_group(3).run(tmp_path, track, distributed_metrics="mean", best_min_episodes=6)
    assert len(set(known)) == 1
    assert known[0][0] == 5.0  # each environment ends an episode of 5 steps an interval, of reward 0, 1 and 2 a step
    found = written(tmp_path)
    assert {step: values["Loss"] for step, values in found.items()} == {5: 102, 10: 107, 15: 112, 20: 117}
    assert {values["Of others"] for values in found.values()} == {1.0}
    assert found[5]["Reward / Instantaneous reward (max)"] == 2
    assert not list(tmp_path.glob("run-*"))


def test_the_first_alone_is_written_by_default(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """Nothing is exchanged then, and no other rank stores anything."""
    group = make_group(2)
    group.run(tmp_path, track)
    assert written(tmp_path)[20]["Loss"] == 17
    assert group.given == {}
    assert not (tmp_path / "run" / "ranks").exists()


def test_ranks_at_different_timesteps_are_told(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """And each goes on by itself, so that none waits."""

    def loop(experiment: keepfast.Experiment, rank: int) -> None:
        for timestep in range(15):
            experiment.track_data("Loss", float(rank))
            experiment.step(timestep + 5 * rank)

    with pytest.warns(keepfast.KeepfastWarning, match=r"rank [01] is at a write of timestep \d+ in `run`, and this"):
        make_group(2).run(tmp_path, loop, distributed_metrics="mean")
    assert {values["Loss"] for values in written(tmp_path).values()} == {0.0}


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_set(
    tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """It is told once, and rank 0 writes what it has itself."""

    def loop(experiment: keepfast.Experiment, rank: int) -> None:
        for timestep in range(20 if not rank else 7):
            experiment.track_data("Loss", float(rank))
            experiment.step(timestep)
        if rank:
            raise KeyError("gone")

    with pytest.warns(keepfast.KeepfastWarning) as told, pytest.raises(KeyError):
        make_group(2).run(tmp_path, loop, distributed_metrics="mean", distributed_seconds=0.5)
    texts = [str(warning.message) for warning in told]
    told_of = [text for text in texts if "could not be brought together" in text]
    assert len(told_of) == 1
    assert "for a write at timestep 10" in told_of[0]
    assert [values["Loss"] for values in written(tmp_path).values()] == [0.5, 0.0, 0.0, 0.0]


def test_a_group_of_another_size_is_told(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """Where several runs share one, their values would be mixed."""
    group = make_group(2)
    group.size, group.barrier = 1, threading.Barrier(1)

    def loop(experiment: keepfast.Experiment, rank: int) -> None:
        experiment.track_data("Loss", 1.0)
        experiment.step(4)

    group.rank.number = 0
    place = {"rank": 0, "world_size": 2}
    with pytest.warns(keepfast.KeepfastWarning, match="tells of 2 processes, and the process group has 1"):
        group.run(tmp_path, loop, distributed=place, distributed_metrics="mean")


@pytest.mark.parametrize("when", ["never", "until the end"])
def test_values_are_told_to_be_of_one_rank_without_a_group(
    when: str, tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """Where it was never made, or was destroyed before the experiment was closed."""
    group = make_group(1)
    group.is_there = when != "never"
    settings: dict[str, Any] = {"distributed": {"rank": 0, "world_size": 2 if when == "never" else 1}}

    def loop(experiment: keepfast.Experiment, rank: int) -> None:
        experiment.track_data("Loss", 1.0)
        experiment.step(4)
        experiment.track_data("Loss", 2.0)
        experiment.step(6)
        group.is_there = False

    match = "make one before" if when == "never" else "close the experiment before the group"
    with pytest.warns(keepfast.KeepfastWarning, match=match):
        group.run(tmp_path, loop, distributed_metrics="mean", **settings)
    assert written(tmp_path)[7]["Loss"] == 2.0


@final
class Samples(Kept):
    """A memory of another library: the latest twelve numbers."""

    holds_samples: ClassVar[bool] = True

    def __init__(self) -> None:
        self.rows = np.zeros(12)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = np.array(state["rows"])


def remember(experiment: keepfast.Experiment, rank: int, until: int = 20) -> tuple[int, list[float]]:
    """Fill a memory, and return where the run began, and what is in the memory."""
    memory = Samples()
    experiment.register(memory=memory)
    start = experiment.resume()
    for timestep in range(start, until):
        memory.rows[timestep % 12] = 100 * rank + timestep
        experiment.track_data("Loss", float(timestep + 100 * rank))
        experiment.step(timestep)
    if until < 20:
        experiment.wait()
        raise KeyError("cut")
    return start, memory.rows.tolist()


OWN = {"distributed_metrics": "mean", "distributed_memories": "each", "checkpoint_interval": 6, "best_metric": "Loss"}


def cut(group: Group, directory: Path, at: int, **settings: Any) -> None:
    with pytest.raises(KeyError):
        group.run(directory, lambda experiment, rank: remember(experiment, rank, at), **{**OWN, **settings})


def test_each_rank_resumes_its_own_memory(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """And its part of the interval that was under way, so that a run that was cut is as one that was not."""
    group = make_group(2)
    whole = group.run(tmp_path / "whole", remember, **OWN)
    cut(group, tmp_path / "cut", 15)
    resumed = group.run(tmp_path / "cut", remember, **OWN)
    assert [start for start, _ in resumed] == [12, 12]
    assert [memory for _, memory in resumed] == [memory for _, memory in whole]
    assert whole[1][1][0] == 112.0
    assert written(tmp_path / "cut") == written(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_a_resume_goes_on_from_what_every_rank_has(
    damage: str, tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """What one of them lost, or had not stored when it was killed, is passed over by all, which is told."""
    group = make_group(3)
    cut(group, tmp_path, 15)
    (newest,) = (tmp_path / "run" / "ranks" / "2" / "checkpoints").glob("agent_12.*")
    newest.unlink() if damage == "removed" else newest.write_bytes(newest.read_bytes()[:-40])
    with pytest.warns(keepfast.KeepfastWarning, match="not that of all processes of the run; rank 2: "):
        resumed = group.run(tmp_path, remember, **OWN)
    assert [start for start, _ in resumed] == [6, 6, 6]
    assert [memory[0] for _, memory in resumed] == [12.0, 112.0, 212.0]


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_run_whose_first_checkpoint_not_every_rank_had_starts_anew(
    lacking: int, tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """As one that was killed before its first checkpoint was whole; no value is written twice."""
    group = make_group(2)
    cut(group, tmp_path, 9)
    if lacking:
        shutil.rmtree(tmp_path / "run" / "ranks" / "1" / "checkpoints")
    else:  # of which the best alone was there
        (index,) = (tmp_path / "run" / "checkpoints").glob("index.json")
        (periodic,) = (tmp_path / "run" / "checkpoints").glob("agent_6.*")
        index.unlink()
        periodic.unlink()
    reason = "it had stored nothing when it was ended" if lacking else "it has stored nothing at timestep 5, only at: 6"
    with pytest.warns(keepfast.KeepfastWarning, match=f"rank 1: {reason}(.|\n)*starting anew"):
        resumed = group.run(tmp_path, remember, **OWN)
    assert [start for start, _ in resumed] == [0, 0]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15, 20]
    with pytest.warns(keepfast.KeepfastWarning, match="is complete"):
        assert [start for start, _ in group.run(tmp_path, remember, **OWN)] == [20, 20]


def test_as_many_checkpoints_are_kept_as_let_every_rank_go_on(
    tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """Two more than asked for: another rank may still be writing what this one has."""
    group = make_group(2)
    group.run(tmp_path, remember, **OWN, keep_last=1, keep_best=0)
    kept = [{path.stem for path in each.glob("agent_*")} for each in (tmp_path / "run").rglob("checkpoints")]
    assert kept == [{"agent_12", "agent_18", "agent_20"}] * 2


@pytest.mark.parametrize(("before", "after"), [(3, 1), (3, 2), (1, 2)])
def test_another_number_of_ranks_is_told(
    before: int, after: int, tmp_path: Path, make_group: Callable[[int], Group]
) -> None:
    """The memories of those that are gone are named; one that is new begins with what it has."""
    cut(make_group(before), tmp_path, 15)
    told = "memories of rank 1, 2 are not resumed" if after == 1 else "memories of rank 2 are not resumed"
    told = told if before > after else "does not hold the memory `memory`"
    with pytest.warns(keepfast.KeepfastWarning, match=told):
        resumed = make_group(after).run(tmp_path, remember, **OWN)
    assert [start for start, _ in resumed] == [12] * after
    assert resumed[0][1][8] == 8.0


def test_two_runs_do_not_store_for_the_same_rank(tmp_path: Path, make_group: Callable[[int], Group]) -> None:
    """What another one has there is in use until that is closed."""
    group = make_group(1)
    group.rank.number = 0
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "distributed_memories": "each"}
    place = {"rank": 1, "world_size": 2}
    group.is_there = False
    one, other = (keepfast.Experiment({**cfg, "distributed": place}) for _ in range(2))
    with one, other:
        one.step(0)
        with pytest.raises(keepfast.DirectoryError, match="in use by another experiment"):
            other.step(0)
