"""Masks and rewards by agent that are JAX arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import keepfast  # noqa: E402
from keepfast.tracking.tracker import Tracker  # noqa: E402


@pytest.mark.filterwarnings("ignore:the agent .* got rewards after")
def test_masks_and_rewards_by_agent_may_be_arrays() -> None:
    """On their device until the interval ends, in any real dtype."""
    tracker, same = Tracker(), Tracker()
    key = jax.random.key(0)
    for _ in range(40):
        key, *keys = jax.random.split(key, 4)
        rewards = dict(zip(("a", "b"), jax.random.normal(keys[0], (2, 5, 1), jax.numpy.bfloat16), strict=True))
        done = dict(zip(("a", "b"), jax.random.uniform(keys[1], (2, 5, 1)) < 0.2, strict=True))
        valid = jax.random.uniform(keys[2], (5,)) < 0.8
        never = jax.numpy.zeros(5, bool)
        tracker.episodes.record(rewards, done, never, valid)
        as_arrays = [{name: np.asarray(part[name], float) for name in part} for part in (rewards, done)]
        same.episodes.record(*as_arrays, np.asarray(never), np.asarray(valid))
    statistics = tracker.statistics()
    assert "Reward / Total reward (b) (mean)" in statistics
    assert statistics == same.statistics()


def test_a_mask_on_a_device_leaves_rows_out() -> None:
    """Beside rewards that are JAX arrays or NumPy's, also where the mask was donated to somebody else afterwards."""
    tracker = Tracker()
    valid = jax.numpy.array([True, False, True])
    for as_array in (jax.numpy.asarray, np.asarray):
        tracker.episodes.record(as_array([1.0, 5.0, 9.0]), as_array([True] * 3), as_array([False] * 3), valid)
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (max)"] == 9.0
    assert statistics["Reward / Total reward (mean)"] == 5.0


def test_a_mask_that_is_being_traced_is_refused() -> None:
    """It has no values yet; the error says so, and nothing is recorded."""
    tracker = Tracker()

    @jax.jit
    def step(valid: Any) -> Any:
        tracker.episodes.record(np.ones(2), np.zeros(2), np.zeros(2), valid)
        return valid

    with pytest.raises(keepfast.InvalidValue, match="record_transition: it is being traced"):
        step(jax.numpy.ones(2, bool))
    assert not tracker.pending


class World:
    """An environment that is a pure function of its state, stepped under `jit`; an episode has 100 steps."""

    def __init__(self) -> None:
        self.env_state = jax.numpy.zeros(2, jax.numpy.int32)

    def advance(self) -> tuple[Any, Any, Any]:
        self.env_state, ended = _advance(self.env_state)
        return jax.numpy.ones(2), ended, jax.numpy.zeros(2, bool)


@jax.jit
def _advance(count: Any) -> tuple[Any, Any]:
    ended = count == 99
    return jax.numpy.where(ended, 0, count + 1), ended


@pytest.mark.parametrize("registered", [True, False])
def test_an_environments_state_that_is_restored_goes_on_with_its_episodes(registered: bool, tmp_path: Path) -> None:
    """It is known by its name; where it is not restored, the episodes start anew."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 25}
    params = {"weight": np.zeros(2, np.float32)}
    for end in (75, 400):
        world = World()
        with keepfast.Experiment({**cfg, "checkpoint_interval": 25, "backend": "jax"}, timesteps=400) as experiment:
            experiment.register(params=params)
            if registered:
                experiment.register(env_state=keepfast.attribute(world, "env_state"))
            for timestep in range(experiment.resume(), end):
                experiment.record_transition(*world.advance())
                experiment.step(timestep)
    series = keepfast.read_metrics(tmp_path / "run")["Episode / Total timesteps (max)"]
    first = 100 if registered else 175
    assert series.steps.tolist() == list(range(first, 401, 100))
    assert set(series.values) == {100.0}
