"""The contract of checkpoint formats."""

from __future__ import annotations

import abc
import math
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast._system.disk.directories import files_of, size_of
from keepfast.codec import dtype_of
from keepfast.errors import CorruptCheckpoint
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.testing.damage import Damaged, flips, truncations, zeroed_blocks
from keepfast.tree import Tree, versions_of, with_versions

DTYPES = (
    "bool",
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_EXTENSION_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (0,), (0, 3), (3, 0, 2), (3, 4), (2, 3, 4, 5))
_TREES: dict[str, Tree] = {
    "empty": {},
    "dict": {"a": 1, "b": {"c": 2, "d": {}}},
    "keys that are no strings": {0: "zero", 1: {2: "two"}, "0": "text", None: 3, (1, "a"): 4, 2.5: 5},
    "keys that are booleans": {True: 1, False: 0},
    "keys with dots": {"a.b": np.ones(2), "a": {"b": np.zeros(3)}},
    "OrderedDict": OrderedDict(z=1, a=2),
    "a state dict with versions": with_versions(OrderedDict(weight=np.ones(2)), {"": {"version": 2}, "0": {}}),
    "Counter": Counter(a=2, b=0),
    "list": [1, [2, []], [[3.5]]],
    "tuple": (1, (), ("a", (2,))),
    "set": {"members": {1, 2, 3}, "none": set()},
    "None and booleans": {"none": None, "true": True, "false": False},
    "integers": [0, -1, 255, 2**31, -(2**31), 2**63, -(2**63), 2**64, 2**128 - 1],
    "floats": [0.0, -0.0, 1e-308, 5e-324, math.pi, math.inf, -math.inf],
    "complex": [1 + 2j, complex(-0.0, math.inf)],
    "strings": ["", "text", "ünïcödé 🎲", "a\0b", '"quoted"\n', "x" * 100_000],
    "bytes": [b"", b"\0\xff", bytes(range(256))],
    "optimizer": {
        "state": {0: {"step": np.array(3.0, np.float32), "exp_avg": np.ones((2, 3), np.float32)}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None, "params": [0]}],
    },
}


