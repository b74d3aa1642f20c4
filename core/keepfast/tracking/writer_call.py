"""A call of a writer, and how the writer fares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._arrays import scalar
from keepfast.errors import InvalidValue, as_given
from keepfast.interfaces.summary.checks import writable
from keepfast.interfaces.writer import Writer

CALL_BYTES = 512
"""What a call takes apart from what follows."""

ITEM_BYTES = 128
"""What a tag and its value take."""

OBJECT_BYTES = 2**20
"""What is reckoned for an object that does not tell, such as a figure."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SMALL = (int, float, type(None), PurePath)


@final
@dataclass
class WriterHealth:
    """How one writer fares.

    Attributes:
        calls: the calls that reached it.
        failed: those of them that raised.
        dropped: the calls that did not reach it: its queue was full, it was in quarantine, or it could not start.
        failed_in_row: the failures since the last success.
        quarantined: whether it failed so often that it is left alone for a while.
        last_error: what it raised last.
    """

    calls: int = 0
    failed: int = 0
    dropped: int = 0
    failed_in_row: int = 0
    quarantined: bool = False
    last_error: BaseException | None = None

    def __str__(self) -> str:
        parts = [f"{self.failed} of {self.calls} calls failed"] if self.failed else []
        if self.dropped:
            parts.append(
                f"{self.dropped} calls were dropped because it could not start, was too slow or failed too often"
            )
        if self.last_error is not None:
            parts.append(f"last cause: {describe(self.last_error)}")
        return "; ".join(parts)


def describe(error: BaseException) -> str:
    """Return an error's kind and text."""
    return f"{type(error).__name__}: {error}"


@final
class Call:
    """One call of a writer's method, and what came of it.

    Args:
        method: the method's name.
        args: its arguments.
        kwargs: its named arguments.
        awaited: whether somebody waits for it; thousands wait in queues for which nobody does, so those are small.
        check: turns what the method returns into the result, or raises what is wrong with it.
        after: called once nothing more will come of it, whether it was performed or dropped.
    """

    __slots__ = ("_after", "_done", "args", "check", "kwargs", "method", "result", "size")

    def __init__(
        self,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = _NOTHING,
        *,
        awaited: bool = False,
        check: Callable[[Any], Any] | None = None,
        after: Callable[[], object] | None = None,
    ) -> None:
        self.method, self.args, self.kwargs, self.check = method, args, kwargs, check
        self._after = after
        self.size = CALL_BYTES + sum(map(_bytes_of, args))
        self.result: Any = None
        self._done = threading.Event() if awaited else None

    def perform(self, writer: Writer) -> None:
        """Call the method, in whatever thread this is."""
        result = getattr(writer, self.method)(*self.args, **self.kwargs)
        self.result = result if self.check is None else self.check(result)

    def finish(self) -> None:
        """Tell whoever waits that nothing more will come of it."""
        if self._after is not None:
            self._after()
        if self._done is not None:
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait until it is finished, and say whether it is; of a call that is not awaited nobody knows."""
        return self._done is not None and self._done.wait(timeout)


def _bytes_of(arg: Any) -> int:
    """Return about how many bytes an argument keeps in memory."""
    if isinstance(arg, _SMALL):
        return 0
    if isinstance(arg, str):
        return len(arg)
    if isinstance(arg, dict):
        return ITEM_BYTES * len(arg) + sum(part.nbytes for part in arg.values() if isinstance(part, np.ndarray))
    if isinstance(arg, np.ndarray):
        return arg.nbytes
    return OBJECT_BYTES * (len(arg) if isinstance(arg, list | tuple) else 1)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return values by tag as Python's own floats.

    Raises:
        InvalidValue: if one is no single number.
    """
    return {writable(tag): value if type(value) is float else scalar(value, tag) for tag, value in values.items()}


def storable(state: Any) -> dict[str, Any]:
    """Return a copy of a writer's state, as a checkpoint will hold it.

    Raises:
        InvalidValue: if it is no mapping, or one that no checkpoint can hold.
    """
    if not isinstance(state, Mapping):
        raise InvalidValue(f"`state_dict` returned {as_given(state)} ({type(state).__name__}); allowed: a mapping")
    stored: dict[str, Any] = codec.loads(codec.dumps(dict(state)))
    return stored


def own(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments of which no writer shares what it could change."""
    return tuple(dict(arg) if isinstance(arg, dict) else arg for arg in args)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of an array that nobody can change."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy
