"""Memories as Minari datasets."""

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

from holdfast.errors import InvalidValue  # noqa: E402
from holdfast.memory import MemorySnapshot  # noqa: E402
from holdfast.memory_files import iter_memories, read_memory  # noqa: E402
from holdfast.memory_formats.minari import MinariExporter  # noqa: E402
from holdfast.testing.memory_exporter import MemoryExporterContract, assert_same  # noqa: E402


class TestMinari(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return MinariExporter()

    def payload(self, path):
        return path / "main_data.hdf5"

    def snapshot(self, memory_index=3, env_index=0, *, filled=True):
        plain = super().snapshot(memory_index, env_index, filled=filled)
        named = {"states": "float32", "actions": "int64", "rewards": "float64", "terminated": "bool"}
        tensors = {**plain.tensors, **{name: plain.tensors[dtype] for name, dtype in named.items()}}
        return MemorySnapshot(tensors, memory_index, env_index, filled, plain.metadata)


def _memory(filled=True, next_states=True, index=2):
    """Return 6 rows of 2 environments that count their steps; environment 0 ends at step 3, environment 1 at 4."""
    steps = np.arange(6)[:, None, None] + np.array([0, 100])[None, :, None]
    steps = np.where((np.arange(6) < index)[:, None, None] & filled, steps + 6, steps)
    tensors = {
        "states": steps.repeat(3, 2).astype(np.float32),
        "actions": (steps % 4).astype(np.int64),
        "rewards": steps.astype(np.float32) / 2,
        "terminated": steps == 3,
        "truncated": steps == 104,
        "log_prob": -steps.astype(np.float32),
    }
    if next_states:
        tensors["next_states"] = tensors["states"] + 1
    return MemorySnapshot(tensors, index, 0, filled, {"agent": "PPO"})


def test_minari_loads_the_episodes(tmp_path):
    """The real Minari finds each episode with every value, T + 1 observations, and open tails as truncated."""
    path = tmp_path / "memory.minari"
    MinariExporter().save(_memory(), path)
    dataset = minari.MinariDataset(path)
    assert (dataset.total_episodes, dataset.total_steps) == (4, 12)
    expected = [[2, 3], [4, 5, 6, 7], [102, 103, 104], [105, 106, 107]]
    for episode, steps in zip(dataset.iterate_episodes(), expected, strict=True):
        np.testing.assert_array_equal(episode.observations[:, 0], [*steps, steps[-1] + 1])
        np.testing.assert_array_equal(episode.actions, np.array(steps) % 4)
        np.testing.assert_array_equal(episode.rewards, np.array(steps) / 2)
        np.testing.assert_array_equal(episode.terminations, [step == 3 for step in steps])
        assert episode.truncations.tolist() == [*[False] * (len(steps) - 1), steps[-1] != 3]
        np.testing.assert_array_equal(episode.infos["log_prob"][:-1], -np.array(steps))
    marks = [(m["holdfast_fragment"], m["holdfast_open"]) for m in dataset.storage.get_episode_metadata(range(4))]
    assert marks == [(True, False), (False, True), (True, False), (False, True)]


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("next_states", [True, False])
def test_an_exported_memory_comes_back(tmp_path, filled, next_states):
    """Every tensor comes back at its place, open tails as they were, also without next states."""
    memory = _memory(filled, next_states, index=4)
    if not filled:
        for tensor in memory.tensors.values():
            tensor[4:] = 0
    MinariExporter().save(memory, tmp_path / "memory.minari")
    assert_same(read_memory(tmp_path / "memory.minari"), memory)


def test_a_dataset_of_minari_becomes_a_memory(tmp_path):
    """A dataset that Minari wrote is read as one environment's samples, episode after episode."""
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (tmp_path / "made").mkdir()
    space = gymnasium.spaces.Box(-1, 100, (2,), np.float32)
    storage = MinariStorage.new(tmp_path / "made", space, gymnasium.spaces.Discrete(3))
    for number, steps in enumerate((3, 2)):
        observations = np.arange(2 * steps + 2, dtype=np.float32).reshape(-1, 2) + 10 * number
        flags = np.arange(steps) == steps - 1
        storage.update_episodes([EpisodeBuffer(
            number, None, None, observations, np.arange(steps), np.ones(steps) * number, flags, ~flags & False,
        )])  # fmt: skip
    memory = read_memory(tmp_path / "made")
    assert (memory.memory_size, memory.num_envs, memory.filled) == (5, 1, True)
    assert memory.tensors["states"][:, 0, 0].tolist() == [0, 2, 4, 10, 12]
    assert memory.tensors["next_states"][:, 0, 0].tolist() == [2, 4, 6, 12, 14]
    assert memory.tensors["actions"][:, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert memory.tensors["terminated"][:, 0, 0].tolist() == [False, False, True, False, True]


def test_directories_are_found_among_files(tmp_path):
    """A pattern finds datasets as it finds files."""
    MinariExporter().save(_memory(), tmp_path / "memory.minari")
    assert [path.name for path, _ in iter_memories(tmp_path / "*")] == ["memory.minari"]


def test_a_memory_without_states_is_refused(tmp_path):
    """What every dataset must have is named where it is missing, and nothing is written."""
    with pytest.raises(InvalidValue, match="needs the tensors `states`"):
        MinariExporter().save(MemorySnapshot({"x": np.zeros((1, 1, 1))}, 0, 0, filled=True), tmp_path / "m.minari")
    assert not list(tmp_path.rglob("*.hdf5"))