def random_array(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    """Return an array of random bits, NaNs of every kind among them."""
    count = math.prod(shape)
    if dtype == np.dtype(bool):
        return np.random.default_rng(seed).integers(0, 2, count).astype(bool).reshape(shape)
    bits = np.random.default_rng(seed).integers(1, 256, count * dtype.itemsize, np.uint8)
    return bits.view(dtype).reshape(shape)


def assert_same(actual: Tree, expected: Tree, path: str = "state") -> None:
    """Assert that two trees have the same containers, keys in the same order, and leaves, arrays bit for bit."""
    if isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray), path
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), path
        assert actual.tobytes() == expected.tobytes(), path
        return
    assert type(actual) is type(expected), path
    assert versions_of(actual) == versions_of(expected), path
    if isinstance(expected, dict):
        assert list(actual) == list(expected), path
        assert [type(key) for key in actual] == [type(key) for key in expected], path
        for key, child in expected.items():
            assert_same(actual[key], child, f"{path}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), path
        for index, child in enumerate(expected):
            assert_same(actual[index], child, f"{path}.{index}")
    elif isinstance(expected, set):
        assert actual == expected, path
    else:
        assert repr(actual) == repr(expected), path  # tells -0.0 from 0.0, which == does not


class CheckpointStoreContract(abc.ABC):
    """Proves a checkpoint format; inherit it, name the class ``Test...``, and give the fixture `store`.

    Of a format whose checkpoints are directories, every file in them is damaged.

    Example::

        class TestMyFormat(keepfast.testing.CheckpointStoreContract):
            @pytest.fixture
            def store(self):
                return MyStore()
    """

    dtypes: tuple[str, ...] = DTYPES + _EXTENSION_DTYPES
    """The dtypes that the format keeps; those of `ml_dtypes` are skipped where that is not installed."""

    plain_arrays: bool = True
    """Whether the bytes of an array stand in a file as they are; only then can damage to them be told by its path."""

    damages: int = 60
    """How often a checkpoint is damaged in each way."""

    @pytest.fixture
    @abc.abstractmethod
    def store(self) -> CheckpointStore:
        """Return the format to prove."""

    @pytest.fixture
    def path(self, store: CheckpointStore, tmp_path: Path) -> Path:
        """Return where a checkpoint goes, with nothing there yet."""
        return tmp_path / f"agent_1000{store.extension}"

    def state(self, rows: int = 64) -> dict[str, Tree]:
        """Return modules with arrays of random bytes, none of them zero, `rows` times two kilobytes of them."""
        weight = random_array(np.dtype(np.float32), (rows, 256), seed=1)
        moments = random_array(np.dtype(np.float32), (rows, 256), seed=2)
        return {
            "policy": {"weight": weight},
            "optimizer": {"state": {0: {"exp_avg": moments}}, "groups": [{"lr": 0.1}]},
        }

    def test_its_extension_is_that_of_a_file(self, store: CheckpointStore) -> None:
        """The extension begins with a dot and fits a file name."""
        assert store.extension == Path(f"agent{store.extension}").suffix != ""

    @pytest.mark.parametrize("name", _TREES)
    def test_every_container_and_leaf_comes_back(self, store: CheckpointStore, path: Path, name: str) -> None:
        """Containers, keys and leaves come back with their types, as a module and as a state of their own."""
        state = {"module": _TREES[name]}
        store.check(state)
        assert store.save(Checkpoint(state), path) == size_of(path)
        assert_same(store.load(path).state, state)
        store.save(Checkpoint(_TREES[name], {"module": "policy"}), path)
        assert_same(store.load(path).state, _TREES[name])

    @pytest.mark.parametrize("shape", _SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES + _EXTENSION_DTYPES)
    def test_every_array_comes_back_bit_for_bit(
        self, store: CheckpointStore, path: Path, dtype: str, shape: tuple[int, ...]
    ) -> None:
        """Arrays of every dtype and shape come back bit for bit, NaN payloads included."""
        if dtype not in self.dtypes:
            pytest.skip(f"the format does not keep {dtype}")
        if dtype in _EXTENSION_DTYPES:
            pytest.importorskip("ml_dtypes")
        state = {"policy": {"before": 1, "array": random_array(dtype_of(dtype), shape), "after": 2}}
        store.save(Checkpoint(state), path)
        assert_same(store.load(path).state, state)

    def test_an_array_alone_is_a_state(self, store: CheckpointStore, path: Path) -> None:
        """The state of a module that is nothing but an array comes back."""
        array = np.arange(6.0).reshape(2, 3)
        store.save(Checkpoint(array, {"module": "log_std"}), path)
        assert_same(store.load(path).modules, {"log_std": array})

    def test_scattered_arrays_come_back(self, store: CheckpointStore, path: Path) -> None:
        """Arrays that lie in memory in any way (transposed, strided, reversed, broadcast) come back as their values."""
        base = random_array(np.dtype(np.float32), (6, 8))
        views = {
            "transposed": base.T,
            "strided": base[::2, 1::3],
            "reversed": base[::-1],
            "broadcast": np.broadcast_to(base[0], (4, 8)),
            "fortran": np.asfortranarray(base),
            "tail": base[3:],
        }
        store.save(Checkpoint({"views": views, "base": base}), path)
        loaded = store.load(path).state
        assert_same(loaded, {"views": views, "base": base})

    def test_numpy_scalars_and_foreign_byte_orders_come_back_as_plain_arrays(
        self, store: CheckpointStore, path: Path
    ) -> None:
        """A NumPy scalar comes back as an array of no dimensions, and foreign bytes in the machine's order."""
        swapped = np.arange(5, dtype=np.dtype(np.float32).newbyteorder())
        store.save(Checkpoint({"m": {"scalar": np.float32(1.5), "swapped": swapped}}), path)
        expected = {"scalar": np.array(1.5, np.float32), "swapped": np.arange(5, dtype=np.float32)}
        assert_same(store.load(path).state, {"m": expected})

    def test_keys_and_members_that_are_numpy_numbers_become_plain(self, store: CheckpointStore, path: Path) -> None:
        """NumPy's numbers as keys of a dict or members of a set come back as Python's."""
        store.save(Checkpoint({"m": {"keys": {np.int64(3): 1}, "set": {np.int32(4), "a"}}}), path)
        assert_same(store.load(path).state, {"m": {"keys": {3: 1}, "set": {4, "a"}}})

    def test_metadata_travels_beside_the_state(self, store: CheckpointStore, path: Path) -> None:
        """Metadata comes back with arrays, tuples and non-finite numbers in it, and adds nothing to the state."""
        metadata = {
            "timestep": 1000,
            "best": -math.inf,
            "resume": {"random": (3, (1, 2), None), "keys": np.arange(4, dtype=np.uint32)},
        }
        store.save(Checkpoint(self.state(1), metadata), path)
        loaded = store.load(path)
        assert_same(loaded.metadata, metadata, "metadata")
        assert_same(loaded.state, self.state(1))

    def test_many_entries_and_large_ones_come_back(self, store: CheckpointStore, path: Path) -> None:
        """Two thousand arrays, and one of eight megabytes, come back."""
        many = {f"layer_{index}": random_array(np.dtype(np.float32), (3,), seed=index) for index in range(2000)}
        state = {"many": many, "large": random_array(np.dtype(np.float32), (1024, 2048))}
        store.save(Checkpoint(state), path)
        assert_same(store.load(path).state, state)

    def test_writing_leaves_the_state_alone(self, store: CheckpointStore, path: Path) -> None:
        """Writing works on read-only arrays, changes none, and keeps none: the file has what was there then."""
        state = self.state()
        for array in (state["policy"]["weight"], state["optimizer"]["state"][0]["exp_avg"]):
            array.flags.writeable = False
        store.save(Checkpoint(state), path)
        assert_same(state, self.state())
        state["policy"]["weight"] = None
        assert_same(store.load(path).state, self.state())

    def test_what_is_read_is_the_callers_own(self, store: CheckpointStore, path: Path) -> None:
        """Arrays that were read are writable, and changing them reaches neither the file nor another reader."""
        store.save(Checkpoint(self.state()), path)
        store.load(path).state["policy"]["weight"][...] = 0
        assert_same(store.load(path).state, self.state())

    def test_what_cannot_be_stored_is_named(self, store: CheckpointStore, path: Path) -> None:
        """A leaf of a kind that no file can hold raises TypeError with its path; the file that was there stays."""
        store.save(Checkpoint(self.state()), path)
        for leaf in (object(), np.array([object()]), len):
            for checkpoint in (
                Checkpoint({"policy": {"inner": [leaf]}}),
                Checkpoint({}, {"policy": {"inner": [leaf]}}),
            ):
                with pytest.raises(TypeError, match=r"policy\.inner\.0"):
                    store.save(checkpoint, path)
        assert_same(store.load(path).state, self.state())
        assert list(path.parent.iterdir()) == [path]

    def test_overwriting_replaces_the_whole_file(self, store: CheckpointStore, path: Path) -> None:
        """A smaller checkpoint over a larger one, and the other way round, leaves nothing of the former."""
        for rows in (64, 1, 32):
            store.save(Checkpoint(self.state(rows), {"timestep": rows}), path)
            assert_same(store.load(path).state, self.state(rows))
            assert store.load(path).metadata == {"timestep": rows}

    def test_readers_do_not_disturb_each_other(self, store: CheckpointStore, path: Path) -> None:
        """Eight threads read one file through one store at once, and all get what was written."""
        store.save(Checkpoint(self.state()), path)
        with ThreadPoolExecutor(8) as readers:
            for loaded in readers.map(store.load, [path] * 32):
                assert_same(loaded.state, self.state())

    def test_no_flipped_bit_goes_unnoticed(self, store: CheckpointStore, path: Path, record_property: Any) -> None:
        """A flipped bit anywhere in the file raises CorruptCheckpoint, which names the file."""
        self._assert_all_noticed(store, path, self._damaged(store, path, flips), record_property)

    def test_no_zeroed_block_goes_unnoticed(self, store: CheckpointStore, path: Path, record_property: Any) -> None:
        """Four kilobytes of zeros, as a disk leaves them, raise CorruptCheckpoint."""
        self._assert_all_noticed(store, path, self._damaged(store, path, zeroed_blocks), record_property)

    def test_no_truncation_goes_unnoticed(self, store: CheckpointStore, path: Path, record_property: Any) -> None:
        """A file cut anywhere raises CorruptCheckpoint."""
        self._assert_all_noticed(store, path, self._damaged(store, path, truncations), record_property)

    def test_no_byte_is_unprotected(self, store: CheckpointStore, path: Path, record_property: Any) -> None:
        """In a small file, a change of any byte whatever, a loss of many a tail, and an addition are noticed."""
        store.save(Checkpoint({"policy": {"weight": np.ones(3)}, "n": (1, None)}, {"timestep": 1}), path)
        for file in files_of(path):
            intact = file.read_bytes()
            changed = [(f"byte {place}", _with_byte(intact, place)) for place in range(len(intact))]
            cut = [(f"{length} bytes", intact[:length]) for length in range(0, len(intact), 7)]
            added = [("a byte more", intact + b"\0"), ("twice", intact + intact)]
            damaged = [(file, damage) for damage in [*changed, *cut, *added]]
            self._assert_all_noticed(store, path, damaged, record_property)

    def test_no_lost_file_goes_unnoticed(self, store: CheckpointStore, path: Path) -> None:
        """Whichever file is gone, of those that make a checkpoint, an error says that something is missing."""
        self._save_large(store, path)
        for file in files_of(path):
            lost = file.rename(path.with_name("lost"))
            with pytest.raises((CorruptCheckpoint, FileNotFoundError)):
                store.load(path)
            lost.rename(file)
        assert_same(store.load(path).state, self.state(128))

    def test_the_damaged_entry_is_named(self, store: CheckpointStore, path: Path) -> None:
        """Damage among the bytes of an array is reported with that array's path, or where they are not told apart."""
        self._save_large(store, path)
        array = self.state(128)["optimizer"]["state"][0]["exp_avg"].tobytes() if self.plain_arrays else b""
        holding = [file for file in files_of(path) if array in file.read_bytes()]
        assert holding, "no file has the bytes of the array; a format that changes them says `plain_arrays = False`"
        intact = holding[0].read_bytes()
        holding[0].write_bytes(_with_byte(intact, intact.index(array) + len(array or intact) // 2))
        named = r"optimizer\.state\.0\.exp_avg" if self.plain_arrays else path.name
        with pytest.raises(CorruptCheckpoint, match=named):
            store.load(path)

    def test_a_file_that_carries_code_runs_none(self, store: CheckpointStore, path: Path, tmp_path: Path) -> None:
        """A pickle in the place of any file raises CorruptCheckpoint, and what it would call is not called."""
        witness = tmp_path / "witness"
        self._save_large(store, path)
        malice = "a pickle", pickle.dumps(_Malice(witness))
        self._assert_all_noticed(store, path, [(file, malice) for file in files_of(path)], lambda *_: None)
        assert not witness.exists()

    def test_other_files_are_no_checkpoints(self, store: CheckpointStore, path: Path) -> None:
        """An empty file, a text and random bytes raise CorruptCheckpoint; a missing file FileNotFoundError."""
        self._save_large(store, path)
        others = (b"", b"[run]\nlr = 0.1\n", random_array(np.dtype(np.uint8), (5000,)).tobytes(), bytes(5000))
        damaged = [(file, ("another file", content)) for file in files_of(path) for content in others]
        self._assert_all_noticed(store, path, damaged, lambda *_: None)
        store.remove(path)
        with pytest.raises(FileNotFoundError):
            store.load(path)

    def test_a_directory_for_a_file_or_a_file_for_a_directory_is_none(self, store: CheckpointStore, path: Path) -> None:
        """What has the name of a checkpoint but is of the other kind raises an OSError, as damage does."""
        store.save(Checkpoint(self.state(1)), path)
        was_directory = path.is_dir()
        store.remove(path)
        path.touch() if was_directory else path.mkdir()
        with pytest.raises(OSError, match=path.name):
            store.load(path)

    def test_what_was_saved_is_owned_and_removed(self, store: CheckpointStore, path: Path) -> None:
        """A format knows what it wrote, and what it may write; `remove` leaves nothing, and twice is fine."""
        assert store.owns(path)
        store.save(Checkpoint(self.state(1)), path)
        assert store.owns(path)
        assert not store.owns(path.with_suffix(".another"))
        store.remove(path)
        store.remove(path)
        assert not list(path.parent.iterdir())

    def _save_large(self, store: CheckpointStore, path: Path) -> None:
        store.save(Checkpoint(self.state(128), {"timestep": 1000}), path)

    def _damaged(
        self, store: CheckpointStore, path: Path, damage: Callable[[bytes, int], Iterable[Damaged]]
    ) -> Iterator[tuple[Path, Damaged]]:
        """Yield damages to the files of a large checkpoint, so many of all together."""
        self._save_large(store, path)
        files = files_of(path)
        for file in files:
            yield from ((file, each) for each in damage(file.read_bytes(), math.ceil(self.damages / len(files))))

    def _assert_all_noticed(
        self, store: CheckpointStore, path: Path, damaged: Iterable[tuple[Path, Damaged]], record_property: Any
    ) -> None:
        noticed, unnoticed = 0, []
        for file, (damage, content) in damaged:
            intact = file.read_bytes()
            file.write_bytes(content)
            try:
                store.load(path)
            except CorruptCheckpoint as error:
                assert str(path) in str(error)  # noqa: PT017  (in a loop, to tell every damage that went unnoticed)
                noticed += 1
            else:
                unnoticed.append(f"{file.name}: {damage}")
            file.write_bytes(intact)
        record_property("noticed", noticed)
        assert unnoticed == []
        assert noticed > 0


@final
class _Malice:
    """Would create a file if it were unpickled as `pickle` does it."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self._witness,)


def _with_byte(intact: bytes, place: int) -> bytes:
    """Return the bytes with another value at a place."""
    return intact[:place] + bytes([intact[place] ^ 0x5A]) + intact[place + 1 :]
