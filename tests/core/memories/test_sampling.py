"""A sampler draws what a buffer holds, and knows when it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keepfast.errors import UsageError
from keepfast.memories.buffer import SampleBuffer
from keepfast.memories.sampling import Sampler
from keepfast.memories.storage import Storage


@pytest.fixture
def buffer(storage: Callable[..., Storage]) -> SampleBuffer:
    """Return a full buffer of four rows and two environments, whose samples tell their places."""
    made = SampleBuffer(storage(4, 2))
    made.create("x", 1, "int32", keep_dimensions=False)
    made.create("terminated", 1, "bool", keep_dimensions=False)
    made.add({"x": np.arange(8).reshape(4, 2, 1), "terminated": np.zeros((4, 2, 1), bool)})
    return made


def firsts(sampler: Sampler) -> set[int]:
    """Return the places where the sequences of two samples start that a sampler draws."""
    ((drawn,),) = sampler.sample(["x"], batch_size=200, sequence_length=2)
    return {int(first) for first, _ in drawn.reshape(200, 2)}


def test_a_sampler_follows_every_change(buffer: SampleBuffer) -> None:
    """Sequences are those of the samples as they are, whether added, set, restored or joined by seams."""
    sampler = Sampler(buffer)
    assert firsts(sampler) == {0, 1, 2, 3, 4, 5}
    buffer.set_tensor("terminated", np.eye(8, dtype=bool)[2][:, None])
    assert firsts(sampler) == {0, 1, 3, 4, 5}
    buffer.add({"x": np.array([[0], [1]]), "terminated": np.zeros((2, 1), bool)})
    assert firsts(sampler) == {3, 4, 5, 6, 7}
    snapshot = buffer.snapshot()
    snapshot.metadata["seams"] = [5]  # type: ignore[index]
    buffer.restore(snapshot)
    assert firsts(sampler) == {3, 4, 6, 7}
    buffer.reset()
    with pytest.raises(UsageError, match="no sequence of 2"):
        firsts(sampler)


def test_ends_of_episodes_are_looked_for_once(buffer: SampleBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until samples change, however often sequences are drawn: it takes a copy of the flags to the host."""
    asked, real = [], buffer.storage.host
    monkeypatch.setattr(buffer.storage, "host", lambda name: asked.append(name) or real(name))
    sampler = Sampler(buffer)
    for _ in range(3):
        firsts(sampler)
    assert asked == ["terminated"]
    buffer.add({"x": np.array([[0], [1]]), "terminated": np.zeros((2, 1), bool)})
    firsts(sampler)
    assert asked == ["terminated"] * 2


def test_two_samplers_share_a_buffer(buffer: SampleBuffer) -> None:
    """Each has its own way to draw and remembers its own places."""
    once, often = Sampler(buffer, replacement=False), Sampler(buffer)
    ((drawn,),) = once.sample(["x"], 100)
    assert sorted(drawn[:, 0].tolist()) == list(range(8))
    often.sample(["x"], 100)
    assert (len(once.last), len(often.last)) == (8, 100)
    assert Sampler(buffer, last=once.last).last is once.last


def test_all_samples_come_by_row_or_by_environment(buffer: SampleBuffer) -> None:
    """In the order of their places, or, for sequences, each environment's from its oldest on."""
    buffer.add({"x": np.array([[8], [9]]), "terminated": np.zeros((2, 1), bool)})
    sampler = Sampler(buffer)

    def values(parts: list[list[Any]]) -> list[list[int]]:
        return [part[0][:, 0].tolist() for part in parts]

    assert values(sampler.everything(["x"], 3)) == [[8, 9, 2], [3, 4, 5], [6, 7]]
    assert values(sampler.everything(["x"], 2, sequence_length=2)) == [[2, 4, 6, 8], [3, 5, 7, 9]]
    assert values(sampler.by_index(["x"], [7, 0, 1], 2)) == [[7, 8], [9]]
