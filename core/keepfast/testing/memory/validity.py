"""The contract of memories: samples that are no transitions, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, LoadMismatch, ShapeMismatch, UsageError
from keepfast.memories.files import read_memory
from keepfast.memories.memory import Memory
from keepfast.testing.memory.sampling import MemorySamplingContract

Maker = Callable[..., Memory]
Array = Callable[[NDArray[Any]], Any]


class MemoryValidityContract(MemorySamplingContract):
    """Proves that what is no transition stays in its place, and comes back from nowhere."""

    def marking(self, memory: Memory, array: Array, masks: Any, first: int = 0) -> None:
        """Add rows whose values say when and for which environment they were added, each with a mask or None."""
        memory.create_tensor("steps", size=1, dtype="int32")
        for step, mask in enumerate(masks, first):
            values = (step * 100 + np.arange(memory.num_envs)[:, None]).astype(np.int32)
            memory.add_samples(steps=array(values), valid=mask)

    def drawn(self, memory: Memory, sequence_length: int = 1) -> Any:
        """Return everything that is ever drawn, in order: samples, or sequences as tuples."""
        ((steps,),) = memory.sample(["steps"], 600, sequence_length=sequence_length)
        found = set(map(tuple, np.asarray(steps).reshape(-1, sequence_length).tolist()))
        return sorted(found) if sequence_length > 1 else sorted(value for (value,) in found)

    def everything(self, memory: Memory, sequence_length: int = 1) -> list[int]:
        """Return what `sample_all` does."""
        parts = memory.sample_all(["steps"], mini_batches=3, sequence_length=sequence_length)
        return [int(value) for (part,) in parts for value in np.asarray(part)[:, 0]]

    MASKS = ([True, False], None, [False, True], [True, True])

    def test_what_is_no_transition_is_never_drawn(self, make: Maker, array: Array) -> None:
        """Of a row that is valid for some environments only, those are drawn, with and without replacement."""
        memory = make(6, 2)
        self.marking(memory, array, self.MASKS)
        assert self.drawn(memory) == [0, 100, 101, 201, 300, 301]
        assert self.everything(memory) == [0, 100, 101, 201, 300, 301]
        assert self.everything(memory, sequence_length=2) == [0, 100, 300, 101, 201, 301]
        memory.replacement = False
        ((steps,),) = memory.sample(["steps"], 600)
        assert sorted(np.asarray(steps)[:, 0].tolist()) == [0, 100, 101, 201, 300, 301]
        parts = memory.sample(["steps"], 5, mini_batches=2)
        assert [len(part[0]) for part in parts] == [3, 2]

    def test_no_sequence_crosses_what_is_no_transition(self, make: Maker, array: Array) -> None:
        """Neither as its first sample, nor as its last, nor between."""
        memory = make(6, 2)
        self.marking(memory, array, self.MASKS)
        assert self.drawn(memory, 2) == [(0, 100), (101, 201), (201, 301)]
        assert self.drawn(memory, 3) == [(101, 201, 301)]
        with pytest.raises(UsageError, match="no sequence of 4"):
            memory.sample(["steps"], 1, sequence_length=4)

    def test_what_overwrites_what_is_no_transition_counts(self, make: Maker, array: Array) -> None:
        """Round the ring, marks go with the samples; those given no mask are transitions."""
        memory = make(3, 2)
        self.marking(memory, array, [[False, True], None, [True, False], None, [False, False]])
        assert self.drawn(memory) == [200, 300, 301]
        assert self.drawn(memory, 2) == [(200, 300)]
        self.marking(memory, array, [None] * 3, first=5)
        assert self.drawn(memory) == [500, 501, 600, 601, 700, 701]
        assert self.drawn(memory, 3) == [(500, 600, 700), (501, 601, 701)]

    def test_a_mask_may_have_any_of_the_usual_forms(self, make: Maker, array: Array) -> None:
        """Lists, arrays of NumPy and of the framework, booleans or numbers, flat or not, for one sample or many."""
        flat = np.array([True, False])
        for mask in (
            flat.tolist(),
            flat,
            flat[:, None],
            array(flat),
            array(flat[:, None]),
            array(flat.astype("int32")),
        ):
            memory = make(4, 2)
            self.marking(memory, array, [mask, mask])
            assert self.everything(memory) == [0, 100]
        memory = make(4, 2)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.array([[0], [1]], np.int32)), valid=[False, True])
        memory.add_samples(steps=array(np.array([2], np.int32)), valid=False)
        memory.add_samples(steps=array(np.array([3], np.int32)), valid=array(np.array([True])))
        memory.add_samples(steps=array(np.arange(4, 8, dtype=np.int32).reshape(2, 2, 1)), valid=[[1, 0], [1, 0]])
        assert self.everything(memory) == [1, 3, 4, 6]

    @pytest.mark.parametrize("mask", [[True], [True] * 3, np.ones((2, 2), bool), True], ids=repr)
    def test_a_mask_of_another_size_is_refused(self, make: Maker, array: Array, mask: Any) -> None:
        """ShapeMismatch tells both shapes, and nothing was added; what is no mask at all is InvalidValue."""
        memory = make(4, 2)
        self.marking(memory, array, [[True, False]])
        with pytest.raises(ShapeMismatch, match=r"`valid` was given with the shape .*; expected \(2,\)"):
            self.marking(memory, array, [mask])
        with pytest.raises(InvalidValue, match="`valid` was given a str, and numbers are needed"):
            self.marking(memory, array, ["x"])
        assert self.everything(memory) == [0]

    def test_marks_are_made_where_they_are_needed(self, make: Maker, array: Array) -> None:
        """The tensor `valid` is there once a sample was none, or by hand from the start; it is a boolean of size 1."""
        memory = make(4, 2)
        self.marking(memory, array, [None, np.array([True, True]), [True, True]])
        assert memory.get_tensor_names() == ["steps"]
        self.marking(memory, array, [[True, False]], first=3)
        assert memory.get_tensor_names() == ["steps", "valid"]
        expected = [[True, True], [True, True], [True, True], [True, False]]
        assert np.asarray(memory.get_tensor_by_name("valid"))[..., 0].tolist() == expected
        by_hand = make(4, 2)
        assert by_hand.create_tensor("valid", 1, "bool") is True
        assert by_hand.create_tensor("valid", (1,)) is False
        self.marking(by_hand, array, [None])
        assert np.asarray(by_hand.get_tensor_by_name("valid"))[:1, :, 0].tolist() == [[True, True]]
        for size, dtype in ((2, "bool"), (1, "float32")):
            with pytest.raises(InvalidValue, match=r"`valid` was given the size .*; it tells which samples"):
                make(4, 2).create_tensor("valid", size, dtype)

    def test_marks_can_be_set(self, make: Maker, array: Array) -> None:
        """As any tensor, afterwards too."""
        memory = make(4, 2)
        self.marking(memory, array, self.MASKS)
        marks = np.zeros((4, 2, 1), bool)
        marks[1:3, 0] = True
        memory.set_tensor_by_name("valid", array(marks))
        assert self.drawn(memory) == [100, 200]
        assert self.drawn(memory, 2) == [(100, 200)]
        memory.set_tensor_by_name("valid", array(np.zeros((4, 2, 1), bool)))
        with pytest.raises(UsageError, match="no sample of the memory is a transition"):
            memory.sample(["steps"], 1)
        assert self.everything(memory) == []
        memory.reset()
        self.marking(memory, array, [None])
        assert self.drawn(memory) == [0, 1]

    @pytest.mark.parametrize("memory_format", ["pt", "npz", "csv"])
    def test_marks_are_exported_and_come_back(
        self, make: Maker, array: Array, tmp_path: Path, memory_format: str
    ) -> None:
        """As a tensor of the file, into a memory that has none so far, has other marks, or another number of rows."""
        memory = make(4, 2)
        self.marking(memory, array, [*self.MASKS, [False, True]])
        path = memory.save(tmp_path, memory_format)
        snapshot = read_memory(path)
        assert snapshot.valid.tolist() == [[False, True], [True, True], [False, True], [True, True]]
        assert snapshot.tensors["valid"].dtype == bool
        empty, plain, marked = make(4, 2), make(4, 2), make(4, 2)
        self.marking(plain, array, [None])
        self.marking(marked, array, [[False, False]])
        for other in (empty, plain, marked):
            other.load(path)
            assert self.everything(other) == [401, 100, 101, 201, 300, 301]
            assert self.drawn(other, 2) == [(101, 201), (201, 301), (301, 401)]
        smaller = make(2, 3)
        smaller.load(path, fit="newest")
        assert 400 not in self.everything(smaller)
        plain = make(4, 2)
        self.marking(plain, array, [None, None])
        marked.load(plain.save(tmp_path, memory_format))
        assert self.everything(marked) == [0, 1, 100, 101]

    def test_a_file_with_another_tensor_of_that_name_is_refused(self, make: Maker, array: Array) -> None:
        """`valid` of another size or dtype is no mask, and LoadMismatch says so."""
        memory = make(4, 2)
        self.marking(memory, array, [None])
        snapshot = memory.snapshot()
        snapshot.tensors["valid"] = np.ones((4, 2, 3), np.float32)  # type: ignore[index]
        with pytest.raises(LoadMismatch, match=r"`valid` has the size \(3,\) and the dtype float32 in the file"):
            memory.restore(snapshot)

    def test_a_state_has_its_marks(self, make: Maker, array: Array) -> None:
        """Restored from `state_dict`, a memory draws the very same samples."""
        memory, other = make(3, 2), make(3, 2)
        self.marking(memory, array, [*self.MASKS, [True, False]])
        self.marking(other, array, [None])
        other.load_state_dict(memory.state_dict())
        for each in (memory, other):
            each.replacement = False
        assert self.everything(other) == self.everything(memory)
        assert self.drawn(other, 2) == self.drawn(memory, 2)

    def ending(self, memory: Memory, array: Array, ends: Any, first: int = 0) -> None:
        """Add rows, each with what ends in it."""
        for name, size, dtype in (("steps", 1, "int32"), ("terminated", 1, "bool"), ("truncated", 1, "bool")):
            memory.create_tensor(name, size, dtype)
        for step, ended in enumerate(ends, first):
            done = np.array(ended, bool)[:, None]
            memory.add_samples(
                steps=array((step * 100 + np.arange(len(done))[:, None]).astype(np.int32)),
                terminated=array(done & (step % 2 == 0)),
                truncated=array(done & (step % 2 == 1)),
            )

    ENDS = ([0, 1], [0, 0], [1, 0], [1, 1], [0, 1], [0, 0])

    def test_resets_are_known_by_the_ends_before_them(self, make: Maker, array: Array) -> None:
        """Where environments reset in the step after an end, that step's sample is none, however they are added."""
        expected = [0, 1, 100, 200, 201, 301, 400, 500, 501]
        for single in (False, True):
            memory = make(8, 2)
            memory.autoreset = "next_step"
            self.ending(memory, array, [] if single else self.ENDS)
            for step, ended in enumerate(self.ENDS if single else []):
                for environment, done in enumerate(ended):
                    memory.add_samples(
                        steps=array(np.array([step * 100 + environment], np.int32)),
                        terminated=array(np.array([bool(done)])),
                    )
            assert self.everything(memory) == expected
            assert self.drawn(memory) == expected
            assert self.drawn(memory, 2) == [(0, 100), (100, 200), (201, 301), (400, 500)]
            assert not read_marks(memory)[1, 1]

    def test_resets_are_found_round_the_ring(self, make: Maker, array: Array) -> None:
        """Also where nobody looks before they are overwritten, and the end before a reset was overwritten already."""
        for looking in (False, True):
            memory = make(2, 2)
            memory.autoreset = "next_step"
            for step, ended in enumerate(self.ENDS):
                self.ending(memory, array, [ended], first=step)
                if looking:
                    memory.get_tensor_names()
            assert self.everything(memory) == [400, 500, 501]

    def test_other_environments_have_no_resets(self, make: Maker, array: Array) -> None:
        """Nor has one that nobody told of; a mode that there is none of is refused."""
        for mode in (None, "same_step", "disabled"):
            memory = make(8, 2)
            memory.autoreset = mode
            self.ending(memory, array, self.ENDS)
            assert len(self.everything(memory)) == 12
            assert "valid" not in memory.get_tensor_names()
        with pytest.raises(InvalidValue, match="`autoreset` is 'NextStep'; allowed: None, "):
            memory.autoreset = "NextStep"

    def test_a_state_knows_that_a_reset_comes(self, make: Maker, array: Array) -> None:
        """A memory that goes on from the state of another leaves out the same samples."""
        for cut in range(len(self.ENDS)):
            memory, other = make(8, 2), make(8, 2)
            memory.autoreset = other.autoreset = "next_step"
            self.ending(memory, array, self.ENDS[:cut])
            self.ending(other, array, [[1, 1]])
            other.load_state_dict(memory.state_dict())
            self.ending(other, array, self.ENDS[cut:], first=cut)
            assert self.everything(other) == [0, 1, 100, 200, 201, 301, 400, 500, 501]

    def test_no_sequence_goes_beyond_a_reset_in_mid_run(self, make: Maker, array: Array) -> None:
        """Of the environments that were reset; the sample behind it is a transition, whatever ended before."""
        memory = make(4, 2)
        memory.autoreset = "next_step"
        self.ending(memory, array, [[0, 0], [0, 1]])
        memory.reset_episodes()
        self.ending(memory, array, [[0, 0]], first=2)
        memory.reset_episodes([1])
        self.ending(memory, array, [[0, 0]], first=3)
        assert self.everything(memory) == [0, 1, 100, 101, 200, 201, 300, 301]
        assert self.drawn(memory, 2) == [(0, 100), (1, 101), (200, 300)]
        self.ending(memory, array, [[0, 0]] * 4, first=4)
        assert self.drawn(memory, 4) == [(400, 500, 600, 700), (401, 501, 601, 701)]
        with pytest.raises(InvalidValue, match="`envs` is"):
            memory.reset_episodes([2])

    def test_adding_waits_for_nothing(self, make: Maker, array: Array, monkeypatch: pytest.MonkeyPatch) -> None:
        """Marks and ends are looked at once somebody samples, together; until then they stay on their device."""
        memory = make(8, 2)
        memory.autoreset = "next_step"
        asked: list[tuple[str, int, int]] = []
        real = type(memory.storage).host_part

        def counted(storage: Any, name: str, start: int, stop: int) -> NDArray[Any]:
            asked.append((name, start, stop))
            found: NDArray[Any] = real(storage, name, start, stop)
            return found

        monkeypatch.setattr(type(memory.storage), "host_part", counted)
        self.ending(memory, array, self.ENDS)
        assert asked == []
        memory.sample(["steps"], 4)
        assert sorted(asked) == [("terminated", 0, 12), ("truncated", 0, 12)]
        memory.sample(["steps"], 4)
        assert len(asked) == 2


def read_marks(memory: Memory) -> NDArray[np.bool]:
    """Return which samples of a memory are transitions, of shape (memory_size, num_envs)."""
    marks: NDArray[np.bool] = np.asarray(memory.get_tensor_by_name("valid"))[..., 0]
    return marks
