"""TensorStorage: the tensors of a memory, and the few operations on them that differ between frameworks."""

from __future__ import annotations

import abc
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from keepfast._system.lifetimes import in_child
from keepfast.errors import InvalidValue, ShapeMismatch, UnknownTensor, did_you_mean
from keepfast.memories.specs import TensorSpec, positive, sample_size, tensor_name


class TensorStorage(abc.ABC):
    """Holds tensors of shape (memory_size, num_envs, *size), each in a flat buffer of (memory_size * num_envs, *size).

    One thread may add samples while another samples, saves or loads: each call is completed before the next begins.
    Pickling and copying a memory is no such call; on PyTorch no thread may add meanwhile.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live; None is the framework's default.

    Raises:
        InvalidValue: if a size is no positive whole number.
    """

    backend: ClassVar[str]
    """The name of the framework."""

    _keeps_wide: ClassVar[str] = ""
    """How to have the framework keep dtypes that it narrows, where it narrows any."""

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        self.memory_size = positive("memory_size", memory_size)
        self.num_envs = positive("num_envs", num_envs)
        self.device = self._parse_device(device)
        self._capacity = self.memory_size * self.num_envs
        self._specs: dict[str, TensorSpec] = {}
        self._row_shapes: dict[str, tuple[int, ...]] = {}
        self._flat: dict[str, Any] = {}
        self._renew_lock()
        in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()  # in a child too: a thread that held the other stayed with the parent

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew_lock()
        in_child(self._renew_lock)

    # what differs between frameworks ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def _parse_device(self, device: Any) -> Any:
        """Return the device that users name."""

    @abc.abstractmethod
    def _dtype_name(self, dtype: Any) -> str:
        """Return the name of the dtype that a tensor has which is created with a dtype, given in any of the usual ways.

        Raises:
            InvalidValue: if the framework, or NumPy, has no such dtype.
        """

    @abc.abstractmethod
    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new buffer, filled with NaN where its dtype has such a value, else with zeros."""

    @abc.abstractmethod
    def _array(self, value: Any) -> Any:
        """Return something with a shape, an index and `reshape` of whatever users give as samples.

        Raises:
            TypeError, ValueError, RuntimeError: if no numbers can be made of it.
        """

    @abc.abstractmethod
    def _write(self, start: int, samples: Mapping[str, Any]) -> None:
        """Copy samples of shape (n, *size) into the buffers of their names, from a place on."""

    @abc.abstractmethod
    def _view(self, name: str, shape: tuple[int, ...]) -> Any:
        """Return a buffer with another shape."""

    @abc.abstractmethod
    def _host_array(self, value: Any) -> NDArray[Any]:
        """Return an array of the framework, or of NumPy, as a NumPy array of the same dtype."""

    @abc.abstractmethod
    def _host(self, name: str) -> NDArray[Any]:
        """Return a copy of a buffer as a NumPy array."""

    # tensors ---------------------------------------------------------------------------------------------------------

    def create_tensor(self, name: str, size: Any, dtype: Any = None, keep_dimensions: bool = False) -> bool:
        """Create a tensor of shape (memory_size, num_envs, *size); floating-point ones begin as NaN, others as zeros.

        Args:
            name: its name, by which `add_samples` and `sample` know it.
            size: the size of one sample: a number of elements, a shape, or a Gymnasium space.
            dtype: its dtype, in the framework's terms; None is the framework's default floating-point one.
            keep_dimensions: whether to keep the dimensions of a shape or space, instead of flattening them to one.

        Returns:
            Whether it was created; False where it exists already, of the same size and dtype.

        Raises:
            ShapeMismatch: if it exists with another size.
            InvalidValue: if it exists with another dtype, the size or the dtype is none, or the name could not be
                stored in files.
        """
        shape = sample_size(size, keep_dimensions=keep_dimensions)
        with self._lock:
            if name in self._specs:
                self._check_same(self._specs[name], shape, dtype)
                return False
            if dtype is not None:
                dtype = self._dtype_name(dtype)
            buffer = self._allocate((self._capacity, *shape), dtype)
            space = repr(size) if hasattr(size, "sample") else ""
            spec = TensorSpec(tensor_name(name), shape, self._dtype_name(buffer.dtype), keep_dimensions, space)
            self._register(spec, buffer)
        return True

    def _register(self, spec: TensorSpec, buffer: Any) -> None:
        self._specs[spec.name] = spec
        self._row_shapes[spec.name] = (self.num_envs, *spec.size)
        self._flat[spec.name] = buffer

    def _check_same(self, existing: TensorSpec, shape: tuple[int, ...], dtype: Any) -> None:
        if shape != existing.size:
            raise ShapeMismatch(f"the tensor `{existing.name}` exists with the size {existing.size}, not {shape}")
        if dtype is not None and self._dtype_name(dtype) != existing.dtype:
            name = self._dtype_name(dtype)
            raise InvalidValue(f"the tensor `{existing.name}` exists with the dtype {existing.dtype}, not {name}")

    def get_tensor_names(self) -> list[str]:
        """Return the names of the tensors, in alphabetical order."""
        return sorted(self._specs)

    def get_tensor_by_name(self, name: str, keepdim: bool = True) -> Any:
        """Return a tensor.

        Args:
            name: its name.
            keepdim: whether to return it with the shape (memory_size, num_envs, *size); otherwise it is
                (memory_size * num_envs, *size).

        Returns:
            On PyTorch the tensor itself, so that changing it changes the memory; on JAX, whose arrays cannot be
            changed, a copy.

        Raises:
            UnknownTensor: if there is none of that name.
        """
        size = self._spec(name).size
        with self._lock:
            return self._view(name, (self.memory_size, self.num_envs, *size) if keepdim else (self._capacity, *size))

    def set_tensor_by_name(self, name: str, tensor: Any) -> None:
        """Replace all values of a tensor.

        Raises:
            UnknownTensor: if there is none of that name.
            ShapeMismatch: if the new values are of neither shape that `get_tensor_by_name` returns.
            InvalidValue: if no numbers can be made of them.
        """
        spec, values = self._spec(name), self._numbers(name, tensor)
        full = (self.memory_size, self.num_envs, *spec.size)
        flat = (self._capacity, *spec.size)
        if tuple(values.shape) not in (full, flat):
            raise ShapeMismatch(f"`{name}` was given with the shape {tuple(values.shape)}; expected {full}")
        with self._lock:
            self._write(0, {name: values.reshape(flat)})
            self._changed()

    def _spec(self, name: str) -> TensorSpec:
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownTensor(f"the memory has no tensor `{name}`{did_you_mean(name, self._specs)}") from None

    def _numbers(self, name: str, value: Any) -> Any:
        """Return what users give for a tensor as an array; see `_array`."""
        try:
            return self._array(value)
        except (TypeError, ValueError, RuntimeError) as error:
            given = f"a {type(value).__qualname__}"
            raise InvalidValue(f"`{name}` was given {given}, and numbers are needed: {error}") from error

    def _changed(self) -> None:  # noqa: B027  (for subclasses that remember something of the samples)
        """Take note that samples were added or replaced."""
