"""Arrays that were read from a file and that nobody else needs: whoever would copy one keeps it instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from keepfast._system.memory.room import is_of_a_room

_WORTH_GIVING = 1 << 12
"""From how many bytes on an array is given; a copy of less costs nothing, and lets go of what it would be a part of."""

_Key = TypeVar("_Key")

_NOWHERE = 1 << 64
"""An address behind all memory."""

_given: ContextVar[dict[int, NDArray[Any]] | None] = ContextVar("given", default=None)


@contextlib.contextmanager
def giving(arrays: Iterable[Any]) -> Iterator[None]:
    """Have `taken` return those of some arrays themselves, meanwhile, that lie in a `Room`: nobody else has them.

    Args:
        arrays: all that there are, of which nobody will need one afterwards; what is no array is passed over.
            Where two share memory, neither is given.
    """
    token = _given.set({id(array): array for array in _alone(arrays) if _is_giveable(array)})
    try:
        yield
    finally:
        _given.reset(token)


def taken(array: NDArray[Any], dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Return an array of the same values that is the caller's alone: itself where it is given, else a copy.

    Args:
        array: of any shape, strides and byte order.
        dtype: the dtype of the result; the array's own by default.
    """
    return array if is_given(array) and (dtype is None or dtype == array.dtype) else np.array(array, dtype)


def is_given(array: NDArray[Any]) -> bool:
    """Say whether an array is the caller's to keep and to change."""
    given = _given.get()
    return given is not None and given.get(id(array)) is array


def _alone(values: Iterable[Any]) -> Iterator[NDArray[Any]]:
    """Yield those of some arrays whose memory no other one of them reaches; what is no array is passed over."""
    arrays = [value for value in values if isinstance(value, np.ndarray) and value.nbytes]
    chosen = apart({number: byte_bounds(array) for number, array in enumerate(arrays)})
    yield from (arrays[number] for number in chosen)


def apart(spans: Mapping[_Key, tuple[int, int]]) -> list[_Key]:
    """Return the keys of those spans of addresses that reach into no other one."""
    ordered = sorted((*span, number) for number, span in enumerate(spans.values()))
    keys, found, end = list(spans), [], 0
    followers = [start for start, _, _ in ordered[1:]]
    for (start, stop, number), follower in zip(ordered, [*followers, _NOWHERE], strict=False):
        if end <= start and stop <= follower:
            found.append(keys[number])
        end = max(end, stop)
    return found


def _is_giveable(array: NDArray[Any]) -> bool:
    flags = array.flags
    is_plain = flags.c_contiguous and flags.aligned and flags.writeable and array.dtype.isnative
    return array.nbytes >= _WORTH_GIVING and is_plain and type(array) is np.ndarray and is_of_a_room(array)
