"""Environments of Gymnasium that are watched: their episodes, by their autoreset mode, and their state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.adapters import watch

pytestmark = pytest.mark.needs("gymnasium")

ENVS, LENGTH = 3, 5
MODES = ["NEXT_STEP", "SAME_STEP", "DISABLED"]


def made(mode: str, name: str = "CartPole-v1") -> Any:
    import gymnasium

    makers = [lambda: gymnasium.make(name, max_episode_steps=LENGTH)] * ENVS
    return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=gymnasium.vector.AutoresetMode[mode])


def settings(directory: Path) -> dict[str, Any]:
    return {"directory": directory, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}


def stepped(envs: Any, experiment: keepfast.Experiment, timesteps: range, *, resets_before: bool = False) -> list[Any]:
    """Step environments as a loop does that knows nothing of an experiment but its end; return what it saw."""
    observations, _ = envs.reset(seed=4)
    seen = [observations]
    for timestep in timesteps:
        observations, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
        over = terminated | truncated
        over &= envs.metadata["autoreset_mode"].name == "DISABLED"
        if not resets_before:
            experiment.step(timestep)
        if over.any():
            observations, _ = envs.reset(options={"reset_mask": over})
        if resets_before:
            experiment.step(timestep)
        seen.append(observations)
    return seen


@pytest.mark.parametrize("mode", MODES)
def test_its_episodes_are_counted_by_its_mode(mode: str, tmp_path: Path) -> None:
    """Each has as many steps as it had, and no reward of a row that only reset."""
    with keepfast.Experiment(settings(tmp_path)) as experiment:
        envs = watch(made(mode), experiment)
        envs.action_space.seed(1)
        stepped(envs, experiment, range(20))
    found = keepfast.read_metrics(tmp_path / "run")
    assert set(found["Episode / Total timesteps (max)"].values) == {LENGTH}
    assert set(found["Reward / Total reward (max)"].values) == {LENGTH}
    assert set(found["Reward / Instantaneous reward (min)"].values) == {1.0}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half", [5, 7])
def test_a_loop_goes_on_with_the_observation_it_was_about_to_act_on(mode: str, half: int, tmp_path: Path) -> None:
    """What it sees after a resume, in mid-episode or at an end, is what it would have seen."""
    assert_goes_on(mode, half, tmp_path)


def test_what_the_loop_has_reset_is_not_reset_by_a_resume(tmp_path: Path) -> None:
    """Where a timestep is complete only after the loop's reset."""
    assert_goes_on("DISABLED", 5, tmp_path, resets_before=True)


def assert_goes_on(mode: str, half: int, tmp_path: Path, **order: bool) -> None:
    expected: list[Any] = []
    for name, ranges in (("through", [range(14)]), ("resumed", [range(half), range(half, 14)])):
        cfg = {**settings(tmp_path / name), "checkpoint_interval": half}
        seen: list[Any] = []
        for steps in ranges:
            with keepfast.Experiment(cfg) as experiment:
                envs = watch(made(mode), experiment)
                envs.action_space.seed(1)
                assert experiment.resume() == steps.start
                seen = seen[:-1] + stepped(envs, experiment, steps, **order)
        if name == "through":
            expected = seen
    np.testing.assert_array_equal(np.array(seen), np.array(expected))


def test_a_single_environment_is_watched_too(tmp_path: Path) -> None:
    """Whoever steps it resets it; a resume at an end resets it once."""
    import gymnasium

    cfg = {**settings(tmp_path), "checkpoint_interval": LENGTH}
    for _ in range(2):
        with keepfast.Experiment(cfg) as experiment:
            env = watch(gymnasium.make("CartPole-v1", max_episode_steps=LENGTH), experiment)
            start = experiment.resume()
            env.reset(seed=3)
            for timestep in range(start, start + LENGTH):
                *_, terminated, truncated, _ = env.step(env.action_space.sample())
                experiment.step(timestep)
            assert terminated or truncated
    assert keepfast.read_metrics(tmp_path / "run")["Episode / Total timesteps (max)"].values.tolist() == [LENGTH] * 2


def test_it_is_let_go_at_close_and_watched_by_one_at_a_time(tmp_path: Path) -> None:
    """Nothing is left on the object; a second experiment is refused before."""
    envs = made("NEXT_STEP")
    before = set(vars(envs))
    with keepfast.Experiment(settings(tmp_path)) as experiment:
        assert watch(envs, experiment) is envs
        with pytest.raises(keepfast.UsageError, match="is watched already"):
            watch(envs, experiment)
    assert set(vars(envs)) == before
    with pytest.raises(keepfast.UsageError, match="has no `step` and `reset`"):
        watch(type(envs), experiment)  # type: ignore[arg-type]


def test_where_its_state_cannot_be_known_a_warning_says_so(tmp_path: Path) -> None:
    """Its episodes are counted all the same, and a reset is a reset."""
    envs = made("SAME_STEP")
    envs.simulator = memoryview(b"its own")
    with keepfast.Experiment(settings(tmp_path)) as experiment:
        with pytest.warns(keepfast.KeepfastWarning, match="`simulator` is a builtins.memoryview"):
            watch(envs, experiment)
        stepped(envs, experiment, range(LENGTH))
    assert keepfast.read_metrics(tmp_path / "run")["Episode / Total timesteps (max)"].values.tolist() == [LENGTH]
