"""The boundary of public calls: what is raised there at what users gave, whatever that is, is one of Keepfast's errors.

Arguments may be objects of any class, which raise whatever they like whenever they are asked for anything. Checks tell
what is likely to be wrong, in words for it; this is for all the rest.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from keepfast.errors import InvalidValue, KeepfastError, shown

_P = ParamSpec("_P")
_R = TypeVar("_R")
_C = TypeVar("_C", bound=type)

_OURS = frozenset({"keepfast", "keepfast_torch", "keepfast_jax", "keepfast_writers"})
"""Packages that know what the errors of their own calls are about, and tell it: as damage of a file, say."""

_OF_THE_MACHINE = (OSError, MemoryError, Warning)
"""What is raised at no argument: by the operating system, and by warnings that are made errors."""


def guarded(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a public call raise a `KeepfastError` in the place of any other; one that yields does so throughout."""
    name = _named(function)
    if inspect.isgeneratorfunction(function):

        def each(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _told(name):
                yield from function(*args, **kwargs)

        return cast("Callable[_P, _R]", functools.wraps(function)(each))

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  (it is told)
            _raise(name, error)

    return call


def _named(function: Callable[..., Any]) -> str:
    return f"{function.__module__.partition('.')[0]}'s `{getattr(function, '__qualname__', 'call')}`"


def guarded_outside(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Guard a public call that Keepfast itself makes as well, and to whose own modules its errors stay as they are."""
    if inspect.isgeneratorfunction(function):
        guard: Any = guarded(function)

        def each(*args: Any, **kwargs: Any) -> Any:
            return (function if _is_ours(1) else guard)(*args, **kwargs)

        return cast("Callable[_P, _R]", functools.wraps(function)(each))
    name = _named(function)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if _is_ours(1):
                raise
            _raise(name, error)

    return call


def _is_ours(depth: int) -> bool:
    """Say whether the function so many frames above the one that asks was called by Keepfast."""
    caller = sys._getframe(depth + 1)  # noqa: SLF001  (nothing else is as fast)
    return _is_of_ours(caller.f_globals.get("__name__", ""))


@functools.lru_cache(maxsize=1024)
def _is_of_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


def foreign(error: KeepfastError) -> BaseException | None:
    """Return the error of something else in the place of which a guarded call raised one; None of any other."""
    return error.__cause__ if getattr(error, "is_told", False) else None


def tell_outside(name: str, error: BaseException) -> None:
    """Raise what a guarded call raises for an error, unless Keepfast itself made the call that asks."""
    if not _is_ours(2):
        _raise(f"keepfast's `{name}`", error)


def tell(name: str, error: Exception) -> NoReturn:
    """Raise what a guarded call raises for an error; for calls of every step, which no wrapper is to make slower."""
    _raise(f"keepfast's `{name}`", error)


def guarded_calls(*also: str, inside: Collection[str] = ()) -> Callable[[_C], _C]:
    """Guard the public methods and setters of a class that are of its own.

    Args:
        also: the names of others to guard.
        inside: the names of those that guard themselves, by `tell`.
    """
    return _guarding(guarded, also, inside)


def guarded_calls_outside(*, inside: Collection[str] = ()) -> Callable[[_C], _C]:
    """Guard those of a class that Keepfast itself calls as well; see `guarded_outside`."""
    return _guarding(guarded_outside, (), inside)


def _guarding(guarded: Callable[[Any], Any], also: Collection[str], inside: Collection[str]) -> Callable[[_C], _C]:
    def guard(kind: _C) -> _C:
        for name, value in list(vars(kind).items()):
            if (name.startswith("_") and name not in also) or name in inside:
                continue
            if isinstance(value, FunctionType) and not getattr(value, "__isabstractmethod__", False):
                setattr(kind, name, guarded(value))
            elif isinstance(value, classmethod | staticmethod):
                setattr(kind, name, type(value)(guarded(value.__func__)))
            elif isinstance(value, property) and value.fset is not None:
                setattr(kind, name, value.setter(guarded(value.fset)))
        return kind

    return guard


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # noqa: BLE001  (it is told)
        _raise(name, error)


def _raise(name: str, error: BaseException) -> NoReturn:
    if isinstance(error, KeepfastError) or (told := _error_for(name, error)) is None:
        raise error
    told.is_told = True  # type: ignore[attr-defined]  # see `foreign`
    raise told from error


def _error_for(name: str, error: BaseException) -> KeepfastError | None:
    """Return the error to raise in the place of another one, of whose kind it is too; None where that is to be seen."""
    kind = type(error)
    is_panic = kind.__name__ == "PanicException"  # of a library in Rust, at an exception that it has no answer to
    if isinstance(error, _OF_THE_MACHINE) or not (isinstance(error, Exception) or is_panic):
        return None
    told = f"{name} could not do with what it was given: {kind.__name__}: {shown(_text(error), 500)}"
    if not is_panic and not issubclass(InvalidValue, kind):
        with contextlib.suppress(Exception):  # a class that cannot be derived from, or not together with another
            both: Any = type("InvalidValue", (InvalidValue, kind), {"__module__": InvalidValue.__module__})
            made: KeepfastError = both.__new__(both, told)
            made.args = (told,)
            return made
    return InvalidValue(told)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (it is an error of somebody's, who may have made it anyhow)
        return ""
