"""Storage: the tensors of a memory on one framework, and the few operations on them that differ between frameworks."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded
from keepfast.errors import InvalidValue, as_given
from keepfast.memories.tensors.specs import positive


class Storage(abc.ABC):
    """Keeps the tensors of one memory as flat buffers of a framework, of shape (memory_size * num_envs, *size).

    A `Memory` holds one, and does everything else: it names and checks tensors, knows where the next sample goes, and
    lets one thread in at a time. A sample's place in a buffer is row * num_envs + environment. What is not abstract is
    right for buffers that are changed in place and indexed as NumPy's are, with NumPy's global random numbers.

    The smallest complete storage, of NumPy arrays::

        class NumpyStorage(keepfast.Storage):
            backend = "numpy"

            def dtype_name(self, dtype):
                try:
                    found = np.dtype(dtype)
                except (TypeError, ValueError) as error:
                    raise keepfast.InvalidValue(f"NumPy has no dtype {dtype!r}") from error
                if found.kind not in "biuf":
                    raise keepfast.InvalidValue(f"{found} is no dtype of real numbers")
                return found.name

            def allocate(self, shape, dtype):
                chosen = np.dtype("float32" if dtype is None else dtype)
                return np.full(shape, np.nan if chosen.kind == "f" else 0, chosen)

            def array(self, value):
                array = np.asarray(value)
                if array.dtype.kind not in "biuf":
                    raise TypeError(f"NumPy makes an array of {array.dtype} of it")
                return array

            def write(self, start, samples):
                for name, values in samples.items():
                    self.buffers[name][start : start + len(values)] = values

            def host_array(self, value):
                return np.array(value)

    A memory of it is ``keepfast.Memory(NumpyStorage(memory_size=16, num_envs=4))``; backends give their users a
    `RandomMemory` that makes both. `keepfast.testing.MemoryContract` proves it.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the buffers live, as the framework tells it; what users name is for a subclass to understand.

    Attributes:
        buffers: each tensor's buffer by its name; `Memory` puts there what `allocate` returned.

    Raises:
        InvalidValue: if a size is no positive whole number.
    """

    backend: ClassVar[str]
    """The name of the framework's backend."""

    keeps_wide: ClassVar[str] = ""
    """How to have the framework keep dtypes that it narrows, where it narrows any."""

    gives_views: ClassVar[bool] = True
    """Whether what `view` and `slice` return is of the buffers' own memory, so that whoever has it can change it."""

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        self.memory_size = positive("memory_size", memory_size)
        self.num_envs = positive("num_envs", num_envs)
        self.device = device
        self.buffers: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs, independent of samples that are added later wherever a framework can have it so."""
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def plainly(self) -> contextlib.AbstractContextManager[Any]:
        """Return what buffers are handled in, so that no mode of the framework that a caller is in reaches them."""
        return contextlib.nullcontext()

    # making and writing ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def dtype_name(self, dtype: Any) -> str:
        """Return the name of the dtype that a tensor has which is created with a dtype, given in any of the usual ways.

        Raises:
            InvalidValue: if the framework, or NumPy, has no such dtype.
        """

    @abc.abstractmethod
    def allocate(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new buffer, filled with NaN where its dtype has such a value, else with zeros.

        Args:
            shape: its shape.
            dtype: a name that `dtype_name` returned, or None for the framework's default floating-point dtype.
        """

    @abc.abstractmethod
    def array(self, value: Any) -> Any:
        """Return something with a shape, an index and `reshape` of whatever users give as samples.

        Raises:
            Exception: whatever says that no numbers can be made of it.
        """

    def numbers(self, name: str, value: Any) -> Any:
        """Return what users give for a tensor as an array; see `array`.

        Raises:
            InvalidValue: if no numbers can be made of it; names the tensor.
        """
        try:
            return self.array(value)
        except Exception as error:
            given = f"a {type(value).__qualname__}"
            raise InvalidValue(f"`{name}` was given {given}, and numbers are needed: {error}") from error

    @abc.abstractmethod
    def write(self, start: int, samples: Mapping[str, Any]) -> None:
        """Copy arrays of shape (n, *size) into the buffers of their names, from a place on."""

    def write_row(self, row: int, tensors: Mapping[str, Any]) -> None:
        """Copy what users give, of shape (num_envs, *size), into a row; by far the usual case."""
        self.write(row * self.num_envs, {name: self.numbers(name, values) for name, values in tensors.items()})

    def joined(self, arrays: Sequence[Any]) -> Any:
        """Return arrays of shape (n, size), which `numbers` returned, behind one another in the second dimension."""
        return np.concatenate(arrays, axis=1)

    # reading ---------------------------------------------------------------------------------------------------------

    def view(self, name: str, shape: tuple[int, ...]) -> Any:
        """Return a buffer with another shape; a copy where the framework's arrays cannot be changed."""
        return self.buffers[name].reshape(shape)

    @abc.abstractmethod
    def host_array(self, value: Any) -> NDArray[Any]:
        """Return an array of the framework, or of NumPy, as a NumPy array of the same dtype."""

    def is_on_host(self, array: Any) -> bool:
        """Say whether what `array` returned can be looked at without waiting for a device."""
        return isinstance(array, np.ndarray)

    def host_part(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the samples from one place to another as a NumPy array."""
        return self.host_array(self.slice(name, start, stop))

    def host_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return an independent copy of the samples from one place to another as a NumPy array."""
        return np.array(self.host_part(name, start, stop))

    def host(self, name: str) -> NDArray[Any]:
        """Return an independent copy of a buffer as a NumPy array."""
        return np.array(self.host_array(self.buffers[name]))

    def draw(self, size: int, count: int, *, replacement: bool) -> Any:
        """Return random numbers below a size, as `take` takes places; without replacement no more than there are."""
        # The global generator is the one that users seed and that checkpoints keep.
        if replacement:
            return np.random.randint(size, size=count)  # noqa: NPY002
        return np.random.permutation(size)[:count]  # noqa: NPY002

    def skip(self, ranks: Any, skipped: Any) -> Any:
        """Return the places that have some ranks, from 0 on, among all places but a few.

        Args:
            ranks: what `draw` returned.
            skipped: for each place that is left out, in their order, the rank that the next one that is not has.
        """
        return ranks + np.searchsorted(skipped, ranks, side="right")

    def places(self, indexes: Any) -> Any:
        """Return places, given in any form, as an array that `take` takes and that adds and slices as NumPy's do.

        Raises:
            InvalidValue: if they are no places of the memory. Places that are on another device are not checked.
        """
        return checked_places(indexes, self.memory_size * self.num_envs)

    def take(self, names: Sequence[str], places: Any) -> list[Any]:
        """Return the samples at some places, for each name."""
        return [self.buffers[name][places] for name in names]

    def slice(self, name: str, start: int, stop: int) -> Any:
        """Return the samples from one place to another."""
        return self.buffers[name][start:stop]

    def versions(self) -> dict[str, str]:
        """Return the versions of the framework's packages, which files tell."""
        return {}


@guarded
def checked_places(indexes: Any, capacity: int) -> NDArray[np.intp]:
    """Return places that users give as an array of NumPy.

    Args:
        indexes: whole numbers, as a list or in one dimension.
        capacity: how many places there are.

    Raises:
        InvalidValue: if they are no whole numbers, or not below the number of places.
    """
    if not isinstance(capacity, int | np.integer) or isinstance(capacity, bool):
        raise InvalidValue(f"`capacity` is {as_given(capacity)}; allowed: how many places there are")
    try:
        places = np.asarray(indexes)
    except Exception as error:
        raise InvalidValue(f"indexes are {as_given(indexes)}; allowed: whole numbers in one dimension") from error
    if places.size == 0:
        places = places.astype(np.intp)  # an empty list makes an array of floats
    if places.dtype.kind not in "iu" or places.ndim != 1:
        raise InvalidValue(
            f"indexes of {places.dtype} and shape {places.shape} were given; allowed: whole numbers in one dimension"
        )
    if places.size and not 0 <= (low := int(places.min())) <= (high := int(places.max())) < capacity:
        wrong = low if low < 0 else high
        raise InvalidValue(f"the index {wrong} is none of the memory; allowed: 0 to {capacity - 1}")
    return places.astype(np.intp, copy=False)
