"""Objects of Gymnasium itself: what its wrappers keep, its generators, and the samples of its environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")  # of the session `peers`, as all here

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402


def normalized(seed: int, steps: int) -> Any:
    """Return an environment that has normalized some observations and rewards."""
    env = gymnasium.wrappers.NormalizeReward(gymnasium.wrappers.NormalizeObservation(gymnasium.make("CartPole-v1")))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()
    return env


def statistics(env: Any) -> list[Any]:
    observations, rewards = env.get_wrapper_attr("obs_rms"), env.get_wrapper_attr("return_rms")
    return [np.copy(getattr(each, name)) for each in (observations, rewards) for name in ("mean", "var", "count")]


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_the_statistics_of_wrappers_come_back(extension: str, tmp_path: Path) -> None:
    """Each RunningMeanStd is registered as it is."""
    saved, other = normalized(1, 50), normalized(2, 20)

    def modules(env: Any) -> dict[str, Any]:
        return {name: env.get_wrapper_attr(name) for name in ("obs_rms", "return_rms")}

    path = keepfast.save(modules(saved), tmp_path / f"rms{extension}")
    assert keepfast.load(modules(other), path)
    for found, expected in zip(statistics(other), statistics(saved), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_environment_goes_on_with_the_same_random_numbers(tmp_path: Path) -> None:
    """The generators of an environment and of its spaces are kept by what holds them."""
    saved, other = normalized(1, 10), normalized(2, 10)

    def modules(env: Any) -> dict[str, Any]:
        return {"env": env.unwrapped.np_random, "actions": env.action_space.np_random}

    path = keepfast.save(modules(saved), tmp_path / "random.pt")
    keepfast.load(modules(other), path)
    assert [other.action_space.sample() for _ in range(20)] == [saved.action_space.sample() for _ in range(20)]
    np.testing.assert_array_equal(other.unwrapped.reset()[0], saved.unwrapped.reset()[0])


SPACES = {
    "discrete": gymnasium.spaces.Discrete(5, start=-1),
    "image": gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "several": gymnasium.spaces.MultiDiscrete([3, 4]),
    "switches": gymnasium.spaces.MultiBinary(3),
    "nested": gymnasium.spaces.Dict(
        {
            "goal": gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-1, 1, (2,)))),
            "view": gymnasium.spaces.Box(0, 255, (2, 2), np.uint8),
        }
    ),
}


class Told(gymnasium.Env):  # type: ignore[misc]
    """Observes samples of its space."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, space: Any) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, _action: Any) -> Any:
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_memory_takes_what_environments_give(space: str, num_envs: int) -> None:
    """Observations, actions, rewards and ends of a vector environment are added as they come, and come back."""
    envs = gymnasium.vector.SyncVectorEnv([lambda: Told(SPACES[space]) for _ in range(num_envs)])
    memory = keepfast_torch.RandomMemory(8, num_envs, device="cpu")
    memory.create_tensor("observations", envs.single_observation_space)
    memory.create_tensor("actions", envs.single_action_space)
    memory.create_tensor("rewards", 1)
    memory.create_tensor("terminated", 1, dtype=torch.bool)
    given, _ = envs.reset(seed=1)
    added = []
    for _ in range(3):
        actions = envs.action_space.sample()
        following, rewards, terminated, _, _ = envs.step(actions)
        added.append(
            gymnasium.vector.utils.concatenate(
                envs.single_observation_space,
                list(gymnasium.vector.utils.iterate(envs.observation_space, given)),
                gymnasium.vector.utils.create_empty_array(envs.single_observation_space, num_envs),
            )
        )
        memory.add_samples(observations=given, actions=actions, rewards=rewards, terminated=terminated)
        given = following
    ((observations, rewards),) = memory.sample_all(["observations", "rewards"])
    assert rewards.tolist() == [[1.0]] * 3 * num_envs
    leaves, expected = flat(observations), [flat(each) for each in added]
    for number, leaf in enumerate(leaves):
        rows = np.concatenate([np.asarray(each[number]).reshape(num_envs, -1) for each in expected])
        np.testing.assert_array_equal(leaf.numpy(), rows)


def flat(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for key in sorted(node) for leaf in flat(node[key])]
    return [leaf for part in node for leaf in flat(part)] if isinstance(node, tuple) else [node]
