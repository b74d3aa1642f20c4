"""TensorSpec: what one tensor of a memory is, and how many samples an array holds for it."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from keepfast.errors import InvalidValue, ShapeMismatch, as_given
from keepfast.interfaces.ring import VALID
from keepfast.memories.tensors.spaces import is_composite, is_space, sample_limits, sample_shape, space_bounds


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
        shape: the shape of one sample as it is given, where it is stored with its dimensions flattened to one.
        limits: whole numbers that no sample is below or above, where the space tells.
        bounds: which samples the space has; see `space_bounds`.
    """

    name: str
    size: tuple[int, ...]
    dtype: str
    keep_dimensions: bool = False
    space: str = ""
    shape: tuple[int, ...] | None = None
    limits: tuple[int, int] | None = None
    bounds: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, name: str, size: Any, dtype: str, *, keep_dimensions: bool = False) -> TensorSpec:
        """Return what a tensor is that is created with what users give as its size."""
        stored = sample_size(size, keep_dimensions=keep_dimensions)
        if not is_space(size):
            shape = None if _is_count(size) else tuple(int(length) for length in size)
            return cls(name, stored, dtype, keep_dimensions, "", None if shape == stored else shape)
        shape = None if is_composite(size) else sample_shape(size)
        known = sample_limits(size), None if shape is None else space_bounds(size)
        return cls(name, stored, dtype, keep_dimensions, repr(size), None if shape == stored else shape, *known)

    def samples_in(self, shape: tuple[int, ...], num_envs: int) -> int:
        """Return how many samples an array of a shape holds.

        A sample may be as it is stored or as its space has it, and a single number needs no dimension.

        Raises:
            ShapeMismatch: if it holds no samples of this tensor; names it, the shape given and the shapes allowed.
        """
        if math.prod(self.size) == 1 and shape in ((), (num_envs,)):
            return math.prod(shape)
        for one in (self.size, self.size if self.shape is None else self.shape):
            if shape == one:
                return 1
            if shape[1:] == one and (shape[0] <= num_envs or num_envs == 1):
                return shape[0]
            if shape[1:] == (num_envs, *one):
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
    try:
        number = operator.index(value)
    except Exception:  # noqa: BLE001  (whatever it says of that, it is no number)
        number = 0
    if not 1 <= number <= sys.maxsize or isinstance(value, bool):
        raise InvalidValue(f"`{name}` is {as_given(value)}; allowed: a whole number of at least 1")
    return number


def tensor_name(name: Any) -> str:
    """Return the name of a tensor, which every memory format can store.

    Raises:
        InvalidValue: if it is none.
    """
    allowed = "allowed: text that is not empty, without NUL, and that UTF-8 can encode"
    if not isinstance(name, str) or not name or "\0" in name:
        raise InvalidValue(f"a tensor was given the name {as_given(name)}; {allowed}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a tensor was given the name {as_given(name)}; {allowed}") from error
    return name


def sample_size(size: Any, *, keep_dimensions: bool) -> tuple[int, ...]:
    """Return the shape that one sample is stored with, from what users give as its size.

    Args:
        size: a number of elements, a shape, or a Gymnasium space.
        keep_dimensions: whether to keep the dimensions of a shape or space, instead of flattening them to one.

    Raises:
        InvalidValue: if it is none of these.
    """
    if _is_count(size):
        return (operator.index(size),)
    shape = (sample_shape(size) or (1,)) if is_space(size) else size
    if not isinstance(shape, Iterable) or isinstance(shape, str | bytes):
        raise InvalidValue(
            f"the size {as_given(size)} is none; allowed: a number of elements, a shape, or a Gymnasium space"
        )
    try:
        dimensions = tuple(operator.index(length) for length in shape)
    except Exception as error:
        raise InvalidValue(f"the size {as_given(size)} is no shape; allowed: whole numbers of at least 0") from error
    if min(dimensions, default=0) < 0:
        raise InvalidValue(f"the size {as_given(size)} is no shape; allowed: whole numbers of at least 0")
    return dimensions if keep_dimensions else (math.prod(dimensions),)


def _is_count(size: Any) -> bool:
    """Say whether a size is a number of elements, of Python or NumPy."""
    try:
        return not isinstance(size, bool) and operator.index(size) >= 0
    except Exception:  # noqa: BLE001  (an array of several numbers, which is a shape, or nothing at all)
        return False
