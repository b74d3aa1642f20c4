"""Memories as Minari datasets."""

import json
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")
pytestmark = pytest.mark.needs("h5py", "minari", "ml_dtypes")

from keepfast.codec import dtype_of  # noqa: E402
from keepfast.errors import CorruptMemory, InvalidValue, Unreadable, WriteFailed  # noqa: E402
from keepfast.formats.memories.minari.exporter import _TRAILER, MinariExporter  # noqa: E402
from keepfast.interfaces.memory_exporter import MemorySnapshot  # noqa: E402
from keepfast.memories.export import MemoryExport  # noqa: E402
from keepfast.memories.files import iter_memories, read_memory  # noqa: E402
from keepfast.testing.damage import flips  # noqa: E402
from keepfast.testing.memory_exporter import MemoryExporterContract, assert_same  # noqa: E402


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
    sizes = [len(steps) for steps in expected]
    told = [dict(attributes) for attributes in dataset.storage.get_episode_metadata(range(4))]
    assert told == [{"id": number, "total_steps": size} for number, size in enumerate(sizes)]


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


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("size", [(32, 32, 3), (40, 33)])
def test_compressed_images_are_those_that_minari_gives(tmp_path, alike, size):
    """JPEG images are pixels, whether their lengths are equal or not, grey or in colour, in any place of a space."""
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (tmp_path / "made").mkdir()
    image = gymnasium.spaces.Box(0, 255, size, np.uint8)
    space = gymnasium.spaces.Dict({"camera": image, "speed": gymnasium.spaces.Discrete(9)})
    storage = MinariStorage.new(tmp_path / "made", space, gymnasium.spaces.Discrete(3), jpeg_encoding=True)
    images = np.random.default_rng(0).integers(0, 256, (4, *size), np.uint8) * np.uint8(not alike)
    flags, observations = np.zeros(3, bool), {"camera": images, "speed": np.arange(4)}
    storage.update_episodes([EpisodeBuffer(0, None, None, observations, np.arange(3), np.ones(3), flags, flags)])
    (theirs,) = storage.get_episodes([0])
    found = read_memory(tmp_path / "made")
    np.testing.assert_array_equal(found["states.camera"][:, 0].reshape(3, *size), theirs["observations"]["camera"][:-1])
    np.testing.assert_array_equal(
        found["next_states.camera"][:, 0].reshape(3, *size), theirs["observations"]["camera"][1:]
    )
    assert found["states.speed"][:, 0, 0].tolist() == [0, 1, 2]


def test_directories_are_found_among_files(tmp_path):
    """A pattern finds datasets as it finds files."""
    MinariExporter().save(_memory(), tmp_path / "memory.minari")
    assert [path.name for path, _ in iter_memories(tmp_path / "*")] == ["memory.minari"]


def test_what_lies_in_a_dataset_is_no_other_memory(tmp_path):
    """A pattern that descends finds the directory of Minari's own once, not its inner one as well."""
    MinariExporter().save(_memory(), tmp_path / "memory.minari")
    (tmp_path / "foo-v0").mkdir()
    (tmp_path / "memory.minari").rename(tmp_path / "foo-v0" / "data")
    assert [path.name for path, _ in iter_memories(tmp_path / "**")] == ["foo-v0"]


def test_a_memory_without_states_is_refused(tmp_path):
    """What every dataset must have is named where it is missing, and nothing is written."""
    with pytest.raises(InvalidValue, match="needs the tensors `states`"):
        MinariExporter().save(MemorySnapshot({"x": np.zeros((1, 1, 1))}, 0, 0, filled=True), tmp_path / "m.minari")
    assert not list(tmp_path.rglob("*.hdf5"))


def _with(memory_index=2, *, without=(), **tensors):
    """Return the memory above with other tensors in it, and without some."""
    plain = _memory(index=memory_index)
    kept = {name: tensor for name, tensor in plain.tensors.items() if name not in without}
    return MemorySnapshot({**kept, **tensors}, memory_index, 0, filled=True)


def _saved(memory, tmp_path):
    path = tmp_path / "memory.minari"
    MinariExporter().save(memory, path)
    assert_same(read_memory(path), memory)
    return minari.MinariDataset(path)


