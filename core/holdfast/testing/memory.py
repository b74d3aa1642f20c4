"""The contract of memories, files included, whatever the framework."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from holdfast.errors import (
    DirectoryError,
    HoldfastWarning,
    InvalidValue,
    LoadMismatch,
    NotFound,
    UnknownPlugin,
    UsageError,
)
from holdfast.memory_files import iter_memories, read_memory
from holdfast.memory_live import Memory
from holdfast.testing.memory_buffer import MemoryBufferContract
from holdfast.testing.memory_exporter import assert_same


class MemoryContract(MemoryBufferContract):
    """Proves the `RandomMemory` of a framework; inherit it, name the class ``Test...``, and give the two fixtures."""

    @pytest.mark.parametrize("memory_format", ["pt", "np", "npz", "csv"])
    def test_each_filling_cycle_is_exported(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, memory_format: str
    ) -> None:
        """Each filling cycle gives a file of its own with what was in the memory before it is overwritten."""
        memory = make(3, 2, export=True, export_format=memory_format, export_directory=str(tmp_path / "memory"))
        self.counting(memory, array, 7)
        memory.close()
        memory.close()
        read = list(iter_memories(tmp_path / "memory" / "*"))
        assert [snapshot.tensors["steps"][:, 0, 0].tolist() for _, snapshot in read] == [[0, 100, 200], [300, 400, 500]]
        extension = {"np": ".npz"}.get(memory_format, f".{memory_format}")
        assert all(path.name.endswith(extension) and "_memory_" in path.name for path, _ in read)

    @pytest.mark.parametrize("memory_format", ["pt", "np", "csv"])
    def test_what_is_saved_comes_back(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, memory_format: str
    ) -> None:
        """A half-filled memory is saved and loaded into one with the same tensors, or with none."""
        memory = make(5, 2)
        self.counting(memory, array, 3)
        path = memory.save(str(tmp_path), format=memory_format)
        for other in (make(5, 2), make(5, 2)):
            other.load(path)
            other.load(path)
            assert_same(_without_time(other), _without_time(memory))
            assert len(other) == 6
            other.add_samples(steps=array(np.array([[7], [8]], np.int32)))
            assert other.memory_index == 4

    def test_no_file_is_overwritten(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """Every save gives a new file, however fast they follow one another."""
        memory = make(2)
        self.counting(memory, array, 1)
        assert len({memory.save(tmp_path) for _ in range(20)}) == 20
        assert len(list(tmp_path.iterdir())) == 20

    def test_the_newest_cycles_are_kept(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """`export_keep` limits the files of this memory, and touches no other."""
        (tmp_path / "other_memory_1.pt").write_text("not ours")
        memory = make(2, export=True, export_directory=tmp_path, export_keep=2)
        self.counting(memory, array, 10)
        memory.close()
        assert (tmp_path / "other_memory_1.pt").exists()
        (tmp_path / "other_memory_1.pt").unlink()
        read = [snapshot.tensors["steps"][:, 0, 0].tolist() for _, snapshot in iter_memories(tmp_path / "*")]
        assert read == [[600, 700], [800, 900]]

    def test_a_memory_that_fills_again_waits_for_its_file(
        self,
        make: Callable[..., Memory],
        array: Callable[[NDArray[Any]], Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """While one file is being written training goes on; only the next full memory waits, and nothing is lost."""
        may_write, filled_again, real = threading.Event(), threading.Event(), os.replace

        def slow(*paths: Any) -> None:
            assert may_write.wait(60)
            real(*paths)

        monkeypatch.setattr(os, "replace", slow)
        memory = make(2, export=True, export_directory=tmp_path)
        self.counting(memory, array, 3)

        def train() -> None:
            self.counting(memory, array, 1, first=3)
            filled_again.set()

        trainer = threading.Thread(target=train)
        trainer.start()
        assert not filled_again.wait(0.3)
        may_write.set()
        trainer.join()
        memory.close()
        read = [s.tensors["steps"][:, 0, 0].tolist() for _, s in iter_memories(tmp_path / "*")]
        assert read == [[0, 100], [200, 300]]

    def test_a_failing_disk_does_not_end_training(
        self,
        make: Callable[..., Memory],
        array: Callable[[NDArray[Any]], Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An export that cannot be written warns once, counts, and tells the tally at close; the next ones succeed."""
        memory = make(2, export=True, export_directory=tmp_path)
        real, refused = os.replace, OSError(errno.ENOSPC, "No space left on device")

        def fail(*_: object) -> None:
            raise refused

        monkeypatch.setattr(os, "replace", fail)
        self.counting(memory, array, 2)
        with pytest.warns(HoldfastWarning, match=r"was not exported: cannot write .*No space left"):
            memory.wait()
        self.counting(memory, array, 2, first=2)
        memory.wait()
        monkeypatch.setattr(os, "replace", real)
        self.counting(memory, array, 2, first=4)
        with pytest.warns(HoldfastWarning, match=r"2 of 3 memory exports to .* failed"):
            memory.close()
        assert [s.tensors["steps"][:, 0, 0].tolist() for _, s in iter_memories(tmp_path / "*")] == [[400, 500]]

    def test_wrong_arguments_are_refused_at_construction(self, make: Callable[..., Memory], tmp_path: Path) -> None:
        """An unknown format, a directory that cannot be, and sizes that are none are refused at once."""
        with pytest.raises(UnknownPlugin, match=r"unknown memory format `cvs`.*Did you mean `csv`"):
            make(2, export_format="cvs")
        (tmp_path / "file").touch()
        with pytest.raises(DirectoryError, match="cannot be exported to"):
            make(2, export=True, export_directory=tmp_path / "file" / "memory")
        for wrong in ({"memory_size": 0}, {"memory_size": 2, "num_envs": -1}, {"memory_size": 2.5}):
            with pytest.raises(InvalidValue, match="allowed: a whole number"):
                make(**wrong)
        with pytest.raises(InvalidValue, match="export_keep"):
            make(2, export_keep=0)

    def test_saving_nothing_is_refused(self, make: Callable[..., Memory], tmp_path: Path) -> None:
        """A memory without tensors raises UsageError instead of writing an empty file."""
        with pytest.raises(UsageError, match="no tensors"):
            make(2).save(tmp_path)

    @pytest.mark.parametrize(
        ("fit", "expected"), [("newest", [[400], [500], [600]]), ("oldest", [[200], [300], [400]])]
    )
    def test_a_larger_file_is_cut_to_fit(
        self,
        make: Callable[..., Memory],
        array: Callable[[NDArray[Any]], Any],
        tmp_path: Path,
        fit: str,
        expected: list[list[int]],
    ) -> None:
        """A file of a larger memory gives its newest or oldest rows, in order, where that is asked for."""
        memory = make(5)
        self.counting(memory, array, 7)
        path, smaller = memory.save(tmp_path), make(3)
        self.counting(smaller, array, 1)
        with pytest.raises(LoadMismatch, match=r"it has .* = \(3, 1\), and the file has \(5, 1\)"):
            smaller.load(path)
        assert len(smaller) == 1
        smaller.load(path, fit=fit)  # type: ignore[arg-type]
        assert self.steps(smaller) == expected
        assert (smaller.memory_index, smaller.filled) == (0, True)

    def test_a_smaller_file_leaves_room(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """A file of a smaller memory is laid out from the first row on, oldest first, and the rest stays free."""
        memory, larger = make(3, 2), make(6, 2)
        self.counting(memory, array, 4)
        larger.load(memory.save(tmp_path), fit="newest")
        assert (larger.memory_index, larger.filled, len(larger)) == (3, False, 6)
        assert self.steps(larger)[:3] == [[100, 101], [200, 201], [300, 301]]

    def test_another_number_of_environments_keeps_what_belongs_together(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """With another number of environments, the samples of one stay together and in order."""
        memory, one, three = make(3, 2), make(8, 1), make(2, 3)
        self.counting(memory, array, 3)
        path = memory.save(tmp_path)
        one.load(path, fit="newest")
        assert np.asarray(one.sample_all(["steps"])[0][0])[:, 0].tolist() == [0, 100, 200, 1, 101, 201]
        three.load(path, fit="oldest")
        assert (self.steps(three), three.filled) == ([[0, 200, 101], [100, 1, 201]], True)

    def test_a_file_that_does_not_fit_leaves_the_memory_unchanged(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """Every difference in names, sizes and dtypes is listed, and the memory stays as it was."""
        memory, other = make(3), make(3)
        self.counting(memory, array, 2)
        other.create_tensor("states", size=4)
        other.create_tensor("steps", size=1, dtype="bool")
        other.create_tensor("rewards", size=1)
        with pytest.raises(LoadMismatch, match="unchanged") as raised:
            other.load(memory.save(tmp_path))
        assert "`rewards` is missing in the file" in str(raised.value)
        assert "`states` has the size (3,) in the file and (4,) in the memory" in str(raised.value)
        assert "`steps` has the dtype int32 in the file and bool in the memory" in str(raised.value)
        assert len(other) == 0

    def test_what_is_no_memory_file_is_refused(self, make: Callable[..., Memory], tmp_path: Path) -> None:
        """A file that is missing, a directory, and an extension that no format has, each raise a clear error."""
        with pytest.raises(NotFound, match="no memory file"):
            make(2).load(tmp_path / "absent.pt")
        (tmp_path / "directory.pt").mkdir()
        with pytest.raises(InvalidValue, match="is a directory"):
            make(2).load(tmp_path / "directory.pt")
        (tmp_path / "memory.mat").touch()
        with pytest.raises(InvalidValue, match="extension of no memory format"):
            make(2).load(tmp_path / "memory.mat")

    def test_a_memory_is_a_module(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """What `state_dict` returns restores another memory, and stays as it was when the first goes on."""
        memory, other = make(4, 2), make(4, 2)
        self.counting(memory, array, 3)
        state = memory.state_dict()
        other.load_state_dict(state)
        assert_same(_without_time(other), _without_time(memory))
        with pytest.raises(LoadMismatch, match="memory_size"):
            make(5, 2).load_state_dict(state)

    def test_files_tell_where_they_come_from(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """A file tells the framework, the time, the versions, and what its owner added."""
        memory = make(2)
        memory.metadata["agent"] = "PPO"
        self.counting(memory, array, 1)
        metadata = read_memory(memory.save(tmp_path)).metadata
        assert metadata["agent"] == "PPO"
        assert metadata["backend"] == memory.backend
        assert {"holdfast", "numpy", memory.backend} <= set(metadata["versions"])
        assert "time" in metadata


def _without_time(memory: Memory) -> Any:
    snapshot = memory.snapshot()
    return type(snapshot)(
        snapshot.tensors,
        snapshot.memory_index,
        snapshot.env_index,
        snapshot.filled,
        {"keep_dimensions": snapshot.metadata["keep_dimensions"]},
    )
