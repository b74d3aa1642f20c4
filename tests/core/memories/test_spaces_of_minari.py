"""Spaces that tensors are created with, in Minari's own words."""

import numpy as np
import pytest

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.needs("h5py", "minari", "gymnasium")

from keepfast.memories.conversion import convert_memory  # noqa: E402
from keepfast.memories.files import read_memory  # noqa: E402


def _of_spaces(numpy_memory, states, actions, dtype=None):
    """Return a memory of two environments, its tensors created with spaces, and the samples it holds."""
    memory = numpy_memory(6, 2)
    memory.create_tensor("states", states, dtype)
    memory.create_tensor("actions", actions, dtype)
    memory.create_tensor("rewards", 1, np.float32)
    samples = []
    for number, space in enumerate((states, actions)):
        space.seed(number)
        samples.append([np.stack([space.sample() for _ in range(2)]) for _ in range(6)])
    for state, action in zip(*samples, strict=True):
        given = {"states": state.reshape(2, -1), "actions": action.reshape(2, -1)}
        memory.add_samples(**given, rewards=np.zeros((2, 1), np.float32))
    return memory, samples


def _assert_same_tensors(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.tobytes()) == (expected[name].dtype, expected[name].tobytes())


_SPACES = {
    "a box": lambda s: s.Box(-1, 4, (3,), np.float32),
    "a box of many limits": lambda s: s.Box(np.array([0.1, -np.inf]), np.array([2.5, np.inf]), dtype=np.float64),
    "a box without dimensions": lambda s: s.Box(-2, 2, (), np.float32),
    "an image": lambda s: s.Box(0, 255, (2, 2, 3), np.uint8),
    "a set": lambda s: s.Discrete(4),
    "a set that starts below": lambda s: s.Discrete(5, start=-2),
    "sets": lambda s: s.MultiDiscrete([2, 5]),
    "a table of sets": lambda s: s.MultiDiscrete([[2, 5], [1, 3]]),
    "bits": lambda s: s.MultiBinary(3),
    "a table of bits": lambda s: s.MultiBinary([2, 2]),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in _SPACES
        for dtype in (None, np.float32, np.float64)
        if (name, dtype) != ("a box of many limits", np.float32)  # which does not have these values
    ],
)
def test_minari_has_the_spaces_that_tensors_were_created_with(numpy_memory, tmp_path, name, dtype):
    """They are the same, in whatever dtype the memory keeps the values, and every value is in its space."""
    space = _SPACES[name](pytest.importorskip("gymnasium").spaces)
    memory, samples = _of_spaces(numpy_memory, space, space, dtype)
    path = memory.save(tmp_path, "minari")
    dataset = minari.MinariDataset(path)
    assert (dataset.observation_space, dataset.action_space) == (space, space)
    for environment, episode in enumerate(dataset.iterate_episodes()):
        assert all(
            np.asarray(found) in space if space.dtype.kind == "f" else found in space
            for found in [*episode.observations, *episode.actions]
        )
        np.testing.assert_array_equal(episode.observations[:-1], [state[environment] for state in samples[0]])
        np.testing.assert_array_equal(episode.actions, [action[environment] for action in samples[1]])
    _assert_same_tensors(read_memory(path).tensors, memory.snapshot().tensors)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_the_spaces_outlive_another_format(numpy_memory, tmp_path, kind):
    """A memory that is read from another file and converted, or loaded and exported, has the spaces it had."""
    from gymnasium.spaces import Box, Discrete

    if kind != "npz":
        pytest.importorskip("polars" if kind == "csv" else "pyarrow")
    memory, _ = _of_spaces(numpy_memory, Box(-1, 4, (3,), np.float32), Discrete(4), np.float32)
    path = memory.save(tmp_path, kind)
    loaded = numpy_memory(6, 2)
    loaded.load(path)
    convert_memory(path, tmp_path / "converted.minari")
    for made in (tmp_path / "converted.minari", loaded.save(tmp_path / "loaded", "minari")):
        dataset = minari.MinariDataset(made)
        assert (dataset.observation_space, dataset.action_space) == (Box(-1, 4, (3,), np.float32), Discrete(4))


@pytest.mark.parametrize("value", [0.5, -0.0, np.nan, np.inf, 1e30])
def test_actions_that_number_nothing_keep_their_values(numpy_memory, tmp_path, value):
    """Where a value is none of its space's dtype, all stay as they are, in a box with the limits of the space."""
    from gymnasium.spaces import Box, Discrete

    memory, _ = _of_spaces(numpy_memory, Box(-1, 4, (3,), np.float32), Discrete(4), np.float32)
    memory.set_tensor_by_name("actions", np.full((6, 2, 1), value, np.float32))
    path = memory.save(tmp_path, "minari")
    assert minari.MinariDataset(path).action_space == Box(0, 3, (1,), np.float32)
    _assert_same_tensors(read_memory(path).tensors, memory.snapshot().tensors)