def test_a_dataset_is_whole_or_absent_when_the_disk_is_full(tmp_path, monkeypatch):
    """Where Minari's own file cannot be written, no directory is left, not even an empty one."""

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keepfast.formats.memories.minari.exporter.write_episodes", refuse)
    with pytest.raises(WriteFailed, match="No space left on device"):
        MinariExporter().save(_memory(), tmp_path / "memory.minari")
    assert not list(tmp_path.iterdir())


_SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
from keepfast.memories.export import MemoryExport  # noqa: E402
from keepfast.memories.files import read_memory
from keepfast.formats.memories.minari.exporter import MinariExporter

memory, size = read_memory(sys.argv[1]), Path(sys.argv[1], "main_data.hdf5").stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 1, 1000, 4096, size // 4, size // 2, size - 100, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        MinariExporter().save(memory, Path(sys.argv[2]))
    except OSError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the size of files")
def test_wherever_the_system_stops_the_writing_nothing_is_left(tmp_path):
    """HDF5 meets the end of the space at any of its writes, and each time the error is told and no directory stays."""
    MinariExporter().save(_memory(), tmp_path / "memory.minari")
    command = [sys.executable, "-c", _SMALL_DISK, str(tmp_path / "memory.minari"), str(tmp_path / "copy.minari")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = f"WriteFailed cannot write `{tmp_path / 'copy.minari'}`: File too large; what was there before"
    assert told == [f"{expected} is untouched"] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["memory.minari"]


def test_exports_that_are_not_kept_are_removed(tmp_path):
    """Of the datasets that a memory exports, as many stay as it is told to keep, and nothing of the others."""
    export = MemoryExport("minari", tmp_path, keep=1)
    for export.cycles in range(3):
        export.submit(_memory(index=export.cycles))
    export.close()
    (kept,) = tmp_path.iterdir()
    assert_same(read_memory(kept), _memory(index=2))


def test_saving_again_replaces_the_dataset(tmp_path):
    """The directory holds the later memory alone."""
    MinariExporter().save(_memory(), tmp_path / "memory.minari")
    later = _memory(index=4)
    _saved(later, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.minari"]


def test_large_memories_are_written_and_read_in_parts(tmp_path):
    """A memory without any episode's end takes much less than its own size to write, and little beyond it to read."""
    tensors = {"states": np.ones((400_000, 1, 64), np.float32)}
    tensors |= {name: np.ones((400_000, 1, 1), np.float32) for name in ("actions", "rewards")}
    memory = MemorySnapshot(tensors, 123_456, 0, filled=True)
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    tracemalloc.start()
    try:
        MinariExporter().save(memory, tmp_path / "memory.minari")
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        MinariExporter().load(tmp_path / "memory.minari")
        read = tracemalloc.get_traced_memory()[1] - before - nbytes
    finally:
        tracemalloc.stop()
    assert written < nbytes / 2
    assert read < nbytes / 2


def test_values_are_as_ordered_in_time_over_the_end_of_the_rows(tmp_path):
    """An episode that goes on in the first rows is one episode, in every environment at its own place."""
    steps = np.arange(6)[:, None, None] * 10 + np.arange(3)[None, :, None]
    tensors = dict.fromkeys(("states", "actions", "rewards"), steps.astype(np.float32))
    dataset = _saved(MemorySnapshot(tensors, 2, 1, filled=True), tmp_path)
    found = [episode.rewards.tolist() for episode in dataset.iterate_episodes()]
    rows = [[3, 4, 5, 0, 1, 2], [2, 3, 4, 5, 0, 1], [2, 3, 4, 5, 0, 1]]
    assert found == [[10 * row + env for row in order] for env, order in enumerate(rows)]


def test_no_damage_of_the_metadata_goes_unnoticed(tmp_path):
    """A flipped bit in Minari's own file raises CorruptMemory, which names that file; so does the lack of it."""
    path = tmp_path / "memory.minari"
    MinariExporter().save(_memory(), path)
    metadata = path / "metadata.json"
    intact = metadata.read_bytes()
    for _, damaged in flips(intact, 60):
        metadata.write_bytes(damaged)
        with pytest.raises(CorruptMemory, match=r"memory\.minari/metadata\.json` is damaged"):
            read_memory(path)
    metadata.write_bytes(intact[:-1])
    with pytest.raises(CorruptMemory, match=r"metadata\.json` is damaged"):
        read_memory(path)
    metadata.unlink()
    with pytest.raises(CorruptMemory, match=r"`metadata\.json` is missing"):
        read_memory(path)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("dones",), ["terminated", "terminated", "terminated"]),
        (("dones", "terminated"), ["terminated", "truncated", "truncated"]),
        (("dones", "truncated"), ["terminated", "truncated", "terminated"]),
        (("dones", "terminated", "truncated"), ["terminated", "truncated", "truncated"]),
    ],
)
def test_an_end_that_only_dones_tells_of_is_an_end(tmp_path, flags, expected):
    """Every episode ends as terminated or truncated: what `terminated` denies is truncated, the rest terminated."""
    steps = np.arange(6)[:, None, None] + np.zeros((1, 1, 1), int)
    ends = {"dones": steps >= 3, "terminated": steps == 3, "truncated": steps == 4}
    tensors = {name: steps.astype(np.float32) for name in ("states", "actions", "rewards")}
    memory = MemorySnapshot({**tensors, **{name: ends[name] for name in flags}}, 0, 0, filled=True)
    dataset = _saved(memory, tmp_path)
    found = [(bool(episode.terminations[-1]), bool(episode.truncations[-1])) for episode in dataset.iterate_episodes()]
    assert found == [(end == "terminated", end == "truncated") for end in expected]


