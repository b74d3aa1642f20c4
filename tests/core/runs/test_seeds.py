"""Seeds that are trained side by side, and a loop that is compiled, as an experiment sees them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import Aggregate, Experiment, Interval, UsageError


class Net:
    def __init__(self) -> None:
        self.weight = np.zeros(2, np.float32)


def interval(value: float, count: int = 1) -> Interval:
    return Interval({"Loss / x": Aggregate(count, value * count, value, value)})


def settings(directory: Path, **others: Any) -> dict[str, Any]:
    return {"directory": str(directory), "experiment_name": "x", "writers": ["jsonl"], "write_interval": 2, **others}


def values(run: Path) -> dict[str, list[float]]:
    return {tag: series[1].tolist() for tag, series in keepfast.read_metrics(run).items()}


SUMMARY = {
    "Loss / x": [2.0, 20.0],
    "Loss / x [standard error]": [pytest.approx(1 / math.sqrt(3)), pytest.approx(10 / math.sqrt(3))],
    "Loss / x [minimum]": [1.0, 10.0],
    "Loss / x [maximum]": [3.0, 30.0],
}


@pytest.mark.parametrize("seeds", ["mean", "each", "both"])
def test_seeds_are_written_as_one_or_as_runs_of_their_own(tmp_path: Path, seeds: str) -> None:
    """The mean has the tag itself, beside it stand its standard error and extremes; each seed has its directory."""
    with Experiment(settings(tmp_path, seeds=seeds, checkpoint_interval=0), timesteps=4) as experiment:
        for factor in (1.0, 10.0):
            experiment.loop.track(*(interval(factor * seed) for seed in (1, 2, 3)))
            experiment.step(1 if factor == 1.0 else 3)
    run = tmp_path / "x"
    assert (values(run) if (run / "metrics.jsonl").exists() else {}) == ({} if seeds == "each" else SUMMARY)
    own = {path.name: values(path) for path in (run / "seeds").iterdir()} if (run / "seeds").exists() else {}
    each = {str(seed): {"Loss / x": [seed + 1.0, 10.0 * (seed + 1)]} for seed in range(3)}
    assert own == ({} if seeds == "mean" else each)


def test_the_number_of_seeds_is_one_for_a_run(tmp_path: Path) -> None:
    """Another number could not be told apart from it."""
    with Experiment(settings(tmp_path, checkpoint_interval=0), timesteps=4) as experiment:
        experiment.loop.track(interval(1.0), interval(2.0))
        experiment.step(1)
        with pytest.raises(UsageError, match=r"3 seed\(s\) were tracked, and 2 before"):
            experiment.loop.track(*[interval(1.0)] * 3)


@pytest.mark.parametrize("seeds", ["mean", "both"])
def test_an_interrupted_interval_of_seeds_goes_on(tmp_path: Path, seeds: str) -> None:
    """A checkpoint in the midst of an interval holds what each seed had, and what its writers need."""

    def start() -> tuple[Experiment, Net]:
        experiment, net = Experiment(settings(tmp_path, seeds=seeds, checkpoint_interval=3), timesteps=8), Net()
        experiment.register(net=keepfast.attributes(net, "weight"))
        return experiment, net

    experiment, _ = start()
    for step in range(5):  # the checkpoint is of timestep 3, and what was written at 4 is void
        experiment.loop.track(interval(step), interval(10.0 * step))
        experiment.step(step)
    experiment.wait()
    experiment._bar("killed")
    experiment._recorder.close()
    experiment._checkpointer.close()
    experiment._home.release()
    experiment, _ = start()
    for step in range(experiment.resume(), 8):
        experiment.loop.track(interval(step), interval(10.0 * step))
        experiment.step(step)
    experiment.close()
    assert values(tmp_path / "x")["Loss / x [maximum]"] == [5.0, 25.0, 45.0, 65.0]
    if seeds == "both":
        assert values(tmp_path / "x" / "seeds" / "1") == {"Loss / x": [5.0, 25.0, 45.0, 65.0]}
    assert experiment.resumed is not None


def test_a_module_may_be_registered_after_the_resume(tmp_path: Path) -> None:
    """A loop that registers its carry itself gets it then, strictly; nobody is warned of a module without a place."""

    def start() -> Experiment:
        return Experiment(settings(tmp_path, checkpoint_interval=2), timesteps=4)

    net = Net()
    with start() as experiment:
        experiment.loop.store_late("late")
        net.weight[:] = 7.0
        experiment.register(late=keepfast.attributes(net, "weight"))
        experiment.step(1)
        experiment.loop.wait()
    with start() as experiment:
        assert experiment.resume() == 2
        assert list(experiment.loop.late) == ["late"]
        other = Net()
        other.weight = np.zeros(2, np.int32)
        with pytest.raises(keepfast.LoadMismatch, match=r"late\.weight: dtype"):
            experiment.register(late=keepfast.attributes(other, "weight"))
        found = Net()
        experiment.register(late=keepfast.attributes(found, "weight"))
        assert found.weight.tolist() == [7.0, 7.0]
        assert not experiment.loop.late


def test_waiting_and_closing_wait_for_compiled_loops(tmp_path: Path) -> None:
    """They have values to tell until they have run to their end; from within one of their calls nobody waits."""
    waited: list[str] = []
    with Experiment(settings(tmp_path, checkpoint_interval=0), timesteps=4) as experiment:
        experiment.loop.wait_with(lambda: waited.append("barrier"))
        experiment.wait()
        assert waited == ["barrier"]
        with experiment.loop.call():
            experiment.wait()
        assert waited == ["barrier"]
    assert waited == ["barrier", "barrier"]
    with pytest.raises(UsageError, match="was closed"):
        experiment.loop.watch()
