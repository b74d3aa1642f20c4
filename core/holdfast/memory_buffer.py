"""MemoryBuffer: a circular buffer of samples, whatever the framework of its tensors."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from numpy.typing import NDArray

from holdfast.errors import InvalidValue, ShapeMismatch, UnknownTensor, did_you_mean
from holdfast.memory import MemorySnapshot
from holdfast.memory_fit import Fit, check_tensors, fitted
from holdfast.memory_tensors import TensorSpec, positive, sample_size


class MemoryBuffer(abc.ABC):
    """Keeps the newest samples of a number of environments in tensors of shape (memory_size, num_envs, *size).

    Two numbers say where the next sample goes: `memory_index`, the row, and `env_index`, the environment. When the
    last row is complete, the next sample overwrites the oldest. Samples lie in order in flat buffers of shape
    (memory_size * num_envs, *size); the few operations on them that differ between frameworks are the abstract
    methods.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live; None is the framework's default.

    Raises:
        InvalidValue: if a size is no positive whole number.
    """

    backend: ClassVar[str]
    """The name of the framework."""

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        self.memory_size = positive("memory_size", memory_size)
        self.num_envs = positive("num_envs", num_envs)
        self.device = self._parse_device(device)
        self._specs: dict[str, TensorSpec] = {}
        self._row_shapes: dict[str, tuple[int, ...]] = {}
        self._flat: dict[str, Any] = {}
        self.memory_index, self.env_index, self.filled = 0, 0, False

    # what differs between frameworks ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def _parse_device(self, device: Any) -> Any:
        """Return the device that users name."""

    @abc.abstractmethod
    def _dtype_name(self, dtype: Any) -> str:
        """Return the name of a dtype, given in any of the ways that the framework takes."""

    @abc.abstractmethod
    def _framework_dtype(self, name: str) -> Any:
        """Return the dtype of a name.

        Raises:
            InvalidValue: if the framework has none.
        """

    @abc.abstractmethod
    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new buffer, filled with NaN where its dtype has such a value, else with zeros."""

    @abc.abstractmethod
    def _array(self, value: Any) -> Any:
        """Return something with a shape, an index and `reshape` of whatever users give as samples."""

    @abc.abstractmethod
    def _write(self, start: int, samples: Mapping[str, Any]) -> None:
        """Copy samples of shape (n, *size) into the buffers of their names, from a place on."""

    def _write_row(self, row: int, tensors: Mapping[str, Any]) -> None:
        """Copy arrays of shape (num_envs, *size) into a row."""
        self._write(row * self.num_envs, {name: self._array(values) for name, values in tensors.items()})

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
            InvalidValue: if it exists with another dtype, or the size is none.
        """
        shape = sample_size(size, keep_dimensions=keep_dimensions)
        if name in self._specs:
            self._check_same(self._specs[name], shape, dtype)
            return False
        self._flat[name] = self._allocate((self.memory_size * self.num_envs, *shape), dtype)
        self._row_shapes[name] = (self.num_envs, *shape)
        space = repr(size) if hasattr(size, "sample") else ""
        self._specs[name] = TensorSpec(name, shape, self._dtype_name(self._flat[name].dtype), keep_dimensions, space)
        return True

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
        spec = self._spec(name)
        return self._view(name, (self.memory_size, self.num_envs, *spec.size) if keepdim else (-1, *spec.size))

    def set_tensor_by_name(self, name: str, tensor: Any) -> None:
        """Replace all values of a tensor.

        Raises:
            UnknownTensor: if there is none of that name.
            ShapeMismatch: if the new values are of neither shape that `get_tensor_by_name` returns.
        """
        spec, values = self._spec(name), self._array(tensor)
        full = (self.memory_size, self.num_envs, *spec.size)
        flat = (self.memory_size * self.num_envs, *spec.size)
        if tuple(values.shape) not in (full, flat):
            raise ShapeMismatch(f"`{name}` was given with the shape {tuple(values.shape)}; expected {full}")
        self._write(0, {name: values.reshape(flat)})
        self._changed()

    def _spec(self, name: str) -> TensorSpec:
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownTensor(f"the memory has no tensor `{name}`{did_you_mean(name, self._specs)}") from None

    # samples ---------------------------------------------------------------------------------------------------------

    def add_samples(self, **tensors: Any) -> None:
        """Add samples, in order, from (memory_index, env_index) on; the oldest are overwritten.

        Every array holds the same number of samples, in one of these shapes: (num_envs, *size) is one of each
        environment; *size* is one sample; (n, *size) are the samples of n environments, or, where there is only one
        environment, any number of its samples; (rows, num_envs, *size) are several rows. Tensors that are not given
        keep what they hold in those places. All arrays are checked before the first is written.

        Args:
            **tensors: the samples by the name of their tensor; converted to its dtype and device.

        Raises:
            UnknownTensor: if a name is not that of a tensor; `create_tensor` makes one.
            ShapeMismatch: if an array has another shape, or the arrays hold different numbers of samples.
        """
        if self.env_index == 0 and self._is_row(tensors):
            self._write_row(self.memory_index, tensors)
            self._advance(self.num_envs)
            return
        count, samples = self._checked(tensors)
        capacity = self.memory_size * self.num_envs
        done = 0
        while done < count:
            start = self.memory_index * self.num_envs + self.env_index
            taken = min(count - done, capacity - start)
            whole = taken == count
            self._write(start, samples if whole else {k: v[done : done + taken] for k, v in samples.items()})
            done += taken
            self._advance(taken)

    def _is_row(self, tensors: Mapping[str, Any]) -> bool:
        """Say whether the tensors are arrays with one sample of each environment, which is by far the usual case."""
        shapes = self._row_shapes
        for name, values in tensors.items():
            if shapes.get(name, 0) != getattr(values, "shape", None):
                return False
        return bool(tensors)

    def _advance(self, count: int) -> None:
        place = self.memory_index * self.num_envs + self.env_index + count
        self.memory_index, self.env_index = divmod(place, self.num_envs)
        self._changed()
        if self.memory_index == self.memory_size:
            self._complete_cycle()

    def _checked(self, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the number of samples, and each array with the shape (number, *size)."""
        if not tensors:
            raise InvalidValue("`add_samples` was given no tensors; give them by name, as in `add_samples(states=...)`")
        samples, counts = {}, {}
        for name, given in tensors.items():
            spec, values = self._spec(name), self._array(given)
            shape = tuple(values.shape)
            counts[name] = spec.samples_in(shape, self.num_envs)
            flat = (counts[name], *spec.size)
            samples[name] = values if shape == flat else values.reshape(flat)
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"`{name}`: {count}" for name, count in counts.items())
            raise ShapeMismatch(f"the tensors hold different numbers of samples ({listing}); nothing was added")
        return next(iter(counts.values())), samples

    def _complete_cycle(self) -> None:
        """Begin at the first row again, where the oldest samples are."""
        self.memory_index, self.filled = 0, True

    def _changed(self) -> None:  # noqa: B027  (for subclasses that remember something of the samples)
        """Take note that samples were added or replaced."""

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        if self.filled:
            return self.memory_size * self.num_envs
        return self.memory_index * self.num_envs + self.env_index

    def reset(self) -> None:
        """Forget every sample; the tensors keep their old values until they are overwritten."""
        self.memory_index, self.env_index, self.filled = 0, 0, False
        self._changed()

    # states ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> MemorySnapshot:
        """Return an independent copy of the memory, in host memory."""
        tensors = {}
        for name, spec in self._specs.items():
            tensors[name] = self._host(name)
            tensors[name][len(self) :] = 0  # never written, or forgotten by a reset
            tensors[name] = tensors[name].reshape(self.memory_size, self.num_envs, *spec.size)
        return MemorySnapshot(tensors, self.memory_index, self.env_index, self.filled, self._describe())

    def _describe(self) -> dict[str, Any]:
        """Return the metadata of a snapshot."""
        return {
            "backend": self.backend,
            "keep_dimensions": {name: spec.keep_dimensions for name, spec in self._specs.items()},
            "spaces": {name: spec.space for name, spec in self._specs.items() if spec.space},
        }

    def restore(self, snapshot: MemorySnapshot, fit: Fit = "error") -> None:
        """Replace every sample by those of a snapshot; a memory without tensors gets the snapshot's.

        Args:
            snapshot: what to restore.
            fit: what to do with a snapshot of another memory size or number of environments: ``"error"``; keep the
                ``"newest"`` samples that fit, or the ``"oldest"``. With another number of environments, what belongs
                to one environment stays together and in order, and then follows the next one's.

        Raises:
            LoadMismatch: if the tensors differ in names, sizes or dtypes, or the sizes of the memories do where `fit`
                is ``"error"``; lists every difference. The memory is unchanged.
        """
        check_tensors(snapshot, self._specs)
        fit_in = fitted(snapshot, self.memory_size, self.num_envs, fit)
        keep = snapshot.metadata.get("keep_dimensions", {})
        for name, tensor in fit_in.tensors.items():
            size, flat = tensor.shape[2:], tensor.reshape(-1, *tensor.shape[2:])
            if name not in self._specs:
                self.create_tensor(name, size, self._framework_dtype(str(tensor.dtype)), keep_dimensions=True)
                self._specs[name] = replace(self._specs[name], keep_dimensions=bool(keep.get(name, len(size) != 1)))
            self._write(0, {name: self._array(flat[: len(fit_in)])})
        self.memory_index, self.env_index, self.filled = fit_in.memory_index, fit_in.env_index, fit_in.filled
        self._changed()

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and where the next sample goes, so that a memory can be a module of a checkpoint."""
        return {
            "tensors": {name: self.get_tensor_by_name(name) for name in self._specs},
            "memory_index": self.memory_index,
            "env_index": self.env_index,
            "filled": self.filled,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, of a memory of the same sizes; arrays may be of any framework.

        Raises:
            LoadMismatch: if the tensors or sizes differ. The memory is unchanged.
        """
        tensors = {name: self._host_array(tensor) for name, tensor in state_dict["tensors"].items()}
        position = int(state_dict["memory_index"]), int(state_dict["env_index"]), bool(state_dict["filled"])
        self.restore(MemorySnapshot(tensors, *position))
