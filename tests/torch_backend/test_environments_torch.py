"""Gymnasium's own environments, and rewards that are tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gymnasium = pytest.importorskip("gymnasium")

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv  # noqa: E402
from gymnasium.wrappers import Autoreset, TimeLimit  # noqa: E402
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics, TransformReward  # noqa: E402

import keepfast  # noqa: E402
from keepfast.tracking.episodes.autoreset import mode_of  # noqa: E402
from keepfast.tracking.tracker import Tracker  # noqa: E402

NUM_ENVS, STEPS = 3, 16


def cartpole() -> Any:
    """Return CartPole cut at three steps, which no policy loses before."""
    return gymnasium.make("CartPole-v1", max_episode_steps=3)


def sync(mode: AutoresetMode) -> Any:
    return SyncVectorEnv([cartpole] * NUM_ENVS, autoreset_mode=mode)


MAKERS = {
    "sync, next step": lambda: sync(AutoresetMode.NEXT_STEP),
    "sync, same step": lambda: sync(AutoresetMode.SAME_STEP),
    "sync, disabled": lambda: sync(AutoresetMode.DISABLED),
    "async, next step": lambda: AsyncVectorEnv([cartpole] * NUM_ENVS, autoreset_mode=AutoresetMode.NEXT_STEP),
    "async, same step": lambda: AsyncVectorEnv([cartpole] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP),
    "make_vec": lambda: gymnasium.make_vec("CartPole-v1", NUM_ENVS, max_episode_steps=3),
    "make_vec, sync": lambda: gymnasium.make_vec(
        "CartPole-v1", NUM_ENVS, vectorization_mode="sync", max_episode_steps=3
    ),
    "wrapped": lambda: DictInfoToList(RecordEpisodeStatistics(sync(AutoresetMode.NEXT_STEP))),
    "wrapped, same step": lambda: RecordEpisodeStatistics(sync(AutoresetMode.SAME_STEP)),
    "rewards changed": lambda: TransformReward(sync(AutoresetMode.NEXT_STEP), lambda rewards: rewards - 5),
}


def vector_steps(envs: Any, count: int) -> Any:
    """Yield what environments give, who never act; where they do not reset themselves, they are reset in between."""
    envs.reset(seed=0)
    actions = np.zeros(NUM_ENVS, np.int64)
    for _ in range(count):
        _, rewards, terminated, truncated, _ = envs.step(actions)
        yield rewards, terminated, truncated
        ended = terminated | truncated
        if envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_episodes_of_gymnasium_have_their_own_length(name: str, as_array: Any, tmp_path: Path) -> None:
    """3, 3, 3, 3 in any mode, with any maker, under any wrappers, and no reward of a reset among the others."""
    envs = MAKERS[name]()
    reward = -4.0 if name == "rewards changed" else 1.0
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 4}
    with keepfast.Experiment(cfg, timesteps=STEPS, env=envs) as experiment:
        for timestep, step in enumerate(vector_steps(envs, STEPS)):
            experiment.record_transition(*map(as_array, step))
            experiment.step(timestep)
    envs.close()
    metrics = keepfast.read_metrics(tmp_path / "run")
    assert metrics["Episode / Total timesteps (min)"].values.tolist() == [3.0] * 4
    assert metrics["Episode / Total timesteps (max)"].values.tolist() == [3.0] * 4
    assert metrics["Reward / Instantaneous reward (min)"].values.tolist() == [reward] * 4
    assert metrics["Reward / Instantaneous reward (max)"].values.tolist() == [reward] * 4
    assert metrics["Reward / Total reward (mean)"].values.tolist() == [3 * reward] * 4


def test_resets_of_gymnasium_are_noticed_where_nobody_gives_the_environment(tmp_path: Path) -> None:
    """The warning comes once, and says what to do."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 8}
    steps = enumerate(vector_steps(sync(AutoresetMode.NEXT_STEP), STEPS))
    with (
        pytest.warns(keepfast.KeepfastWarning, match=r"by a row of reward 0.*`env=` of `Experiment`") as told,
        keepfast.Experiment(cfg, timesteps=STEPS) as experiment,
    ):
        for timestep, step in steps:
            experiment.record_transition(*step)
            experiment.step(timestep)
    assert len(told) == 1


