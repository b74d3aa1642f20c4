"""The contract of memory formats."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.codec import dtype_of
from keepfast.errors import CorruptMemory, NotFound
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.testing.damage import Damaged, flips, truncations, zeroed_blocks

_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64")


def assert_same(actual: MemorySnapshot, expected: MemorySnapshot) -> None:
    """Assert that two snapshots are equal bit for bit, their metadata included."""
    assert list(actual.tensors) == list(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].dtype == tensor.dtype, name
        assert actual.tensors[name].shape == tensor.shape, name
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name
    assert actual.ring == expected.ring
    assert actual.metadata == expected.metadata


class MemoryExporterContract(abc.ABC):
    """Proves a memory format; inherit it, name the class ``Test...``, and give the fixture `exporter`.

    Example::

        class TestNpz(keepfast.testing.MemoryExporterContract):
            @pytest.fixture
            def exporter(self):
                return PickleFreeNpz()
    """

    @pytest.fixture
    @abc.abstractmethod
    def exporter(self) -> MemoryExporter:
        """Return the format to prove."""

    dtypes: tuple[str, ...] = DTYPES
    """The dtypes that the format keeps."""

    def payload(self, path: Path) -> Path:
        """Return the file to damage, of a format that writes several."""
        return path

    def snapshot(self, memory_index: int = 3, env_index: int = 0, *, filled: bool = True) -> MemorySnapshot:
        """Return a memory of every dtype, with random bits in each value that was written."""
        generator = np.random.default_rng(5)
        ring = Ring(64, 2, memory_index, env_index, filled)
        tensors = {}
        for position, name in enumerate(self.dtypes):
            size = [(3,), (2, 2), (1,)][position % 3]
            tensors[name] = _random_tensor(generator, (64, 2, *size), dtype_of(name), len(ring))
        metadata = {
            "agent": "PPO",
            "time": "2022-01-09T22:48:49+00:00",
            "keep_dimensions": dict.fromkeys(tensors, True),
        }
        return MemorySnapshot(tensors, *ring.position, metadata)

    def test_every_dtype_and_shape_comes_back_bit_for_bit(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """Every dtype and shape comes back bit for bit, NaN payloads and negative zeros included."""
        path = tmp_path / f"memory{exporter.extension}"
        files = exporter.save(self.snapshot(), path), sum(file.stat().st_size for file in _files(path))
        assert files[0] == files[1]
        assert_same(exporter.load(path), self.snapshot())

    @pytest.mark.parametrize(("memory_index", "env_index"), [(0, 0), (5, 0), (5, 1)])
    def test_a_memory_that_is_not_full_comes_back(
        self, exporter: MemoryExporter, tmp_path: Path, memory_index: int, env_index: int
    ) -> None:
        """A memory that is empty or half full comes back with its position, its unwritten samples as zeros."""
        path = tmp_path / f"memory{exporter.extension}"
        written = self.snapshot(memory_index, env_index, filled=False)
        exporter.save(written, path)
        assert_same(exporter.load(path), written)

    def test_tensors_without_numbers_come_back(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """A tensor whose samples have no number comes back with its dtype and shape."""
        plain = self.snapshot()
        tensors = {**plain.tensors, "nothing": np.zeros((64, 2, 0, 3), np.float32)}
        written = MemorySnapshot(tensors, plain.memory_index, plain.env_index, plain.filled, plain.metadata)
        exporter.save(written, tmp_path / f"memory{exporter.extension}")
        assert_same(exporter.load(tmp_path / f"memory{exporter.extension}"), written)

    def test_what_was_saved_is_removed(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """`remove` leaves nothing of what `save` wrote; removing what is not there is fine."""
        path = tmp_path / f"memory{exporter.extension}"
        exporter.save(self.snapshot(), path)
        exporter.remove(path)
        exporter.remove(path)
        assert not list(tmp_path.iterdir())

    def test_writing_changes_no_array(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """Writing a snapshot leaves its arrays as they were, and works on read-only ones."""
        snapshot = self.snapshot()
        for tensor in snapshot.tensors.values():
            tensor.flags.writeable = False
        exporter.save(snapshot, tmp_path / f"memory{exporter.extension}")
        assert_same(snapshot, self.snapshot())

    def test_arrays_scattered_in_memory_are_written(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """A tensor that does not lie in C order is written like one that does."""
        plain = self.snapshot()
        scattered = {name: np.asfortranarray(tensor) for name, tensor in plain.tensors.items()}
        path = tmp_path / f"memory{exporter.extension}"
        exporter.save(MemorySnapshot(scattered, *plain.ring.position, plain.metadata), path)
        assert_same(exporter.load(path), plain)

    @pytest.mark.parametrize("damage", [flips, zeroed_blocks, truncations])
    def test_no_damage_goes_unnoticed(
        self, exporter: MemoryExporter, tmp_path: Path, damage: Callable[[bytes, int], Iterator[Damaged]]
    ) -> None:
        """A flipped bit, a zeroed block or a truncation anywhere raises CorruptMemory, which names the file."""
        path = tmp_path / f"memory{exporter.extension}"
        exporter.save(self.snapshot(), path)
        payload = self.payload(path)
        intact = payload.read_bytes()
        count = len(intact) // 4096 if damage is zeroed_blocks else 60
        for what, damaged in damage(intact, count):
            payload.write_bytes(damaged)
            try:
                exporter.load(path)
            except CorruptMemory as error:
                assert str(path) in str(error), what  # noqa: PT017  (what was done is worth telling)
                continue
            pytest.fail(f"unnoticed: {what}")

    def test_a_missing_file_is_reported_as_such(self, exporter: MemoryExporter, tmp_path: Path) -> None:
        """Loading a file that is not there raises what opening it raises."""
        with pytest.raises((FileNotFoundError, NotFound)):
            exporter.load(tmp_path / f"absent{exporter.extension}")


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _random_tensor(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], written: int
) -> NDArray[Any]:
    flat = np.zeros((shape[0] * shape[1], *shape[2:]), dtype)
    count = flat[:written].size
    bits = generator.integers(0, 256, count * dtype.itemsize, np.uint8)
    values = (bits % 2).astype(bool) if dtype == np.dtype(bool) else bits.view(dtype)
    flat[:written] = values[:count].reshape(flat[:written].shape)
    return flat.reshape(shape)
