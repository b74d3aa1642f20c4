"""What public calls raise at what they are given is one of Keepfast's errors, and of the kind that it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import keepfast
from keepfast._system.arguments.guarding import guarded, guarded_calls


class OfTheirOwn(Exception):
    """An error of a class that nobody knows."""


@guarded
def call(error: BaseException) -> None:
    raise error


@guarded
def each(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


@guarded_calls("__init__")
class Holder:
    """Has a call of each kind."""

    def __init__(self, error: BaseException | None = None) -> None:
        if error is not None:
            raise error

    def method(self, error: BaseException) -> None:
        raise error

    @property
    def value(self) -> int:
        return 1

    @value.setter
    def value(self, error: BaseException) -> None:
        raise error

    @classmethod
    def made(cls, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ReferenceError("x"), KeyError("x"), TypeError("x"), OfTheirOwn("x")]
)
def test_the_error_is_of_both_kinds(error: Exception) -> None:
    """It names the call and what was raised, which is its cause."""
    with pytest.raises(keepfast.InvalidValue, match=r"`call` could not do with what it was given: \w+: ") as caught:
        call(error)
    assert isinstance(caught.value, type(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), OSError("x"), MemoryError(), UserWarning("x")])
def test_what_is_of_the_machine_passes(error: BaseException) -> None:
    """And so does an error of Keepfast's own."""
    for raised in (error, keepfast.NotFound("x")):
        with pytest.raises(type(raised)) as caught:
            call(raised)
        assert caught.value is raised


def test_every_kind_of_call_is_guarded() -> None:
    """A constructor, a method, a setter, a method of the class, and what yields, after it has yielded too."""
    error = OfTheirOwn("x")
    held = Holder()
    for raising in (Holder, held.method, Holder.made, lambda given: setattr(held, "value", given)):
        with pytest.raises(keepfast.InvalidValue):
            raising(error)
    found = each(error)
    assert next(found) == 1
    with pytest.raises(keepfast.InvalidValue):
        next(found)
