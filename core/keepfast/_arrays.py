"""Numbers and arrays out of whatever users hand in, without knowing their framework."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, KeepfastError, as_given
from keepfast.tree import dtype_name, is_array

Converter = Callable[[Any], NDArray[Any] | None]
"""Returns a NumPy array of a framework's own array, and None of anything else."""

_converters: list[Converter] = []


def convert_with(converter: Converter) -> None:
    """Have a framework's arrays converted by what knows the modes that the framework may be in."""
    if converter not in _converters:
        _converters.append(converter)


def host_array(value: Any) -> NDArray[Any]:
    """Return a NumPy array of an array, a tensor on any device, or nested lists; waits for the device.

    Raises:
        InvalidValue: if it has no value, or many: it is being traced, or one of a batch in a vmap.
    """
    try:
        if not isinstance(value, np.ndarray):
            for converter in _converters:
                if (array := converter(value)) is not None:
                    return array
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            value = value.detach().cpu()
            if dtype_name(value) in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
                value = value.float()  # NumPy has no such dtype of its own
            return np.asarray(value.numpy())
        return np.asarray(value)
    except KeepfastError:
        raise
    except Exception as error:
        raise InvalidValue(f"no array can be made of {as_given(value)}: {error}") from error


def is_real(array: Any) -> bool:
    """Say whether the elements of an array or tensor are real numbers or booleans."""
    kind = getattr(array.dtype, "kind", "V")  # NumPy's one-letter kind; V for dtypes that are not its own
    return kind in "biuf" or (kind == "V" and dtype_name(array).startswith(("bool", "int", "uint", "float", "bfloat")))


def check_number(value: Any, tag: str) -> None:
    """Check, without waiting for a device, that a value is one number.

    Raises:
        InvalidValue: if it is not; names the tag and what was given.
    """
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise InvalidValue(f"the value of `{tag}` is too large: an int of {value.bit_length()} bits")
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        return
    if not is_array(value):
        raise InvalidValue(
            f"the value of `{tag}` is no number: {as_given(value)} ({type(value).__name__}); "
            "allowed: int, float, or an array or tensor that holds one number"
        )
    try:
        size = int(np.prod(tuple(value.shape)))
    except Exception as error:
        raise InvalidValue(f"the value of `{tag}` is no number yet: it is being traced, {error}") from error
    if size != 1:
        raise InvalidValue(
            f"the value of `{tag}` has the shape {tuple(value.shape)}, so it is no single number; reduce it first, "
            "with .mean() for example"
        )
    if not is_real(value):
        raise InvalidValue(f"the value of `{tag}` has the dtype {dtype_name(value)}, which is no real number")


def scalar(value: Any, tag: str) -> float:
    """Return a value as a Python float; waits for the device where it is a tensor.

    Raises:
        InvalidValue: if it is no single number.
    """
    check_number(value, tag)
    if not is_array(value):
        return float(value)
    try:
        return float(host_array(value).reshape(-1)[0])
    except InvalidValue as error:
        raise InvalidValue(f"the value of `{tag}`: {error}") from None


def environments(envs: Any, num_envs: int) -> NDArray[np.intp]:
    """Return the numbers of environments that a user names.

    Args:
        envs: a mask of shape (num_envs,), in any of the usual forms, or their numbers.
        num_envs: how many environments there are.

    Raises:
        InvalidValue: if it is neither.
    """
    places = np.atleast_1d(host_array(envs)).reshape(-1)
    if places.dtype.kind == "b" and places.size == num_envs:
        return np.flatnonzero(places)
    if places.size == 0 or (places.dtype.kind in "iu" and places.min() >= 0 and places.max() < num_envs):
        return places.astype(np.intp)
    raise InvalidValue(
        f"`envs` is {as_given(envs)}; allowed: a mask of shape ({num_envs},), numbers from 0 to "
        f"{num_envs - 1}, or None for all environments"
    )