_SMALL_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz")


@pytest.mark.parametrize("name", _SMALL_FLOATS)
def test_small_floats_are_numbers_for_minari_and_come_back_bit_for_bit(tmp_path, name):
    """Every one of their bit patterns, all that are no numbers too, is an equal float32 there and itself again here."""
    kind = dtype_of(name)
    values = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind).reshape(-1, 1, 4)
    memory = MemorySnapshot(dict.fromkeys(("states", "actions", "rewards"), values), 0, 0, filled=True)
    dataset = _saved(memory, tmp_path)
    (episode,) = dataset.iterate_episodes()
    assert str(dataset.action_space.dtype) == "float32"
    for found in (episode.observations[:-1], episode.actions, episode.rewards):
        np.testing.assert_array_equal(found, values[:, 0].astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "bfloat16"])
@pytest.mark.parametrize("size", [1, 3])
def test_minari_has_every_action_in_its_space(tmp_path, dtype, size):
    """Whole numbers from 0 on number a set's elements; all other actions keep their dimension and their values."""
    actions = np.random.default_rng(0).integers(0, 2, (6, 2, size)).astype(dtype_of(dtype))
    memory = _with(0, actions=actions)
    dataset = _saved(memory, tmp_path)
    discrete = size == 1 and actions.dtype.kind in "iu"
    assert type(dataset.action_space).__name__ == ("Discrete" if discrete else "Box")
    assert dataset.action_space.shape == (() if discrete else (size,))
    found = []
    for episode in dataset.iterate_episodes():
        assert all(action in dataset.action_space for action in episode.actions)
        assert all(observation in dataset.observation_space for observation in episode.observations)
        found.append(episode.actions.reshape(-1, size))
    np.testing.assert_array_equal(
        np.concatenate(found), actions.swapaxes(0, 1).reshape(-1, size).astype(found[0].dtype)
    )


def test_bytes_that_look_like_an_image_come_back(tmp_path):
    """What Keepfast wrote is not taken for a compressed image."""
    states = np.tile(np.array([255, 216, 255, 0, 255, 217], np.uint8), (6, 2, 1))
    _saved(_with(without={"next_states"}, states=states), tmp_path)


def test_complex_actions_are_refused(tmp_path):
    """What Minari has no space for is refused by name, and nothing is written."""
    with pytest.raises(InvalidValue, match="complex64 have no space in Minari"):
        MinariExporter().save(_with(actions=np.zeros((6, 2, 1), np.complex64)), tmp_path / "memory.minari")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["states", "actions", "rewards", "terminated", "more"])
@pytest.mark.parametrize("size", [(0,), (2, 0)])
def test_tensors_without_values_come_back(tmp_path, name, size):
    """A tensor whose samples are empty keeps its shape, here and in Minari."""
    dataset = _saved(_with(**{name: np.zeros((6, 2, *size), np.float32)}), tmp_path)
    episode = next(dataset.iterate_episodes())
    found = {"states": episode.observations[1:], "more": episode.infos.get("more", [])[1:]}
    found |= {"actions": episode.actions, "rewards": episode.rewards, "terminated": episode.infos.get("terminated")}
    shape = found[name].shape
    assert shape[-len(size) :] == size


