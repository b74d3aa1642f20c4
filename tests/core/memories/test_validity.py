"""Samples that are no transitions, whatever was added, how, and when anybody looked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keepfast
from keepfast.errors import KeepfastWarning, UsageError
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.buffer import SampleBuffer
from keepfast.memories.fitting import Fit
from keepfast.memories.sampling import Sampler
from keepfast.memories.storage import Storage
from keepfast.plugins.formats import exporter_named

Maker = Callable[..., Storage]

ADDED = st.tuples(
    st.integers(1, 5),  # samples, as a fraction of what fits
    st.sampled_from(["none", "mask", "look", "reset"]),
    st.lists(st.tuples(st.booleans(), st.sampled_from([True, True, False])), min_size=12, max_size=12),
)


class Reference:
    """The semantics in plain Python: the newest samples of each environment, one after the other."""

    def __init__(self, memory_size: int, num_envs: int, *, resets_take_a_step: bool) -> None:
        self.memory_size, self.num_envs, self.resets = memory_size, num_envs, resets_take_a_step
        self.samples: list[tuple[int, bool, bool]] = []  # number, whether it is a transition, whether it is the last
        self.after_end = [False] * num_envs

    def add(self, ended: bool, valid: bool) -> None:
        number = len(self.samples)
        environment = number % self.num_envs
        valid = valid and not self.after_end[environment]
        self.after_end[environment] = self.resets and valid and ended
        self.samples.append((number, valid, ended))

    def reset(self) -> None:
        self.after_end = [False] * self.num_envs
        for environment in range(self.num_envs):
            newest = range(len(self.samples))[environment :: self.num_envs][-1:]
            for number in newest:
                self.samples[number] = (*self.samples[number][:2], True)

    def histories(self) -> list[list[tuple[int, bool, bool]]]:
        return [self.samples[each :: self.num_envs][-self.memory_size :] for each in range(self.num_envs)]

    def drawn(self, length: int) -> set[tuple[int, ...]]:
        found = set()
        kept = {sample[0] for sample in self.samples[-self.memory_size * self.num_envs :]}
        for history in self.histories():
            history = [sample for sample in history if sample[0] in kept]
            for start in range(len(history) - length + 1):
                part = history[start : start + length]
                if all(valid for _, valid, _ in part) and not any(last for _, _, last in part[:-1]):
                    found.add(tuple(number for number, _, _ in part))
        return found


@given(
    memory_size=st.integers(1, 5),
    num_envs=st.integers(1, 3),
    mode=st.sampled_from([None, "next_step"]),
    program=st.lists(ADDED, max_size=8),
)
def test_what_is_drawn_is_that_of_plain_python(
    storage: Maker, memory_size: int, num_envs: int, mode: str | None, program: list[Any]
) -> None:
    """Row by row or sample by sample, with masks or without, however often the ring was passed and looked at."""
    buffer = SampleBuffer(storage(memory_size, num_envs))
    buffer.watch(mode)
    for name, dtype in (("x", "int64"), ("terminated", "bool"), ("truncated", "bool")):
        buffer.create(name, 1, dtype, keep_dimensions=False)
    reference = Reference(memory_size, num_envs, resets_take_a_step=mode is not None)
    for parts, way, samples in program:
        given = samples[: max(1, parts * num_envs // 3)] if parts < 3 else samples[: num_envs * (parts - 2)]
        if len(given) > num_envs:
            given = given[: len(given) // num_envs * num_envs]
        count = len(given)
        ended = np.array([end for end, _ in given])[:, None]
        valid = np.array([ok for _, ok in given]) if way == "mask" else np.ones(count, bool)
        numbers = np.arange(len(reference.samples), len(reference.samples) + count)[:, None]
        shape = (-1, num_envs, 1) if count > num_envs else (count, 1)
        tensors = {"x": numbers, "terminated": ended, "truncated": ended & False}
        buffer.add({name: part.reshape(shape) for name, part in tensors.items()}, valid if way == "mask" else None)
        for end, ok in zip(ended[:, 0], valid, strict=True):
            reference.add(bool(end), bool(ok))
        if way == "look":
            buffer.settle()
        if way == "reset":
            buffer.part()
            reference.reset()
    compare(buffer, reference)


def compare(buffer: SampleBuffer, reference: Reference) -> None:
    """Compare all that a sampler draws with what it should."""
    sampler = Sampler(buffer)
    ((everything,),) = sampler.everything(["x"])
    assert sorted(everything[:, 0].tolist()) == sorted(number for (number,) in reference.drawn(1))
    for length in (1, 2, 3):
        expected = reference.drawn(length)
        if not expected:
            with pytest.raises(UsageError):
                sampler.sample(["x"], 1, sequence_length=length)
            continue
        sampler.replacement = False
        ((drawn,),) = sampler.sample(["x"], 100, sequence_length=length)
        assert set(map(tuple, drawn.reshape(-1, length).tolist())) == expected


@given(
    given=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    target=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    fit=st.sampled_from(["newest", "oldest"]),
    marks=st.lists(st.booleans(), min_size=15, max_size=15),
)
def test_marks_go_with_their_samples_into_another_size(
    storage: Maker, given: tuple[int, int], target: tuple[int, int], fit: Fit, marks: list[bool]
) -> None:
    """Whatever the sizes, what was marked is what is marked."""
    source, other = SampleBuffer(storage(*given)), SampleBuffer(storage(*target))
    source.create("x", 1, "int64", keep_dimensions=False)
    for row in range(given[0]):
        numbers = np.arange(row * given[1], (row + 1) * given[1])[:, None]
        source.add({"x": numbers}, [marks[number] for number in numbers[:, 0]])
    other.restore(source.snapshot(), fit)
    numbers = other.tensor("x", keepdim=False)[: len(other), 0]
    assert numbers[other.invalid].tolist() == [number for number in numbers.tolist() if not marks[number]]
    ((everything,),) = Sampler(other).everything(["x"])
    assert everything[:, 0].tolist() == [number for number in numbers.tolist() if marks[number]]


def test_a_memory_that_cannot_know_says_so_once(numpy_memory: type[keepfast.Memory]) -> None:
    """Without a tensor that tells of episodes cut short, and without masks."""
    memory = numpy_memory(8, 1)
    memory.autoreset = "next_step"
    for name in ("x", "terminated"):
        memory.create_tensor(name, 1, "bool")
    memory.add_samples(x=[True], terminated=[False], valid=[True])
    memory.sample(["x"], 1)  # whoever gives masks knows
    memory.add_samples(x=[True], terminated=[False])
    with pytest.warns(KeepfastWarning, match=r"no tensor `truncated`.*or give `valid` to `add_samples`"):
        memory.sample(["x"], 1)
    memory.add_samples(x=[True], terminated=[False])
    memory.sample(["x"], 1)


@pytest.mark.parametrize("first", [True, False])
def test_memories_merge_though_only_one_has_marks(first: bool, tmp_path: Path) -> None:
    """What the other holds is all valid."""
    values, marks = np.arange(4.0).reshape(2, 2, 1), np.array([[1, 0], [1, 1]], bool)[..., None]
    plain, marked = {"x": values}, {"x": values, "valid": marks}
    for name, tensors in zip("ab", (marked, plain) if first else (plain, marked), strict=True):
        exporter_named("npz").save(MemorySnapshot(tensors, 0, 0, True), tmp_path / f"{name}.npz")
    merged = keepfast.merge_memories(tmp_path / "*", tmp_path / "all.npz")
    expected = [[True, False], [True, True], [True, True], [True, True]]
    assert merged.valid.tolist() == (expected if first else expected[2:] + expected[:2])
    assert keepfast.read_memory(tmp_path / "all.npz").valid.tolist() == merged.valid.tolist()


def test_a_snapshot_of_others_may_have_any_tensor_of_that_name() -> None:
    """It counts as a mask where it has one truth value for each sample; else all are valid."""
    for tensor in (np.zeros((2, 1, 3), bool), np.zeros((2, 1, 1), np.float32), np.zeros((2, 1), bool)):
        snapshot = MemorySnapshot({"valid": tensor}, 0, 0, True)
        assert not snapshot.is_marked
        assert snapshot.valid.all()
    assert not MemorySnapshot({"valid": np.zeros((2, 1, 1), bool)}, 0, 0, True).valid.any()
