"""Values that a framework keeps: held as they are, fetched together, and told of where they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, final

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast.plugins import backends
from keepfast.tracking.held import Holder
from keepfast.tracking.tracker import Tracker
from keepfast.tree import Tree


class Remote:
    """A number on some device, which may be gone by the time it is fetched."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.float32)

    def __init__(self, number: float) -> None:
        self.number = number
        self.gone = False


class RemoteBackend(keepfast.Backend):
    """Holds the numbers themselves, and counts the transfers."""

    name: ClassVar[str] = "remote"
    checkpoint_format: ClassVar[str] = "safetensors"
    transfers = 0

    def recognizes(self, module: object) -> bool:
        return type(module) is Remote

    def capture(self, module: Any) -> Tree:
        return {"number": module.number}

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        module.number = state["number"]
        return module

    def hold(self, value: Any) -> Any:
        return value

    def fetch(self, held: Sequence[Any]) -> list[NDArray[Any]]:
        type(self).transfers += 1
        if any(value.gone for value in held):
            raise keepfast.UsageError("an array is gone")
        return [np.array(value.number, np.float32) for value in held]


class Elsewhere(Remote):
    """A number on a device of another framework."""


@final
class ElsewhereBackend(RemoteBackend):
    """Holds those."""

    name: ClassVar[str] = "elsewhere"
    transfers = 0

    def recognizes(self, module: object) -> bool:
        return type(module) is Elsewhere


@pytest.fixture(autouse=True)
def _remote() -> Iterator[None]:
    @keepfast.hookimpl
    def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
        return {"remote": RemoteBackend, "elsewhere": ElsewhereBackend}

    plugin = SimpleNamespace(keepfast_backends=keepfast_backends)
    keepfast.plugins.registry().register(plugin, "remote-backend")
    RemoteBackend.transfers = ElsewhereBackend.transfers = 0
    yield
    keepfast.plugins.registry().unregister(plugin)
    for name in ("remote", "elsewhere"):
        backends._made.pop(name, None)


def test_values_of_several_kinds_come_back_in_their_places() -> None:
    """However they are mixed, in one transfer for each framework."""
    holder = Holder()
    values: list[Any] = [
        *(Remote(1.0), 2.0, Elsewhere(3.0), np.array(4.0), Remote(5.0)),
        *(True, np.float16(6.0), Elsewhere(7.0), Remote(8.0)),
    ]
    held = [holder.hold(value) for value in values]
    assert [float(array) for array in holder.fetch(held)] == [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 6.0, 7.0, 8.0]
    assert (RemoteBackend.transfers, ElsewhereBackend.transfers) == (1, 1)


def test_an_interval_is_fetched_at_once() -> None:
    """A hundred values on a device cost one transfer, at the end of the interval."""
    tracker = Tracker()
    for number in range(100):
        tracker.track("a", Remote(float(number)))
    assert RemoteBackend.transfers == 0
    assert tracker.statistics() == {"a": 49.5}
    assert RemoteBackend.transfers == 1


def test_a_value_that_is_gone_takes_no_other_with_it() -> None:
    """Its tag is told; every other value of the interval counts, each under its own tag."""
    tracker = Tracker()
    lost = Remote(1.0)
    for tag, value in (("a", 1.0), ("lost", lost), ("b", Remote(2.0)), ("c", Remote(3.0)), ("a", Remote(5.0))):
        tracker.track(tag, value)
    lost.gone = True
    with pytest.raises(keepfast.UsageError, match="`lost`: an array is gone"):
        tracker.statistics()
    assert tracker.statistics() == {"a": 3.0, "b": 2.0, "c": 3.0}
