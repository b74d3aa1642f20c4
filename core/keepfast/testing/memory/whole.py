"""The contract of memories, files included, whatever the framework."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import (
    DirectoryError,
    InvalidValue,
    KeepfastWarning,
    NotFound,
    UnknownPlugin,
    UsageError,
)
from keepfast.memories.files import iter_memories, read_memory
from keepfast.memories.memory import Memory
from keepfast.testing.memory.additions import MemoryAdditionsContract


class MemoryContract(MemoryAdditionsContract):
    """Proves the `RandomMemory` of a framework; inherit it, name the class ``Test...``, and give the two fixtures."""

    @pytest.mark.parametrize("memory_format", ["pt", "np", "npz", "csv"])
    def test_each_filling_cycle_is_exported(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, memory_format: str
    ) -> None:
        """Each filling cycle gives a file of its own before it is overwritten; closing exports the rest."""
        memory = make(3, 2, export=True, export_format=memory_format, export_directory=str(tmp_path / "memory"))
        self.counting(memory, array, 7)
        memory.close()
        memory.close()
        read = list(iter_memories(tmp_path / "memory" / "*"))
        assert [snapshot.tensors["steps"][:, 0, 0].tolist() for _, snapshot in read] == [
            [0, 100, 200],
            [300, 400, 500],
            [600, 0, 0],
        ]
        assert [(len(snapshot), snapshot.metadata["cycle"]) for _, snapshot in read] == [(6, 1), (6, 2), (2, 3)]
        extension = {"np": ".npz"}.get(memory_format, f".{memory_format}")
        assert all(path.name.endswith(extension) and "_memory_" in path.name for path, _ in read)

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_the_last_cycle_is_exported_once(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, num_envs: int
    ) -> None:
        """What was added since the memory was last full, to the last sample; what was loaded or forgotten is old."""
        memory = make(3, num_envs, export=True, export_directory=str(tmp_path / "memory"))
        self.counting(memory, array, 3)
        memory.close()
        assert len(list(iter_memories(tmp_path / "memory" / "*"))) == 1
        memory.add_samples(states=array(np.ones(3, np.float32)), steps=array(np.array([7], np.int32)))
        memory.close()
        memory.close()
        read = [snapshot for _, snapshot in iter_memories(tmp_path / "memory" / "*")]
        assert [len(snapshot) for snapshot in read] == [3 * num_envs, 1]
        assert [snapshot.tensors["steps"].max() for snapshot in read][1] == 7
        other = make(3, num_envs, export=True, export_directory=str(tmp_path / "other"))
        other.restore(read[1])
        other.close()
        memory.reset()
        memory.close()
        plain = make(3, num_envs, export_directory=str(tmp_path / "other"))
        self.counting(plain, array, 1)
        plain.close()
        assert len(list((tmp_path / "memory").iterdir())) == 2
        assert list((tmp_path / "other").iterdir()) == []

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
        with pytest.warns(KeepfastWarning, match=r"was not exported: cannot write .*No space left"):
            memory.wait()
        self.counting(memory, array, 2, first=2)
        memory.wait()
        monkeypatch.setattr(os, "replace", real)
        self.counting(memory, array, 2, first=4)
        with pytest.warns(KeepfastWarning, match=r"2 of 3 memory exports to .* failed"):
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

    @pytest.mark.parametrize("through", ["deepcopy", "pickle"])
    def test_a_memory_can_be_copied(
        self,
        make: Callable[..., Memory],
        array: Callable[[NDArray[Any]], Any],
        through: str,
    ) -> None:
        """A copy, also one that went through pickle, holds the same samples and goes its own way."""
        memory = make(3, 2)
        self.counting(memory, array, 2)
        other = copy.deepcopy(memory) if through == "deepcopy" else pickle.loads(pickle.dumps(memory))  # noqa: S301
        assert other.device == memory.device
        self.counting(other, array, 2, first=2)
        self.counting(memory, array, 1, first=9)
        assert self.steps(other) == [[300, 301], [100, 101], [200, 201]]
        assert self.steps(memory) == [[0, 1], [100, 101], [900, 901]]

    def test_a_memory_is_freed_with_its_last_user(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """A memory may be most of what a machine has, so it does not wait for the garbage collector."""
        memory = make(3, 2)
        self.counting(memory, array, 4)
        memory.sample(["states"], 4, sequence_length=2)
        known = weakref.ref(memory), weakref.ref(memory.storage)
        gc.disable()
        try:
            del memory
            assert [each() for each in known] == [None, None]
        finally:
            gc.enable()

    def test_threads_share_a_memory(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """While one thread adds, others copy and sample; each sees samples whole, of all tensors alike."""
        memory, done = make(256, 2), threading.Event()
        memory.create_tensor("first", size=64)
        memory.create_tensor("second", size=64)
        rows = [array(np.full((2, 64), step, np.float32)) for step in range(10)]
        memory.add_samples(first=rows[0], second=rows[0])

        def add() -> None:
            while not done.is_set():
                for row in rows:
                    memory.add_samples(first=row, second=row)

        with ThreadPoolExecutor() as threads:
            adding = threads.submit(add)
            try:
                for _ in range(200):
                    tensors = memory.snapshot().tensors
                    np.testing.assert_array_equal(tensors["first"], tensors["second"])
                    ((first, second),) = memory.sample(["first", "second"], 8)
                    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
                    memory.get_tensor_by_name("first")
                    memory.state_dict()
            finally:
                done.set()
            adding.result()

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
        assert {"keepfast", "numpy", memory.backend} <= set(metadata["versions"])
        assert "time" in metadata
