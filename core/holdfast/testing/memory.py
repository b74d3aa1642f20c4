"""The contract of memories, whatever their framework."""

from __future__ import annotations

import abc
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
    ShapeMismatch,
    UnknownPlugin,
    UnknownTensor,
    UsageError,
)
from holdfast.memory_files import iter_memories, read_memory
from holdfast.memory_live import Memory
from holdfast.testing.memory_exporter import assert_same


class MemoryContract(abc.ABC):
    """Proves the `RandomMemory` of a framework; inherit it, name the class ``Test...``, and give the two fixtures."""

    @pytest.fixture
    @abc.abstractmethod
    def make(self) -> Callable[..., Memory]:
        """Return the class of the memory."""

    @pytest.fixture
    @abc.abstractmethod
    def array(self) -> Callable[[NDArray[Any]], Any]:
        """Return what makes an array of the framework from a NumPy array."""

    def counting(self, memory: Memory, array: Callable[[NDArray[Any]], Any], steps: int, first: int = 0) -> None:
        """Add rows whose values say when and for which environment they were added."""
        memory.create_tensor("states", size=3)
        memory.create_tensor("steps", size=1, dtype="int32")
        for step in range(first, first + steps):
            values = step * 100 + np.arange(memory.num_envs)[:, None]
            memory.add_samples(
                states=array(values.repeat(3, 1).astype(np.float32)), steps=array(values.astype(np.int32))
            )

    def steps(self, memory: Memory) -> list[list[int]]:
        """Return the values of the tensor `steps`, of shape (memory_size, num_envs)."""
        rows: list[list[int]] = np.asarray(memory.get_tensor_by_name("steps"))[..., 0].tolist()
        return rows

    # tensors

    def test_tensors_have_the_shape_of_the_memory(self, make: Callable[..., Memory]) -> None:
        """A tensor has the shape (memory_size, num_envs, size); dimensions are flattened unless they are kept."""
        memory = make(5, 2)
        assert memory.create_tensor("flat", size=(2, 3)) is True
        assert memory.create_tensor("image", size=(2, 3), dtype="uint8", keep_dimensions=True) is True
        assert tuple(memory.get_tensor_by_name("flat").shape) == (5, 2, 6)
        assert tuple(memory.get_tensor_by_name("image").shape) == (5, 2, 2, 3)
        assert tuple(memory.get_tensor_by_name("image", keepdim=False).shape) == (10, 2, 3)
        assert memory.get_tensor_names() == ["flat", "image"]

    def test_a_tensor_begins_as_nan_or_zeros(self, make: Callable[..., Memory]) -> None:
        """What was never written is NaN in floating-point tensors, so that using it shows, and zero in others."""
        memory = make(5)
        memory.create_tensor("states", size=1)
        memory.create_tensor("actions", size=1, dtype="int32")
        assert np.isnan(np.asarray(memory.get_tensor_by_name("states"))).all()
        assert not np.asarray(memory.get_tensor_by_name("actions")).any()

    def test_creating_a_tensor_again_changes_nothing(self, make: Callable[..., Memory]) -> None:
        """A tensor that exists is not created again, and another size or dtype is an error."""
        memory = make(5)
        memory.create_tensor("states", size=3, dtype="float32")
        assert memory.create_tensor("states", size=3) is False
        with pytest.raises(ShapeMismatch, match=r"`states` exists with the size \(3,\), not \(4,\)"):
            memory.create_tensor("states", size=4)
        with pytest.raises(InvalidValue, match="dtype float32, not int32"):
            memory.create_tensor("states", size=3, dtype="int32")

    @pytest.mark.parametrize("size", ["three", 2.5, (2, -1), None])
    def test_a_size_that_is_none_is_refused(self, make: Callable[..., Memory], size: Any) -> None:
        """A size that is no number, shape or space raises InvalidValue, which tells it."""
        with pytest.raises(InvalidValue, match="size"):
            make(5).create_tensor("states", size=size)

    def test_spaces_tell_sizes(self, make: Callable[..., Memory]) -> None:
        """A Gymnasium space gives the size of its samples, and is told in exported files."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory = make(4, 2)
        memory.create_tensor("box", spaces.Box(0, 1, (2, 3)))
        memory.create_tensor("image", spaces.Box(0, 1, (2, 3)), keep_dimensions=True)
        memory.create_tensor("discrete", spaces.Discrete(5), dtype="int32")
        memory.create_tensor("both", spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(3)}))
        shapes = {name: tuple(memory.get_tensor_by_name(name).shape[2:]) for name in memory.get_tensor_names()}
        assert shapes == {"both": (3,), "box": (6,), "discrete": (1,), "image": (2, 3)}
        assert memory.snapshot().metadata["spaces"]["discrete"] == "Discrete(5)"

    def test_a_tensor_can_be_set(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """All values of a tensor are replaced at once, as returns and advantages are."""
        memory = make(4, 2)
        memory.create_tensor("returns", size=1)
        values = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
        memory.set_tensor_by_name("returns", array(values))
        np.testing.assert_array_equal(np.asarray(memory.get_tensor_by_name("returns")), values)
        with pytest.raises(ShapeMismatch, match=r"`returns` was given with the shape \(4, 1\); expected \(4, 2, 1\)"):
            memory.set_tensor_by_name("returns", array(np.zeros((4, 1), np.float32)))

    # adding

    def test_a_sample_of_each_environment_fills_a_row(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Samples of all environments go to the next row, and after the last row to the first."""
        memory = make(3, 2)
        self.counting(memory, array, 2)
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (2, 0, False, 4)
        self.counting(memory, array, 2, first=2)
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (1, 0, True, 6)
        assert self.steps(memory) == [[300, 301], [100, 101], [200, 201]]

    def test_samples_of_some_environments_follow_one_another(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Single samples, and those of fewer environments than there are, fill a row bit by bit."""
        memory = make(2, 4)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.array([0], np.int32)))
        assert (memory.memory_index, memory.env_index) == (0, 1)
        memory.add_samples(steps=array(np.array([[1], [2], [3]], np.int32)))
        assert (memory.memory_index, memory.env_index) == (1, 0)
        memory.add_samples(steps=array(np.array([[4], [5], [6]], np.int32)))
        memory.add_samples(steps=array(np.array([[7], [8]], np.int32)))
        assert (memory.memory_index, memory.env_index, memory.filled) == (0, 1, True)
        assert self.steps(memory) == [[8, 1, 2, 3], [4, 5, 6, 7]]

    def test_more_samples_than_fit_leave_the_newest(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """A memory of one environment takes any number of samples and keeps the newest."""
        memory = make(4)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.arange(3, dtype=np.int32)[:, None]))
        memory.add_samples(steps=array(np.arange(3, 14, dtype=np.int32)[:, None]))
        assert (memory.memory_index, memory.filled) == (2, True)
        assert self.steps(memory) == [[12], [13], [10], [11]]

    def test_several_rows_are_added_at_once(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """An array of shape (rows, num_envs, size) is that many rows."""
        memory = make(3, 2)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.arange(8, dtype=np.int32).reshape(4, 2, 1)))
        assert self.steps(memory) == [[6, 7], [2, 3], [4, 5]]

    def test_numpy_samples_are_copied(self, make: Callable[..., Memory]) -> None:
        """An array that its owner changes after the call, as environments do, leaves the memory as it was."""
        memory = make(50, 256)
        memory.create_tensor("states", size=256)
        reused = np.empty((256, 256), np.float32)
        for step in range(50):
            reused[:] = step
            memory.add_samples(states=reused)
            reused[:] = -1
        kept = np.asarray(memory.get_tensor_by_name("states"))
        np.testing.assert_array_equal(kept, np.broadcast_to(np.arange(50)[:, None, None], kept.shape))

    @pytest.mark.parametrize("shape", [(2, 4), (3, 3), (4, 3), (3, 2), (1, 3, 3), ()])
    def test_a_wrong_shape_is_refused_before_anything_is_written(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], shape: tuple[int, ...]
    ) -> None:
        """A wrong shape raises ShapeMismatch with the tensor and both shapes, and no tensor is changed."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        before = memory.snapshot()
        with pytest.raises(ShapeMismatch, match=r"`states` was given with the shape \(.*; expected \(2, 3\)") as raised:
            memory.add_samples(steps=array(np.zeros((2, 1), np.int32)), states=array(np.zeros(shape, np.float32)))
        assert str(shape) in str(raised.value)
        assert (memory.memory_index, memory.env_index) == (1, 0)
        np.testing.assert_array_equal(memory.snapshot().tensors["steps"], before.tensors["steps"])

    def test_different_numbers_of_samples_are_refused(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Tensors that hold different numbers of samples raise ShapeMismatch with each number."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        with pytest.raises(ShapeMismatch, match="`states`: 1, `steps`: 2"):
            memory.add_samples(states=array(np.zeros(3, np.float32)), steps=array(np.zeros((2, 1), np.int32)))
        assert len(memory) == 2

    def test_unknown_names_are_refused(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """A name that no tensor has raises UnknownTensor with the nearest, wherever it is given."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        for call in (
            lambda: memory.add_samples(sates=array(np.zeros((2, 3), np.float32))),
            lambda: memory.sample(["sates"], batch_size=1),
            lambda: memory.sample_all(["sates"]),
            lambda: memory.get_tensor_by_name("sates"),
        ):
            with pytest.raises(UnknownTensor, match=r"no tensor `sates`; known: states, steps\. Did you mean `states`"):
                call()
        with pytest.raises(InvalidValue, match="given no tensors"):
            memory.add_samples()

    # sampling

    def test_samples_stay_together(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """The tensors of a batch are of the same samples, in the order of the names, and only of written ones."""
        memory = make(10, 2)
        self.counting(memory, array, 4)
        ((steps, states),) = memory.sample(["steps", "states"], batch_size=200)
        assert tuple(steps.shape) == (200, 1)
        np.testing.assert_array_equal(np.asarray(states)[:, 0], np.asarray(steps)[:, 0])
        assert set(np.asarray(steps)[:, 0].tolist()) == {0, 1, 100, 101, 200, 201, 300, 301}

    def test_without_replacement_no_sample_comes_twice(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Without replacement each sample comes at most once, and a batch is at most what the memory holds."""
        memory = make(4, 2, replacement=False)
        self.counting(memory, array, 3)
        ((steps,),) = memory.sample(["steps"], batch_size=100)
        assert sorted(np.asarray(steps)[:, 0].tolist()) == [0, 1, 100, 101, 200, 201]

    def test_mini_batches_share_a_batch(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Mini-batches are the parts of one batch, as equal as possible."""
        memory = make(4, 2)
        self.counting(memory, array, 4)
        parts = memory.sample(["steps"], batch_size=7, mini_batches=3)
        assert [part[0].shape[0] for part in parts] == [3, 2, 2]
        places = np.asarray(memory.get_sampling_indexes())
        flat = np.asarray(memory.get_tensor_by_name("steps", keepdim=False))
        np.testing.assert_array_equal(np.concatenate([np.asarray(part[0]) for part in parts]), flat[places])

    def test_all_samples_come_in_order(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """`sample_all` returns each written sample once, row by row, or environment by environment for sequences."""
        memory = make(5, 2)
        self.counting(memory, array, 3)
        whole = [0, 1, 100, 101, 200, 201]
        assert np.asarray(memory.sample_all(["steps"])[0][0])[:, 0].tolist() == whole
        parts = memory.sample_all(["steps"], mini_batches=4)
        assert [value for part in parts for value in np.asarray(part[0])[:, 0].tolist()] == whole
        ((steps,),) = memory.sample_all(["steps"], sequence_length=2)
        assert np.asarray(steps)[:, 0].tolist() == [0, 100, 200, 1, 101, 201]

    def test_sequences_stay_within_an_episode(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Sequences are of one environment, in time, and cross neither an episode's end nor the newest sample."""
        memory = make(8, 2)
        memory.create_tensor("terminated", size=1, dtype="bool")
        for step in range(12):
            self.counting(memory, array, 0)
            values = step * 100 + np.arange(2)[:, None]
            memory.add_samples(
                steps=array(values.astype(np.int32)), terminated=array(np.array([[step == 6], [step == 9]]))
            )
        ((steps,),) = memory.sample(["steps"], batch_size=500, sequence_length=3)
        sequences = {tuple(row) for row in np.asarray(steps).reshape(500, 3).tolist()}
        firsts = {row[0] for row in sequences}
        assert all(row == (row[0], row[0] + 100, row[0] + 200) for row in sequences)
        assert firsts == {400, 700, 800, 900, 401, 501, 601, 701}

    def test_there_must_be_something_to_sample(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Sampling an empty memory, or sequences longer than what it holds, raises UsageError."""
        memory = make(4)
        memory.create_tensor("steps", size=1, dtype="int32")
        with pytest.raises(UsageError, match="empty"):
            memory.sample(["steps"], batch_size=1)
        memory.add_samples(steps=array(np.zeros(1, np.int32)))
        with pytest.raises(UsageError, match="no sequence of 2"):
            memory.sample(["steps"], batch_size=1, sequence_length=2)

    def test_a_reset_forgets(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """After a reset the memory is empty, and what it held is not saved."""
        memory = make(3, 2)
        self.counting(memory, array, 5)
        memory.reset()
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (0, 0, False, 0)
        assert not memory.snapshot().tensors["steps"].any()

    # files

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
