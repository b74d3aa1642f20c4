"""Checks of what any call may be given, so that what it raises at is told in our words, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keepfast.errors import InvalidValue, as_given


def truth(name: str, given: object) -> bool:
    """Return whether something that was given is true.

    Raises:
        InvalidValue: if it is neither true nor false, as an array of several numbers is.
    """
    try:
        return bool(given)
    except Exception as error:
        raise InvalidValue(f"`{name}` is {as_given(given)}; allowed: True or False") from error


def table(name: str, given: Any, allowed: str = "a mapping, or None") -> dict[Any, Any]:
    """Return what a mapping holds, and nothing of None.

    Raises:
        InvalidValue: if it is neither, or cannot be read.
    """
    try:
        if given is None or isinstance(given, Mapping):
            return {} if given is None else dict(given)
    except Exception as error:
        raise InvalidValue(f"`{name}` is {as_given(given)}, which cannot be read: {_told(error)}") from error
    raise InvalidValue(f"`{name}` is {as_given(given)} ({type(given).__name__}); allowed: {allowed}")


def listed(name: str, given: Any, allowed: str) -> list[Any]:
    """Return what a list, or whatever can be gone through, holds; text is none.

    Raises:
        InvalidValue: if it is none, or cannot be gone through.
    """
    try:
        if isinstance(given, Iterable) and not isinstance(given, str | bytes) and not hasattr(given, "read"):
            return list(given)
    except Exception as error:
        raise InvalidValue(f"`{name}` is {as_given(given)}, which cannot be read: {_told(error)}") from error
    raise InvalidValue(f"`{name}` is {as_given(given)} ({type(given).__name__}); allowed: {allowed}")


def names(name: str, given: Any) -> list[str]:
    """Return a list of text.

    Raises:
        InvalidValue: if it is none.
    """
    found = listed(name, given, "a list of names")
    if all(isinstance(each, str) for each in found):
        return found
    raise InvalidValue(f"`{name}` is {as_given(given)}; allowed: a list of names, which are text")


def function(name: str, given: Any) -> Callable[..., Any]:
    """Return what can be called.

    Raises:
        InvalidValue: if it cannot.
    """
    if callable(given):
        return given  # type: ignore[no-any-return]
    raise InvalidValue(f"`{name}` is {as_given(given)} ({type(given).__name__}); allowed: a function")


def _told(error: Exception) -> str:
    return f"{type(error).__name__} {error}"
