"""A ring knows where the samples of a memory lie, and which of them follow one another."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Cursor, Ring, reset_rows

RINGS = st.builds(
    lambda size, envs, added: written(size, envs, added)[0],
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 40),
)


def written(size: int, envs: int, added: int) -> tuple[Ring, NDArray[Any]]:
    """Return where a ring is after samples were added one by one, and the number of the sample in each place."""
    numbers = np.full(size * envs, -1)
    for sample in range(added):
        numbers[sample % (size * envs)] = sample
    return Ring(size, envs, *divmod(added % (size * envs), envs), filled=added >= size * envs), numbers


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 40))
def test_histories_are_in_the_order_of_time(size: int, envs: int, added: int) -> None:
    """Of each environment, every sample that is still there is given once, oldest first."""
    ring, numbers = written(size, envs, added)
    assert len(ring) == min(added, size * envs)
    for environment, places in enumerate(ring.histories()):
        expected = [sample for sample in range(max(0, added - size * envs), added) if sample % envs == environment]
        assert numbers[places].tolist() == expected
        assert ring.count(environment) == len(expected)


@given(RINGS, st.integers(0, 6), st.integers(0, 6))
def test_rows_are_a_part_of_the_order(ring: Ring, start: int, length: int) -> None:
    """Ranges of rows, at most two, are what the order lists one by one."""
    order = ring.order()
    for environment in range(ring.num_envs):
        stop = min(start + length, ring.count(environment))
        ranges = ring.rows(environment, start, stop)
        rows = [row for part in ranges for row in range(part.start, part.stop)]
        assert rows == order[start:stop, environment].tolist()
        assert len(ranges) <= 2
    np.testing.assert_array_equal(ring.order(slice(start, start + length)), order[start : start + length])


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 40), st.integers(2, 7), st.data())
def test_a_sequence_starts_where_all_of_it_follows(
    size: int, envs: int, added: int, length: int, data: st.DataObject
) -> None:
    """A start is a sample whose followers are there, none of which comes after the end of an episode."""
    ring, numbers = written(size, envs, added)
    ends = np.array(data.draw(st.lists(st.booleans(), min_size=size * envs, max_size=size * envs)), bool)
    there = {int(number): place for place, number in enumerate(numbers) if number >= 0}
    expected = {
        place
        for number, place in there.items()
        if all(number + step * envs in there for step in range(length))
        and not any(ends[there[number + step * envs]] for step in range(length - 1))
    }
    starts = ring.sequence_starts(ends.reshape(size, envs), length).tolist()
    assert len(starts) == len(set(starts))
    assert set(starts) == expected


def test_complete_rows_are_those_of_every_environment() -> None:
    """A row that only some environments have written is not one of them, until it was written before."""
    assert Ring(4, 2, 2, 1).complete_rows == 2
    assert Ring(4, 2, 2, 1, filled=True).complete_rows == 4


def test_a_ring_may_have_no_rows_or_no_environments() -> None:
    """A file of others may hold nothing at all, which is no error."""
    for ring in (Ring(0, 2, filled=True), Ring(2, 0, filled=True), Ring(0, 0)):
        assert len(ring) == 0
        assert sum(map(len, ring.histories())) == 0
        assert ring.order().shape == (ring.memory_size, ring.num_envs)


def test_a_ring_cannot_be_changed() -> None:
    """What was handed out stays as it was while the memory goes on."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ring(2, 1).memory_index = 1  # type: ignore[misc]


def test_a_snapshot_tells_its_ring_and_its_seams() -> None:
    """The sizes come from the tensors, the seams from the metadata: whatever is no place is passed over."""
    values = np.zeros((3, 2, 1), np.float32)
    snapshot = MemorySnapshot({"x": values}, 1, 1, True, {"seams": [5, 2, 6, -1, "x", 0.5, [1]]})
    assert snapshot.ring == Ring(3, 2, 1, 1, filled=True)
    assert snapshot.ring.position == (1, 1, True)
    assert snapshot.seams == [5, 2]
    # environment 0 begins with row 2, environment 1 with row 1
    assert [places.tolist() for places in snapshot.histories()] == [[4, 0, 2], [3, 5, 1]]
    assert snapshot.chronological_seams() == [(2, 0), (1, 1)]
    nothing: list[dict[str, Any]] = [{}, {"seams": None}, {"seams": "5"}]
    for metadata in nothing:
        assert MemorySnapshot({"x": values}, 1, 1, True, metadata).seams == []


