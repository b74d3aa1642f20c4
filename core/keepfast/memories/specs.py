"""TensorSpec: what one tensor of a memory is, and how many samples an array holds for it."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from keepfast.errors import InvalidValue, ShapeMismatch
from keepfast.interfaces.ring import VALID


@final
@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a memory.

    Attributes:
        name: its name.
        size: the shape of one sample.
        dtype: its dtype, named as all frameworks name it: ``float32``, ``bfloat16``, ``bool``.
        keep_dimensions: whether `size` was asked for as it is, instead of as one dimension.
        space: the space that the size was taken from, as text, or "".
    """

    name: str
    size: tuple[int, ...]
    dtype: str
    keep_dimensions: bool = False
    space: str = ""

    def samples_in(self, shape: tuple[int, ...], num_envs: int) -> int:
        """Return how many samples an array of a shape holds.

        Raises:
            ShapeMismatch: if it holds no samples of this tensor; names it, the shape given and the shapes allowed.
        """
        if shape == self.size:
            return 1
        if shape[1:] == self.size and (shape[0] <= num_envs or num_envs == 1):
            return shape[0]
        if shape[1:] == (num_envs, *self.size):
            return shape[0] * num_envs
        raise ShapeMismatch(
            f"`{self.name}` was given with the shape {shape}; expected {(num_envs, *self.size)} for a sample of each "
            f"environment, {self.size} for one sample, (n, {', '.join(map(str, self.size))}) for the samples of n of "
            f"the {num_envs} environments, or (rows, {', '.join(map(str, (num_envs, *self.size)))}) for several rows; "
            "nothing was added"
        )


VALIDITY = TensorSpec(VALID, (1,), "bool")
"""What the tensor is that tells which samples are transitions."""


def positive(name: str, value: Any) -> int:
    """Return a whole number of at least 1, of Python or NumPy.

    Raises:
        InvalidValue: if it is none; tells its name.
    """
    number = operator.index(value) if hasattr(value, "__index__") else 0
    if number < 1:
        raise InvalidValue(f"`{name}` is {value!r}; allowed: a whole number of at least 1")
    return number


def tensor_name(name: Any) -> str:
    """Return the name of a tensor, which every memory format can store.

    Raises:
        InvalidValue: if it is none.
    """
    allowed = "allowed: text that is not empty, without NUL, and that UTF-8 can encode"
    if not isinstance(name, str) or not name or "\0" in name:
        raise InvalidValue(f"a tensor was given the name {name!r}; {allowed}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a tensor was given the name {name!r}; {allowed}") from error
    return name


def sample_size(size: Any, *, keep_dimensions: bool) -> tuple[int, ...]:
    """Return the shape of one sample, from what users give as its size.

    Args:
        size: a number of elements, a shape, or a Gymnasium space.
        keep_dimensions: whether to keep the dimensions of a shape or space, instead of flattening them to one.

    Raises:
        InvalidValue: if it is none of these.
    """
    if not isinstance(size, bool) and (count := _count(size)) is not None:
        return (count,)
    shape = _space_shape(size) if _is_space(size) else size
    if not isinstance(shape, Iterable) or isinstance(shape, str | bytes):
        raise InvalidValue(f"the size {size!r} is none; allowed: a number of elements, a shape, or a Gymnasium space")
    try:
        dimensions = tuple(operator.index(length) for length in shape)
    except TypeError as error:
        raise InvalidValue(f"the size {size!r} is no shape; allowed: whole numbers of at least 0") from error
    if min(dimensions, default=0) < 0:
        raise InvalidValue(f"the size {size!r} is no shape; allowed: whole numbers of at least 0")
    return dimensions if keep_dimensions else (math.prod(dimensions),)


def _count(size: Any) -> int | None:
    """Return a number of elements, of Python or NumPy; None if it is no such number."""
    try:
        number = operator.index(size)
    except TypeError:  # an array of several numbers, which is a shape
        return None
    return number if number >= 0 else None


def _is_space(size: Any) -> bool:
    return hasattr(size, "sample") and hasattr(size, "contains")


def _space_shape(space: Any) -> tuple[int, ...]:
    """Return the shape that a sample of a Gymnasium space is stored with; a discrete one takes one element."""
    parts = getattr(space, "spaces", None)
    if parts is not None:
        spaces = parts.values() if isinstance(parts, Mapping) else parts
        return (sum(math.prod(_space_shape(part)) for part in spaces),)
    if space.shape is None:
        raise InvalidValue(f"samples of the space {space} have no fixed size")
    return tuple(int(length) for length in space.shape) or (1,)