@pytest.mark.parametrize(
    "name", ["a/b", "a.b", ".", "..", "", "a\0b", "%", "%2F", "observations", "infos", "é😀", "id"]
)
def test_tensors_of_any_name_come_back(tmp_path, name):
    """Names that HDF5 would take for a path, or Minari for its own, are kept as well."""
    _saved(_with(without={"log_prob"}, **{name: np.full((6, 2, 2), 7.0), "a": np.ones((6, 2, 1))}), tmp_path)


def _episode(data, steps=3, number=0):
    group = data.create_group(f"episode_{number}")
    group["rewards"], group["actions"] = np.zeros(steps), np.zeros(steps)
    group["terminations"], group["truncations"] = np.zeros(steps, bool), np.zeros(steps, bool)
    group["observations"] = np.zeros((steps + 1, 8), np.uint8)
    return group


def _external(group, secret):
    group.create_dataset("observations", (4, 8), "u1", external=[(str(secret), 0, 32)])


def _virtual(group, secret):
    layout = h5py.VirtualLayout((4, 8), "u1")
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "x", (4, 8))
    group.create_virtual_dataset("observations", layout)


def _linked(group, secret):
    group["observations"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/x")


def _soft(group, _secret):
    group["observations"] = h5py.SoftLink("/episode_0/actions")


def _looped(group, _secret):
    node = group.create_group("observations")
    node["itself"] = node


def _doubled(group, _secret):
    node = group.create_group("observations")
    for _ in range(64):
        inner = node.create_group("a")
        node["b"] = inner
        node = inner


def _declared(group, _secret):
    group.create_dataset("observations", (2**40, 8), "f4", chunks=(1024, 8))


def _declared_of_right_length(group, _secret):
    group.create_dataset("observations", (4, 2**40), "f4", chunks=(1, 1024))


def _short(group, _secret):
    group["observations"] = np.zeros((3, 8))


def _text(group, _secret):
    group["observations"] = np.array([b"a", b"b", b"c", b"d"])


def _scalar(group, _secret):
    group["observations"] = 5.0


def _named_type(group, _secret):
    group["observations"] = np.dtype("f4")


def _absent(_group, _secret):
    pass


_HOSTILE = [_external, _virtual, _linked, _soft, _looped, _doubled, _declared, _declared_of_right_length, _short,
            _text, _scalar, _named_type, _absent]  # fmt: skip


@pytest.mark.parametrize("make", _HOSTILE, ids=lambda make: make.__name__.strip("_"))
def test_a_hostile_dataset_is_refused(tmp_path, make):
    """What would bring in other files, or asks for more than there is, raises CorruptMemory, naming file and part."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"TOP SECRET 0123456789 0123456789 ")
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["x"] = np.frombuffer(secret.read_bytes()[:32], np.uint8).reshape(4, 8)
    path = _foreign_dataset(tmp_path, lambda data: _replaced(data, "observations", make, secret))
    with pytest.raises(CorruptMemory, match=r"main_data\.hdf5` is damaged: .*observations"):
        read_memory(path)


def _replaced(data, name, make, secret):
    group = _episode(data)
    del group[name]
    make(group, secret)


def _foreign_dataset(tmp_path, fill):
    path = tmp_path / "foreign.minari"
    path.mkdir()
    with h5py.File(path / "main_data.hdf5", "w") as data:
        fill(data)
    (path / "metadata.json").write_text("{}")
    return path


@pytest.mark.parametrize("name", ["rewards", "actions", "terminations", "truncations"])
@pytest.mark.parametrize("make", ["a group", "too short", "absent"])
def test_a_foreign_episode_with_a_wrong_part_is_refused(tmp_path, name, make):
    """Groups where values belong, and values of another number than steps, raise CorruptMemory, naming the part."""

    def damage(data):
        group = _episode(data)
        del group[name]
        if make == "a group":
            group.create_group(name).create_group("inner").create_group("innermost")["x"] = h5py.SoftLink("/nowhere")
        elif make == "too short":
            group[name] = np.zeros(2, bool)

    path = _foreign_dataset(tmp_path, damage)
    with pytest.raises(CorruptMemory, match=r"main_data\.hdf5` is damaged"):
        read_memory(path)


@pytest.mark.parametrize(
    ("whole", "told"),
    [(True, "is another one as well"), (False, "shares its values with others")],
    ids=["whole", "parts"],
)
def test_episodes_that_are_one_are_refused(tmp_path, whole, told):
    """A file does not grow by naming one episode, or what it holds, many times."""

    def repeat(data):
        group = _episode(data, steps=10_000)
        for number in range(1, 20):
            if whole:
                data[f"episode_{number}"] = group
                continue
            again = data.create_group(f"episode_{number}")
            again.attrs.update({**group.attrs, "id": number})
            for name, child in group.items():
                again[name] = child

    with pytest.raises(CorruptMemory, match=told):
        read_memory(_foreign_dataset(tmp_path, repeat))


def test_episodes_unlike_each_other_are_refused(tmp_path):
    """Observations of another shape make no memory; whole numbers among floats do."""

    def differ(data):
        _episode(data)
        group = _episode(data, number=1)
        del group["observations"]
        group["observations"] = np.zeros((4, 9), np.uint8)

    with pytest.raises(CorruptMemory, match="episode 1 has other observations"):
        read_memory(_foreign_dataset(tmp_path, differ))


def _forge(path, change_data=None, **header):
    """Change a dataset and make its trailer right again, as an attacker would."""
    file = path / "main_data.hdf5"
    content = file.read_bytes()
    mark, length, _ = _TRAILER.unpack(content[-_TRAILER.size :])
    document = json.loads(content[-_TRAILER.size - length : -_TRAILER.size]) | header
    document = {name: value for name, value in document.items() if value is not None}
    file.write_bytes(content[: -_TRAILER.size - length])
    if change_data:
        with h5py.File(file, "a") as data:
            change_data(data)
    text = json.dumps(document).encode()
    body = file.read_bytes() + text
    file.write_bytes(body + _TRAILER.pack(mark, len(text), zlib.crc32(body)))


@pytest.mark.parametrize(
    "header",
    [
        {"memory_index": "x"}, {"memory_index": 99}, {"num_envs": 1}, {"memory_size": 7}, {"filled": False},
        {"num_envs": -2}, {"tensors": {}, "format_version": 9}, {"tensors": []}, {"metadata": {"what": 1}},
        {"tensors": {"states": {"dtype": "O", "size": [3]}}}, {"tensors": {"states": {"dtype": "int8", "size": [3]}}},
        {"tensors": {"states": {"dtype": "float32", "size": [4]}}}, {"tensors": {"x": {"dtype": "f4", "size": [1]}}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_forged_document_is_refused(tmp_path, header):
    """A document that is not of these episodes raises CorruptMemory, though its digest is right."""
    path = tmp_path / "memory.minari"
    MinariExporter().save(_memory(), path)
    _forge(path, **header)
    with pytest.raises(CorruptMemory, match=r"main_data\.hdf5`"):
        read_memory(path)


@pytest.mark.parametrize("make", [_external, _virtual, _linked, _soft, _looped, _declared, _short, _absent],
                         ids=lambda make: make.__name__.strip("_"))  # fmt: skip
def test_forged_episodes_are_refused(tmp_path, make):
    """What a foreign dataset may not bring in, one that claims to be Keepfast's may not either."""
    path, secret = tmp_path / "memory.minari", tmp_path / "secret"
    secret.write_bytes(bytes(1000))
    MinariExporter().save(_memory(), path)

    def change(data):
        del data["episode_0/observations"]
        make(data["episode_0"], secret)

    _forge(path, change)
    with pytest.raises(CorruptMemory, match=r"main_data\.hdf5` is damaged: .*observations"):
        read_memory(path)


def test_episodes_are_cut_where_samples_do_not_follow(tmp_path):
    """A seam, as merging leaves one, ends an episode as open: what comes behind it belongs to another."""
    tensors = {
        "states": np.arange(4, dtype=np.float32).reshape(4, 1, 1),
        "actions": np.zeros((4, 1, 1), np.float32),
        "rewards": np.zeros((4, 1, 1), np.float32),
        "terminated": np.array([0, 0, 0, 1], bool).reshape(4, 1, 1),
    }
    snapshot = MemorySnapshot(tensors, 0, 0, True, {"seams": [1]})
    MinariExporter().save(snapshot, tmp_path / "m.minari")
    found = list(minari.MinariDataset(tmp_path / "m.minari").iterate_episodes())
    assert [episode.rewards.shape for episode in found] == [(2,), (2,)]
    assert [bool(episode.truncations[-1]) for episode in found] == [True, False]
    assert_same(read_memory(tmp_path / "m.minari"), snapshot)


def test_what_is_no_transition_is_in_no_episode(tmp_path):
    """Minari does not see it; Keepfast reads every sample back, bit for bit, and which of them are none."""
    plain = _memory(index=0)
    marks = np.ones((6, 2, 1), bool)
    marks[[0, 4, 5], 0] = marks[2, 1] = False
    snapshot = MemorySnapshot({**plain.tensors, "valid": marks}, 0, 0, True, plain.metadata)
    MinariExporter().save(snapshot, tmp_path / "m.minari")
    dataset = minari.MinariDataset(tmp_path / "m.minari")
    assert (dataset.total_episodes, dataset.total_steps) == (4, 8)
    expected = [[1, 2, 3], [100, 101], [103, 104], [105]]
    for episode, steps in zip(dataset.iterate_episodes(), expected, strict=True):
        np.testing.assert_array_equal(episode.rewards, np.array(steps) / 2)
        np.testing.assert_array_equal(episode.observations[:, 0], [*steps, steps[-1] + 1])
        assert episode.infos["valid"][:-1].all()
    assert [bool(episode.truncations[-1]) for episode in dataset.iterate_episodes()] == [False, True, True, True]
    read = read_memory(tmp_path / "m.minari")
    assert_same(read, snapshot)
    np.testing.assert_array_equal(read.valid, marks[..., 0])


def test_episodes_that_overlap_are_damage(tmp_path):
    """Or that leave samples out, or lie outside the memory."""
    for start in (1, -1, 5):
        path = tmp_path / f"{start}.minari"
        MinariExporter().save(_memory(), path)
        _forge(path, episodes=[[0, 0, 2, False, True, True], [0, start, 4, True, False, True]])
        with pytest.raises(CorruptMemory, match="episode 1"):
            read_memory(path)


@pytest.mark.parametrize(
    "bounds",
    [
        5,
        {"actions": 5},
        {"actions": {"type": "Discrete"}},
        {"actions": {"type": "Discrete", "n": "many", "start": 0}},
        {"actions": {"type": "Discrete", "n": 10**30, "start": 0}},
        {"actions": {"type": [], "dtype": "float32"}},
        {"actions": {"type": "Box", "dtype": "none", "shape": [1], "low": 0, "high": 1}},
        {"actions": {"type": "Box", "dtype": "int64", "shape": [7], "low": 0, "high": 1}},
        {"actions": {"type": "Box", "dtype": "int64", "shape": 1, "low": 0, "high": 1}},
        {"actions": {"type": "Box", "dtype": "int64", "shape": [1], "low": "a", "high": {}}},
        {"actions": {"type": "Box", "dtype": "int64", "shape": [-1, -1], "low": 0, "high": 1}},
        {"actions": {"type": "MultiDiscrete", "nvec": [[2], [3]], "start": [1, 2, 3]}},
    ],
)
def test_words_about_spaces_that_make_no_sense_are_passed_over(tmp_path, bounds):
    """A file may tell anything of its spaces: then the values tell."""
    plain = _memory()
    MinariExporter().save(replace(plain, metadata={"bounds": bounds}), tmp_path / "memory.minari")
    dataset = minari.MinariDataset(tmp_path / "memory.minari")
    assert type(dataset.action_space).__name__ == "Discrete"
    assert dataset.action_space.n == 4


def test_nothing_of_ours_is_in_a_dataset(tmp_path):
    """Neither h5py nor Minari meets a group, an attribute or a key that Minari would not have written."""
    plain = _memory(index=0)
    marks = np.ones((6, 2, 1), bool)
    marks[[0, 4, 5], 0] = marks[2, 1] = False
    snapshot = MemorySnapshot({**plain.tensors, "valid": marks}, 0, 0, True, plain.metadata)
    path = tmp_path / "m.minari"
    MinariExporter().save(snapshot, path)
    with h5py.File(path / "main_data.hdf5") as data:
        assert list(data) == [f"episode_{number}" for number in range(4)]
        assert {name for group in data.values() for name in group.attrs} == {"id", "total_steps"}
        assert not data.attrs.keys()
    assert not any("keepfast" in key for key in json.loads((path / "metadata.json").read_bytes()))
    assert_same(read_memory(path), snapshot)


def _update_metadata(path):
    minari.MinariDataset(path).storage.update_metadata({"description": "by others"})


def _update_episode(path):
    minari.MinariDataset(path).storage.update_episode_metadata([{"note": 1}], [0])


def _add_episode(path):
    from minari.data_collector import EpisodeBuffer

    flags = np.zeros(2, bool)
    observations = np.zeros((3, 3), np.float32)
    added = EpisodeBuffer(None, None, None, observations, np.zeros(2, np.int64), np.ones(2), flags, flags)
    minari.MinariDataset(path).storage.update_episodes([added])


@pytest.mark.parametrize("change", [_update_metadata, _update_episode, _add_episode])
def test_what_minari_changed_is_no_damage(tmp_path, change):
    """A word of the metadata leaves the memory ours; a changed episode makes it Minari's, of one environment."""
    path = tmp_path / "m.minari"
    MinariExporter().save(_memory(), path)
    change(path)
    found = read_memory(path)
    if change is _update_metadata:
        assert_same(found, _memory())
        return
    episodes = list(minari.MinariDataset(path).iterate_episodes())
    assert (found.num_envs, found.filled, found.metadata) == (1, True, {})
    assert found["rewards"][:, 0, 0].tolist() == np.concatenate([each.rewards for each in episodes]).tolist()


def test_a_dataset_without_its_end_is_told_from_a_changed_one(tmp_path):
    """Where a byte of ours is left behind the end of HDF5, or one of HDF5's is missing, it is damage."""
    path = tmp_path / "m.minari"
    MinariExporter().save(_memory(), path)
    content = (path / "main_data.hdf5").read_bytes()
    end = int.from_bytes(content[40:48], "little")
    for size in (end - 1, end + 1, end + 20, len(content) - 1):
        (path / "main_data.hdf5").write_bytes(content[:size])
        with pytest.raises(CorruptMemory):
            read_memory(path)


def test_texts_are_told_as_what_is_not_read(tmp_path):
    """Observations or actions of Text are whole, and it is Keepfast that has no tensors for them."""
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    text, number = gymnasium.spaces.Text(5), gymnasium.spaces.Discrete(3)
    both = gymnasium.spaces.Dict({"x": text, "y": number})
    for name, spaces, values in (
        ("a", (text, number), (["a", "b", "c"], np.arange(2))),
        ("b", (number, text), (np.arange(3), ["a", "b"])),
        ("c", (both, number), ({"x": ["a"] * 3, "y": np.arange(3)}, np.arange(2))),
    ):
        (tmp_path / name).mkdir()
        storage = MinariStorage.new(tmp_path / name, *spaces)
        flags = np.zeros(2, bool)
        storage.update_episodes([EpisodeBuffer(0, None, None, *values, np.ones(2), flags, flags)])
        with pytest.raises(Unreadable, match="holds texts, which a memory has no tensors for"):
            read_memory(tmp_path / name)


def test_a_filter_that_is_not_installed_is_no_damage(tmp_path, monkeypatch):
    """Values that a plugin of HDF5 has compressed are told as what is not read without it."""

    def compress(data):
        group = _episode(data)
        values = group.pop("observations")[...]
        group.create_dataset("observations", data=values, compression="gzip")

    path = _foreign_dataset(tmp_path, compress)
    assert read_memory(path).filled
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    with pytest.raises(Unreadable, match="a filter that is not installed, number 1 of HDF5's"):
        read_memory(path)


def test_a_dataset_of_the_layout_before_is_read(tmp_path):
    """Whose episodes told of themselves in attributes; its metadata are ours alone, whatever another tool did."""
    path = tmp_path / "m.minari"
    MinariExporter().save(_memory(), path)
    table = [(0, 0, 2, False), (0, 2, 4, True), (1, 0, 3, False), (1, 3, 3, True)]

    def tell(data):
        for number, (environment, start, _, is_open) in enumerate(table):
            told = {"keepfast_environment": environment, "keepfast_start": start, "keepfast_open": is_open}
            data[f"episode_{number}"].attrs.update(told)

    _forge(path, tell, episodes=None)
    assert_same(read_memory(path), _memory())
    _update_metadata(path)
    with pytest.raises(CorruptMemory, match=r"metadata\.json` is damaged"):
        read_memory(path)
