"""The cases of the memories and buffers of skrl, stable-baselines3 and flashbax, written anew over our memories."""

from __future__ import annotations

import itertools
from typing import Any

import flashbax
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from skrl.memories.torch import RandomMemory as SkrlMemory
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer, RolloutBuffer

import keepfast_jax
import keepfast_torch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES: list[Any] = [1, 3, (2, 2), gymnasium.spaces.Box(-1, 1, (4,)), gymnasium.spaces.Discrete(5)]
KEPT = list(itertools.product([1, 5], [1, 3], [0, 1, 4, 5, 7, 12]))


def samples(number: int, num_envs: int, width: int, dtype: Any) -> torch.Tensor:
    return (torch.arange(num_envs * width).reshape(num_envs, width) + 100 * number).to(dtype)


@pytest.mark.parametrize(("memory_size", "num_envs", "adds"), KEPT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool], ids=str)
def test_skrl_keeps_what_ours_keeps(memory_size: int, num_envs: int, adds: int, dtype: Any) -> None:
    """The same calls leave the same tensors, position and length, and all samples come in the same order."""
    theirs = SkrlMemory(memory_size=memory_size, num_envs=num_envs, device="cpu")
    ours = keepfast_torch.RandomMemory(memory_size=memory_size, num_envs=num_envs, device="cpu")
    for memory in (theirs, ours):
        assert memory.create_tensor("states", size=3, dtype=dtype)
        assert memory.create_tensor("rewards", size=1, dtype=torch.float32)
        for number in range(adds):
            states, rewards = samples(number, num_envs, 3, dtype), samples(number, num_envs, 1, torch.float32)
            memory.add_samples(states=states, rewards=rewards)
    assert (len(theirs), theirs.memory_index, theirs.filled) == (len(ours), ours.memory_index, ours.filled)
    assert sorted(theirs.get_tensor_names()) == sorted(ours.get_tensor_names())
    rows = len(ours)
    for name in ("states", "rewards"):
        one, two = (memory.get_tensor_by_name(name) for memory in (theirs, ours))
        assert one.shape == two.shape
        assert torch.equal(one.flatten(0, 1)[:rows], two.flatten(0, 1)[:rows])
    if rows:
        for batches in (1, 2) if ours.filled else ():  # skrl gives rows that were never written, too
            one, two = (memory.sample_all(["states", "rewards"], mini_batches=batches) for memory in (theirs, ours))
            for part in (0, 1):
                first, second = (torch.cat([batch[part] for batch in found]) for found in (one, two))
                assert torch.equal(first, second[: len(first)])  # of which skrl drops what makes no whole batch
        drawn = ours.sample(["states"], batch_size=4)[0][0]
        assert all(any(torch.equal(row, each) for each in ours.sample_all(["states"])[0][0]) for row in drawn)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("keep_dimensions", [True, False])
def test_skrl_makes_the_tensors_that_ours_makes(size: Any, keep_dimensions: bool) -> None:
    """Of numbers, shapes and spaces."""
    shapes = []
    if keep_dimensions and not isinstance(size, tuple | list):
        pytest.skip("skrl keeps the dimensions of a shape alone, and raises ValueError for anything else")
    for made in (SkrlMemory, keepfast_torch.RandomMemory):
        memory = made(memory_size=4, num_envs=2, device="cpu")
        memory.create_tensor("x", size=size, dtype=torch.float32, keep_dimensions=keep_dimensions)
        shapes.append(tuple(memory.get_tensor_by_name("x").shape))
    if isinstance(size, tuple) and not keep_dimensions and shapes[0] != shapes[1]:
        pytest.skip(f"skrl flattens a shape to {shapes[0]}, ours keeps it: {shapes[1]}")
    assert shapes[0] == shapes[1]


OBSERVATIONS = [np.float32, np.float64, np.uint8, np.int64, np.bool_]
ACTIONS = [gymnasium.spaces.Discrete(10), gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.MultiDiscrete([3, 4])]