@given(st.integers(1, 6), st.integers(1, 3), st.lists(st.integers(0, 9)))
def test_a_cursor_goes_round(size: int, envs: int, steps: list[int]) -> None:
    """However many samples at a time, it is where the samples say, and completes each cycle once."""
    cursor, added, told = Cursor(size, envs), 0, 0
    for step in steps:
        count = min(step, cursor.capacity - cursor.place)
        told += cursor.advance(count)
        added += count
        assert cursor.ring == written(size, envs, added)[0]
        assert len(cursor) == len(cursor.ring)
        assert cursor.cycles == told == added // (size * envs)


def test_a_seam_goes_with_its_sample() -> None:
    """Once the sample is overwritten, nothing tells any more that the next one did not follow it."""
    cursor = Cursor(3, 2)
    cursor.move(Ring(3, 2, 1, 0, filled=True), [2, 3, 5])
    cursor.advance(1)
    assert cursor.seams == {3, 5}
    cursor.advance(3)
    assert cursor.seams == set()


def test_a_cursor_goes_where_another_ring_is() -> None:
    """The cycles that were completed stay counted."""
    cursor = Cursor(2, 3)
    cursor.advance(6)
    cursor.move(Ring(2, 3, 1, 2), {4})
    assert (cursor.ring, cursor.seams, cursor.cycles, cursor.place) == (Ring(2, 3, 1, 2), {4}, 1, 5)
    cursor.move(Ring(2, 3))
    assert (len(cursor), cursor.seams, cursor.cycles) == (0, set(), 1)


@given(RINGS)
def test_the_newest_sample_is_the_last_of_the_history(ring: Ring) -> None:
    """Of each environment; of one without samples there is none."""
    for environment, history in enumerate(ring.histories()):
        assert ring.newest(environment) == (int(history[-1]) if len(history) else None)


@given(st.integers(1, 6), st.integers(1, 3), st.lists(st.integers(1, 4), max_size=20), st.data())
def test_seams_stay_until_they_are_overwritten(size: int, envs: int, parts: list[int], data: st.DataObject) -> None:
    """Wherever they are, and wherever the cursor is."""
    cursor = Cursor(size, envs)
    cursor.advance(data.draw(st.integers(0, size * envs)))
    expected = data.draw(st.sets(st.integers(0, size * envs - 1)))
    cursor.seams = expected
    for part in parts:
        count = min(part, cursor.capacity - cursor.place)
        expected = expected - set(range(cursor.place, cursor.place + count))
        cursor.advance(count)
        assert cursor.seams == expected


def test_marks_are_those_given_last() -> None:
    """Of each place, in order."""
    cursor = Cursor(3, 2)
    cursor.mark(2, np.array([False, True, False]))
    assert cursor.invalid.tolist() == [2, 4]
    cursor.mark(0, np.array([False, True, True, False]))
    assert cursor.invalid.tolist() == [0, 3, 4]
    cursor.mark(3, np.array([True, True]))
    assert cursor.invalid.tolist() == [0]
    cursor.move(Ring(3, 2))
    assert cursor.invalid.tolist() == []


def test_what_was_parted_does_not_follow() -> None:
    """The newest samples of the environments become seams, beside those there are."""
    cursor = Cursor(3, 2)
    cursor.part([0, 1])
    assert cursor.seams == set()
    cursor.advance(3)
    cursor.part([1])
    assert cursor.seams == {1}
    cursor.part([0, 1])
    assert cursor.seams == {1, 2}


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.booleans())
def test_the_row_behind_an_end_is_a_reset_and_ends_nothing(ends: list[bool], ended: bool) -> None:
    """Where it says that it ends an episode all the same, the row behind it is a transition."""
    expected, is_reset = [], ended
    for end in ends:
        expected.append(is_reset)
        is_reset = end and not is_reset
    found = reset_rows(np.array(ends)[:, None], np.array([ended]))
    assert found[:, 0].tolist() == expected
