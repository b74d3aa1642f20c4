"""Checks what a writer is given, at the call: later it would be an error on the writer's own thread."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import host_array, is_real
from keepfast._system.arguments.checks import table
from keepfast.errors import InvalidValue, ShapeMismatch, as_given

_AXES = frozenset("NCHWT")
_CHANNELS = (1, 3, 4)
_MOST_BINS = 1_000_000


def writable(text: str) -> str:
    """Return a text with what no encoding can hold, a lone surrogate, spelled out, so that no writer fails for it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def string(value: Any, name: str) -> str:
    """Return a text.

    Raises:
        InvalidValue: if it is none.
    """
    if isinstance(value, str):
        return writable(value)
    raise InvalidValue(f"`{name}` is {as_given(value)} ({type(value).__name__}); allowed: a string")


def whole(step: Any, name: str = "step") -> int:
    """Return a step as Python's own int.

    Raises:
        InvalidValue: if it is no whole number, NumPy's among them; True is none.
    """
    try:
        if isinstance(step, bool):
            raise TypeError
        return operator.index(step)
    except Exception:  # noqa: BLE001  (as above)
        raise InvalidValue(f"`{name}` is {as_given(step)} ({type(step).__name__}); allowed: a whole number") from None


def step_of(global_step: Any) -> int:
    """Return the step of a call, 0 where none was given."""
    return 0 if global_step is None else whole(global_step, "global_step")


def time_of(walltime: Any) -> float:
    """Return the time of a call in seconds since the epoch, the present where none was given.

    Raises:
        InvalidValue: if it is no number.
    """
    if walltime is None:
        return time.time()
    try:
        if isinstance(walltime, str):
            raise TypeError
        return float(walltime)
    except Exception:  # noqa: BLE001  (it is no number, whatever it says of that)
        raise InvalidValue(
            f"`walltime` is {as_given(walltime)} ({type(walltime).__name__}); allowed: seconds since the epoch"
        ) from None


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return a mapping.

    Raises:
        InvalidValue: if it is none.
    """
    if isinstance(value, dict):
        return value
    return table(name, value if value is not None else (), "a mapping from strings")


def numbers(value: Any, name: str, *, dimensions: Sequence[int] = ()) -> NDArray[Any]:
    """Return real numbers as an array on the host.

    Args:
        value: an array, a tensor or nested lists.
        name: what it is called.
        dimensions: how many dimensions it may have; any number if empty.

    Raises:
        InvalidValue: if it is anything else, or empty.
        ShapeMismatch: if it has another number of dimensions.
    """
    try:
        array = host_array(value)
    except InvalidValue as error:
        raise InvalidValue(f"`{name}`: {error}") from None
    except Exception as error:
        raise InvalidValue(f"`{name}` is {type(value).__name__}, and no array of it can be made: {error}") from error
    if not is_real(array) or not array.size:
        told = "is empty" if is_real(array) else f"holds {array.dtype}"
        raise InvalidValue(f"`{name}` {told} ({as_given(value)}); allowed: real numbers")
    if dimensions and array.ndim not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise ShapeMismatch(f"`{name}` has the shape {array.shape}; allowed: {allowed} dimensions")
    return array


def image(value: Any, name: str, dataformats: Any) -> NDArray[Any]:
    """Return an image, or a batch of them, whose axes are named by `dataformats`.

    Raises:
        InvalidValue: if the axes do not fit it, or it is none.
    """
    array = numbers(value, name)
    axes = string(dataformats, "dataformats").upper()
    fits = len(axes) == array.ndim and len(set(axes)) == len(axes) and {"H", "W"} <= set(axes) <= _AXES
    if not fits or ("C" in axes and array.shape[axes.index("C")] not in _CHANNELS):
        raise InvalidValue(
            f"`{name}` has the shape {array.shape}, and `dataformats` is {as_given(dataformats)}; "
            "allowed: a letter for each axis, such as CHW, HWC, HW or NCHW, with 1, 3 or 4 channels"
        )
    return array


def bins_of(bins: Any, max_bins: Any, values: NDArray[Any]) -> str | Sequence[float]:
    """Return the bins of a histogram: a name, or edges; `max_bins` stands for so many of equal width.

    Raises:
        InvalidValue: if it is neither.
    """
    if max_bins is not None:
        count = whole(max_bins, "max_bins")
        if not 1 <= count <= _MOST_BINS:
            raise InvalidValue(f"`max_bins` is {as_given(count)}; allowed: a number from 1 to {_MOST_BINS:,}")
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        return [float(edge) for edge in np.histogram_bin_edges(finite.astype(np.float64), count)]
    if isinstance(bins, str):
        return bins
    return [float(edge) for edge in numbers(bins, "bins", dimensions=(1,))]
