"""Datasets that Minari has as Arrow or Parquet: the memory of such a one is that of the same one as HDF5."""

import json
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
minari = pytest.importorskip("minari")
pytestmark = pytest.mark.needs("h5py", "pyarrow", "minari", "PIL")

import gymnasium  # noqa: E402
from gymnasium import spaces  # noqa: E402

from keepfast.errors import CorruptMemory, MissingDependency, Unreadable  # noqa: E402
from keepfast.memories.files import iter_memories, read_memory  # noqa: E402
from keepfast.testing.memory_exporter import assert_same  # noqa: E402
from tests.hostile.episodes import WRITE, parts, placed, table  # noqa: E402

KINDS = ("arrow", "parquet")
BOX = spaces.Box(-1, 4, (2, 3), np.float32)
SPACES = {
    "a box": BOX,
    "a box of doubles": spaces.Box(-1, 4, (2,), np.float64),
    "a box of half floats": spaces.Box(-1, 4, (2,), np.float16),
    "a box without dimensions": spaces.Box(-1, 1, (), np.float32),
    "a box of bytes": spaces.Box(0, 255, (3,), np.uint8),
    "discrete": spaces.Discrete(5),
    "discrete from elsewhere": spaces.Discrete(5, start=-2),
    "several discrete": spaces.MultiDiscrete([3, 4]),
    "several discrete of two dimensions": spaces.MultiDiscrete([[3, 4], [5, 6]]),
    "binary": spaces.MultiBinary(4),
    "binary of two dimensions": spaces.MultiBinary([2, 2]),
    "a dictionary": spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}),
    "a tuple": spaces.Tuple((BOX, spaces.Discrete(3))),
    "one in the other": spaces.Tuple((spaces.Dict({"x": BOX, "0": spaces.Tuple((spaces.Discrete(2),))}), BOX)),
    "images": spaces.Box(0, 255, (32, 40, 3), np.uint8),
    "grey images": spaces.Box(0, 255, (32, 40), np.uint8),
    "images in a dictionary": spaces.Dict({"camera": spaces.Box(0, 255, (32, 32, 3), np.uint8), "speed": BOX}),
}
TEXTS = {"a text": spaces.Text(6), "a text in a dictionary": spaces.Dict({"a": spaces.Text(6), "b": BOX})}


class Sampled(gymnasium.Env):
    """Observes what its space samples, always the same; its episodes have 3, 1 and 4 steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space
        self._lengths = iter((3, 1, 4))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed), self.action_space.seed(seed)
        self._left = next(self._lengths)
        return self.observation_space.sample(), {"left": np.array([self._left])}

    def step(self, action):
        assert self.action_space.contains(action)
        self._left -= 1
        told = {"left": np.array([self._left])}
        return self.observation_space.sample(), 0.5 * self._left, self._left == 0, False, told


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """Return what has Minari's collector write a dataset of an environment with such spaces."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def collect(kind, seen, done):
        env = minari.DataCollector(Sampled(seen, done), data_format=kind, record_infos=True)
        for seed in range(3):
            env.reset(seed=seed)
            ended = False
            while not ended:
                _, _, ended, _, _ = env.step(env.action_space.sample())
        env.create_dataset(
            f"made/{kind}-v0", algorithm_name="a", author="b", author_email="c", code_permalink="d", description="e"
        )
        env.close()
        return tmp_path / "made" / f"{kind}-v0"

    return collect


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", SPACES)
def test_it_is_the_memory_of_the_same_dataset_as_hdf5(collected, space, kind):
    """The same tensors with the same values, dtypes and shapes, observed or acted, however Minari keeps them."""
    observed, acted = SPACES[space], BOX if "images" in space else SPACES[space]
    found = read_memory(collected(kind, observed, acted))
    assert_same(found, read_memory(collected("hdf5", observed, acted)))
    assert found["rewards"][:, 0, 0].tolist() == [1.0, 0.5, 0.0, 0.0, 1.5, 1.0, 0.5, 0.0]
    assert found["terminated"][:, 0, 0].tolist() == [False, False, True, True, False, False, False, True]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", TEXTS)
def test_texts_are_told_as_what_is_not_read(collected, space, kind):
    """A memory has no tensors for them, and the dataset is whole."""
    with pytest.raises(Unreadable, match="holds texts, which a memory has no tensors for"):
        read_memory(collected(kind, TEXTS[space], BOX))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_it_is_no_other_memory(collected, kind):
    """A pattern that descends finds the dataset once, and none of the tables of its episodes."""
    made = collected(kind, BOX, BOX)
    assert [path for path, _ in iter_memories(made.parent / "**")] == [made]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_that_is_missing_is_named(collected, kind):
    """Or one without its table."""
    made = collected(kind, BOX, BOX)
    (made / "data" / "1" / f"part-0.{kind}").unlink()
    with pytest.raises(CorruptMemory, match="episode 1 has 0 files where one was written"):
        read_memory(made)
    shutil.rmtree(made / "data" / "2")
    with pytest.raises(CorruptMemory, match="episodes are 2 where 3 were written"):
        read_memory(made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_is_cut_is_damage(tmp_path, kind):
    """Wherever it ends."""
    whole = WRITE[kind](table())
    for size in range(0, len(whole), 97):
        with pytest.raises(CorruptMemory, match=f"part-0.{kind}"):
            read_memory(placed(parts(kind, whole[:size]), tmp_path))
    assert len(read_memory(placed(parts(kind, whole), tmp_path))) == 5


def test_another_word_of_minaris_is_told(tmp_path):
    """Whatever it comes to keep datasets as."""
    files = parts("arrow", WRITE["arrow"](table()))
    told = {**json.loads(files["metadata.json"]), "data_format": "zarr"}
    with pytest.raises(Unreadable, match="Minari has it as zarr; let it have the dataset as HDF5"):
        read_memory(placed({"metadata.json": json.dumps(told).encode()}, tmp_path))


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    """A dataset as HDF5 needs none."""
    made = placed(parts("arrow", WRITE["arrow"](table())), tmp_path)
    for name in [name for name in sys.modules if name.startswith("keepfast.formats.memories.minari.arrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match="has as arrow, which `pyarrow` reads, and it is not installed"):
        read_memory(made)
