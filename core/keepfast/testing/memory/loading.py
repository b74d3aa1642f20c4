"""The contract of memories: what they take from files and from one another, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import LoadMismatch
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.memory import Memory
from keepfast.testing.memory.validity import MemoryValidityContract
from keepfast.testing.memory_exporter import assert_same


class MemoryLoadingContract(MemoryValidityContract):
    """Proves that a memory takes just what fits, and is unchanged otherwise."""

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

    def test_a_memory_is_a_module(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """What `state_dict` returns restores another memory, and stays as it was when the first goes on."""
        memory, other = make(4, 2), make(4, 2)
        self.counting(memory, array, 3)
        state = memory.state_dict()
        other.load_state_dict(state)
        assert_same(_without_time(other), _without_time(memory))
        with pytest.raises(LoadMismatch, match="memory_size"):
            make(5, 2).load_state_dict(state)

    def test_a_failed_load_leaves_no_tensors_behind(self, make: Callable[..., Memory]) -> None:
        """A memory without tensors, given a file with dtypes or names it cannot take, lists them and stays empty."""
        good, text = np.zeros((3, 1, 2), np.float32), np.full((3, 1, 2), "x")
        memory = make(3)
        with pytest.raises(LoadMismatch, match="unchanged") as raised:
            memory.restore(MemorySnapshot({"a": good, "b": text, "c": text, "d\0": good}, 0, 0, filled=True))
        assert all(part in str(raised.value) for part in ("`b`", "`c`", "'d\\x00'"))
        assert (memory.get_tensor_names(), len(memory)) == ([], 0)
        with pytest.raises(LoadMismatch, match="memory_size"):
            memory.restore(MemorySnapshot({"a": good[:2]}, 0, 0, filled=True))
        assert memory.get_tensor_names() == []

    @pytest.mark.parametrize("size", [0, (0,), (3, 0)])
    def test_empty_tensors_come_back(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, size: Any
    ) -> None:
        """Samples of no elements are loaded, also into a memory of another size."""
        memory, other, smaller = make(3, 2), make(3, 2), make(2, 3)
        self.counting(memory, array, 0)
        memory.create_tensor("nothing", size, keep_dimensions=True)
        self.counting(memory, array, 2)
        path = memory.save(tmp_path)
        other.load(path)
        smaller.load(path, fit="newest")
        assert_same(_without_time(other), _without_time(memory))
        assert tuple(smaller.get_tensor_by_name("nothing").shape) == (2, 3, *np.zeros(size).shape)

    def test_sequences_do_not_mix_environments_after_a_load(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """Where a load joins the samples of two environments, no sequence goes from one to the other, ever after."""
        memory, joined = make(4, 3), make(12, 1)
        self.counting(memory, array, 4)
        joined.load(memory.save(tmp_path), fit="newest")
        assert self._sequences(joined) == {(s, s + 100) for e in range(3) for s in (e, 100 + e, 200 + e)}
        for again in (make(12, 1), make(12, 1)):
            again.load(joined.save(tmp_path))
            assert self._sequences(again) == self._sequences(joined)
            again.load_state_dict(joined.state_dict())
            assert self._sequences(again) == self._sequences(joined)
        cut = make(6, 1)
        cut.load(joined.save(tmp_path), fit="newest")
        assert self._sequences(cut) == {(201, 301), (2, 102), (102, 202), (202, 302)}
        self.counting(joined, array, 5, first=10)
        assert self._sequences(joined) == {
            *((1000 + step, 1100 + step) for step in (0, 100, 200, 300)),
            *((101, 201), (201, 301), (2, 102), (102, 202), (202, 302)),
        }

    @pytest.mark.parametrize(("fit", "goes_on"), [("newest", True), ("oldest", False)])
    def test_sequences_go_on_where_the_samples_do(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path, fit: Any, goes_on: bool
    ) -> None:
        """What is added follows the newest sample of its environment, but not an older one that was kept instead."""
        memory, smaller = make(4, 2), make(3, 2)
        self.counting(memory, array, 4)
        smaller.load(memory.save(tmp_path), fit=fit)
        self.counting(smaller, array, 1, first=4)
        assert ((300, 400) in self._sequences(smaller), (301, 401) in self._sequences(smaller)) == (goes_on, goes_on)
        assert (200, 400) not in self._sequences(smaller)

    def _sequences(self, memory: Memory) -> set[tuple[int, ...]]:
        """Return the sequences of two that a memory gives."""
        ((steps,),) = memory.sample(["steps"], 500, sequence_length=2)
        return {tuple(pair) for pair in np.asarray(steps).reshape(-1, 2).tolist()}

    def test_a_load_returns_a_report(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """It is true, names the file and every tensor, as the reports of other loads do."""
        memory, other = make(3, 2), make(3, 2)
        self.counting(memory, array, 2)
        report = other.load(path := memory.save(tmp_path))
        assert report
        assert (report.path, report.loaded) == (path, ["memory.states", "memory.steps"])
        assert (report.missing, report.mismatched, report.cast) == ([], [], [])

    def test_spaces_of_a_file_are_kept(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], tmp_path: Path
    ) -> None:
        """A memory that knows no space of a tensor tells the file's in its own files; its own come first."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory, empty, other = make(2), make(2), make(2)
        memory.create_tensor("states", spaces.Box(0, 1, (3,)))
        memory.add_samples(states=array(np.zeros((1, 3), np.float32)))
        other.create_tensor("states", spaces.Box(0, 2, (3,)))
        told = []
        for each in (empty, other):
            each.load(memory.save(tmp_path))
            told.append(each.snapshot().metadata["spaces"])
        assert told == [memory.snapshot().metadata["spaces"], {"states": repr(spaces.Box(0, 2, (3,)))}]


def _without_time(memory: Memory) -> Any:
    snapshot = memory.snapshot()
    return replace(snapshot, metadata={"keep_dimensions": snapshot.metadata["keep_dimensions"]})