def test_a_single_environment_is_reset_by_whoever_steps_it() -> None:
    """That takes no step, also after a vector environment has written its mode into the metadata of the class."""
    envs = sync(AutoresetMode.NEXT_STEP)
    env = cartpole()
    env.unwrapped.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    assert mode_of(env) == "disabled"
    assert mode_of(env.unwrapped) == "disabled"
    tracker = Tracker()
    tracker.episodes.set_autoreset(mode_of(env))
    for _ in range(4):
        env.reset(seed=0)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(0)
            tracker.episodes.record(reward, terminated, truncated)
            ended = terminated or truncated
    statistics = tracker.statistics()
    assert statistics["Episode / Total timesteps (mean)"] == 3.0
    assert tracker.episodes.ended_in_last_interval == 4
    envs.close()


def test_a_single_environment_that_resets_itself_takes_a_step_for_it() -> None:
    """Gymnasium's wrapper does as the vector environments do by default."""
    env = TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 3)
    assert mode_of(Autoreset(env)) == "next_step"
    env = Autoreset(env)
    tracker = Tracker()
    tracker.episodes.set_autoreset(mode_of(env))
    env.reset(seed=0)
    for _ in range(STEPS):
        _, reward, terminated, truncated, _ = env.step(0)
        tracker.episodes.record(reward, terminated, truncated)
    statistics = tracker.statistics()
    assert statistics["Episode / Total timesteps (max)"] == 3.0
    assert statistics["Reward / Instantaneous reward (min)"] == 1.0


class Walker:
    """An environment of tensors whose state can be kept; an episode has 100 steps."""

    def __init__(self) -> None:
        self.count = torch.zeros(2, dtype=torch.int64)

    def reset(self) -> None:
        self.count.zero_()

    def step(self) -> tuple[Any, Any, Any]:
        self.count += 1
        ended = self.count == 100
        self.count[ended] = 0
        return torch.ones(2), ended, torch.zeros(2, dtype=torch.bool)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count.copy_(state["count"])


@pytest.mark.parametrize("registered", [True, False])
def test_an_environment_that_is_restored_goes_on_with_its_episodes(registered: bool, tmp_path: Path) -> None:
    """One that is not starts anew; either way no episode is longer than an episode can be."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 25}
    net = torch.nn.Linear(2, 1)
    for end in (75, 400):
        walker = Walker()
        with keepfast.Experiment({**cfg, "checkpoint_interval": 25}, timesteps=400) as experiment:
            experiment.register(net=net, **({"world": walker} if registered else {}))
            for timestep in range(experiment.resume(), end):
                experiment.record_transition(*walker.step())
                experiment.step(timestep)
    series = keepfast.read_metrics(tmp_path / "run")["Episode / Total timesteps (max)"]
    first = 100 if registered else 175
    assert series.steps.tolist() == list(range(first, 401, 100))
    assert set(series.values) == {100.0}


@pytest.mark.filterwarnings("ignore:the agent .* got rewards after")
def test_masks_and_rewards_by_agent_may_be_tensors() -> None:
    """On their device until the interval ends, in any real dtype, as skrl gives them: a dict of (num_envs, 1)."""
    tracker, same = Tracker(), Tracker()
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        rewards = {name: torch.randn(5, 1, generator=generator, dtype=torch.bfloat16) for name in ("a", "b")}
        done = {name: torch.rand(5, 1, generator=generator) < 0.2 for name in rewards}
        never = {name: torch.zeros(5, 1, dtype=torch.bool) for name in rewards}
        valid = torch.rand(5, generator=generator) < 0.8
        tracker.episodes.record(rewards, done, never, valid)
        as_arrays = [{name: part[name].float().numpy() for name in part} for part in (rewards, done, never)]
        same.episodes.record(*as_arrays, valid.numpy())
    statistics = tracker.statistics()
    assert "Reward / Total reward (b) (mean)" in statistics
    assert statistics == same.statistics()


def test_a_mask_is_kept_as_it_was() -> None:
    """Its owner may write into it, in inference mode too, and tensors are kept beside masks of NumPy."""
    tracker, same = Tracker(), Tracker()
    rewards, done = torch.tensor([1.0, 5.0, 9.0]), torch.ones(3, dtype=torch.bool)
    valid = torch.tensor([True, False, True])
    with torch.inference_mode():
        tracker.episodes.record(rewards, done, ~done, valid)
        valid.fill_(True)
        tracker.episodes.record(rewards, done, ~done, np.array([False, True, True]))
    same.episodes.record(rewards, done, ~done, [True, False, True])
    same.episodes.record(rewards, done, ~done, [[0], [1], [1]])
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (mean)"] == 6.0
    assert statistics == same.statistics()