@pytest.mark.parametrize("dtype", OBSERVATIONS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
@pytest.mark.parametrize("adds", [2, 5, 8])
def test_a_replay_buffer_holds_what_ours_holds(dtype: Any, action_space: Any, adds: int) -> None:
    """Of every dtype of observations, and of each kind of action."""
    high = 1 if dtype is np.bool_ else 100
    space = gymnasium.spaces.Box(0, high, (4,), dtype) if dtype is not np.bool_ else gymnasium.spaces.MultiBinary(4)
    theirs = ReplayBuffer(10, space, action_space, device="cpu", n_envs=2)
    ours = keepfast_torch.RandomMemory(memory_size=5, num_envs=2, device="cpu")
    ours.create_tensor("states", size=space)
    ours.create_tensor("next_states", size=space)
    ours.create_tensor("actions", size=action_space)
    ours.create_tensor("rewards", size=1, dtype=torch.float32)
    ours.create_tensor("terminated", size=1, dtype=torch.bool)
    for seed in range(adds):
        space.seed(seed), action_space.seed(seed)
        states, following = (np.stack([space.sample() for _ in range(2)]) for _ in range(2))
        actions = np.stack([np.asarray(action_space.sample()).reshape(-1) for _ in range(2)])
        rewards, done = np.array([seed, -seed], np.float32), np.array([seed % 2 == 0, False])
        theirs.add(states, following, actions, rewards, done, [{}, {}])
        ours.add_samples(
            states=torch.as_tensor(states), next_states=torch.as_tensor(following), actions=torch.as_tensor(actions),
            rewards=torch.as_tensor(rewards)[:, None], terminated=torch.as_tensor(done)[:, None],
        )  # fmt: skip
    rows = min(adds, 5)
    for name, kept in (
        ("states", theirs.observations), ("next_states", theirs.next_observations), ("actions", theirs.actions),
        ("rewards", theirs.rewards[..., None]), ("terminated", theirs.dones[..., None].astype(bool)),
    ):  # fmt: skip
        found = ours.get_tensor_by_name(name).numpy()
        np.testing.assert_array_equal(found[:rows].reshape(-1), kept[:rows].reshape(-1))
    assert theirs.full == ours.filled


def test_a_dict_replay_buffer_holds_what_ours_holds() -> None:
    """A Dict is a tensor of each of its parts."""
    space = gymnasium.spaces.Dict(
        {"image": gymnasium.spaces.Box(0, 255, (3, 8, 8), np.uint8), "speed": gymnasium.spaces.Box(0, 1, (2,))}
    )
    theirs = DictReplayBuffer(6, space, gymnasium.spaces.Discrete(3), device="cpu", n_envs=1)
    ours = keepfast_torch.RandomMemory(memory_size=6, num_envs=1, device="cpu")
    ours.create_tensor("states", size=space)
    for seed in range(4):
        space.seed(seed)
        state = {key: value[None] for key, value in space.sample().items()}
        theirs.add(state, state, np.array([[1]]), np.zeros(1), np.zeros(1), [{}])
        ours.add_samples(states={key: torch.as_tensor(value) for key, value in state.items()})
    for key in space.spaces:
        found = ours.get_tensor_by_name(f"states.{key}").numpy()[:4]
        np.testing.assert_array_equal(found.reshape(-1), theirs.observations[key][:4].reshape(-1))


def test_a_rollout_buffer_is_not_ours() -> None:
    """What computes returns is an agent's."""
    assert RolloutBuffer
    pytest.skip("a memory keeps what it is given; returns and advantages are computed by the agent, as skrl's do")


@pytest.mark.parametrize("adds", [2, 5, 9])
@pytest.mark.parametrize("add_batch_size", [1, 3])
def test_a_flat_buffer_of_flashbax_holds_what_ours_holds(adds: int, add_batch_size: int) -> None:
    """What was added last, and pairs of a sample and the one after it in the same environment."""
    buffer = flashbax.make_flat_buffer(6 * add_batch_size, 1, 4, False, add_batch_size)
    state = buffer.init({"obs": jnp.zeros(2), "reward": jnp.zeros(())})
    ours = keepfast_jax.RandomMemory(memory_size=6, num_envs=add_batch_size)
    ours.create_tensor("obs", size=2, dtype=jnp.float32)
    ours.create_tensor("reward", size=1, dtype=jnp.float32)
    for number in range(adds):
        obs = jnp.arange(add_batch_size * 2, dtype=jnp.float32).reshape(add_batch_size, 2) + 100 * number
        reward = jnp.full(add_batch_size, float(number))
        added = {"obs": obs, "reward": reward}
        state = buffer.add(state, added)
        ours.add_samples(obs=obs, reward=reward[:, None])
    rows = min(adds, 6)
    kept = np.asarray(state.experience["obs"])  # of shape (environments, rows, 2)
    found = np.asarray(ours.get_tensor_by_name("obs")).reshape(6, add_batch_size, 2)
    assert sorted(map(tuple, kept[:, :rows].reshape(-1, 2).tolist())) == sorted(
        map(tuple, found[:rows].reshape(-1, 2).tolist())
    )
    assert bool(buffer.can_sample(state)) is (len(ours) > 1 * add_batch_size)
    pair = buffer.sample(state, jax.random.key(0)).experience
    steps = np.asarray(pair.second["reward"]) - np.asarray(pair.first["reward"])
    assert set(steps.tolist()) == {1.0}
    sequences = np.asarray(ours.sample(["reward"], batch_size=8, sequence_length=2)[0][0]).reshape(-1, 2)
    assert set((sequences[:, 1] - sequences[:, 0]).tolist()) == {1.0}


@pytest.mark.parametrize("kind", ["item", "trajectory", "prioritised_flat", "prioritised_trajectory", "mixer", "vault"])
def test_other_buffers_of_flashbax_are_not_ours(kind: str) -> None:
    """They draw in ways that skrl's memories do not."""
    pytest.skip(f"the product has no {kind} buffer: its memories draw samples, or sequences of them, at random")
