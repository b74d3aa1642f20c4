"""The modes of JAX that a call may be made in, and how it is made as outside of them all the same.

Such are its transformations (jit, grad, vmap, scan), within which whatever is computed would be traced, and its
debugging settings: guards of transfers, checks of NaNs, of promotions and of leaks.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax

_P = ParamSpec("_P")
_R = TypeVar("_R")

SETTINGS: dict[str, Any] = {
    "check_tracer_leaks": False,
    "debug_infs": False,
    "debug_key_reuse": False,
    "debug_nans": False,
    "legacy_prng_key": "allow",
    "no_execution": False,
    "no_tracing": False,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "transfer_guard_device_to_device": "allow",
    "transfer_guard_device_to_host": "allow",
    "transfer_guard_host_to_device": "allow",
}
"""Settings that raise where arrays are only copied, each with the value that lets them be."""

_NAMES = tuple(name for name in SETTINGS if hasattr(jax.config, f"jax_{name}") and hasattr(jax, name))
_read = operator.attrgetter(*(f"jax_{name}" for name in _NAMES))
# The only call that tells it within a fraction of a microsecond; others have to compare what they cannot look into.
_is_at_top: Callable[[], bool] = importlib.import_module("jax._src.core").trace_state_clean

_harmless: set[tuple[Any, ...]] = set()


def _harmful() -> list[str]:
    """Return the names of the settings that have another value now."""
    current = _read(jax.config)
    if current in _harmless:
        return []
    plain = [getattr(value, "value", value) for value in current]  # some are enumerations
    found = [name for name, value in zip(_NAMES, plain, strict=True) if value not in (None, SETTINGS[name])]
    if not found:
        _harmless.add(current)
    return found


def is_mode_on() -> bool:
    """Say whether there is a mode to leave at all."""
    return not _is_at_top() or bool(_harmful())


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Do what is in the block at once, with arrays that have values, whatever mode the caller is in."""
    with contextlib.ExitStack() as modes:
        if not _is_at_top():
            modes.enter_context(jax.core.eval_context())
        for name in _harmful():
            modes.enter_context(getattr(jax, name)(SETTINGS[name]))
        yield


def eagerly(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a compiled function as it is, or, where a mode of the caller's would reach it, outside of that.

    This costs next to nothing where there is no such mode. A function that consumes its arguments must not have done so
    when it raises.
    """
    config: Any = jax.config
    # JAX looks for NaNs only when all is computed and consumed, and buffers begin with them.
    if _is_at_top() and not config.jax_debug_nans and not config.jax_debug_infs:
        try:
            return function(*args, **kwargs)
        except Exception:  # noqa: BLE001  (what is wrong in itself is raised again)
            return _called_outside(function, *args, **kwargs)
    return _called_outside(function, *args, **kwargs)


def _called_outside(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    with outside():
        return function(*args, **kwargs)


def outside_of_modes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function run as in `outside`."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with outside():
            return function(*args, **kwargs)

    return run
