"""RandomMemory on PyTorch, and the storage of its tensors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

import keepfast
from keepfast._system.arguments.guarding import guarded_calls
from keepfast.errors import as_given
from keepfast_torch.arrays import DTYPES, HostCopier, tensor_copy, with_numbers
from keepfast_torch.device import parse_device
from keepfast_torch.modes import are_transformed, is_mode_on, outside, real_value

_BLOCK = 1 << 10
"""Of how many rows views are kept."""

_WHOLE = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
"""The dtypes of places that are taken without being looked at, for they are on another device."""

_NOTHING = contextlib.nullcontext()

_NO_VIEWS: tuple[int, dict[str, Sequence[torch.Tensor]]] = (-1, {})


@guarded_calls("__init__")
@final
class RandomMemory(keepfast.Memory):
    """Keeps the newest samples of a number of environments and returns random ones; on PyTorch.

    Tensors stay on their device. Random numbers are those of ``torch.manual_seed``.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live, as a name or a device of the framework; None is its default.
        export: whether to export the memory at each filling cycle, before anything is overwritten.
        export_format: the memory format of exports and of `save`: ``pt``, ``np``, ``csv``, or another.
        export_directory: where the files go, made where it is missing.
        replacement: whether `sample` may return one sample several times.
        export_keep: how many exported cycles stay on disk, the newest; None keeps all.

    Raises:
        InvalidValue: if a size is no positive whole number, or there is no such device.
        UnknownPlugin: if nobody provides the export format.
        DirectoryError: if files cannot be written into the directory, and `export` is on.

    Example:
        >>> memory = RandomMemory(memory_size=16, num_envs=4, device="cpu")
        >>> memory.create_tensor("states", size=3)
        True
        >>> memory.add_samples(states=torch.zeros(4, 3))
        >>> (batch,) = memory.sample(["states"], batch_size=8)
        >>> batch[0].shape
        torch.Size([8, 3])
    """

    def __init__(
        self,
        memory_size: int,
        num_envs: int = 1,
        device: Any = None,
        export: bool = False,
        export_format: str | None = "pt",
        export_directory: str | os.PathLike[str] | None = "memory",
        replacement: bool = True,
        export_keep: int | None = None,
    ) -> None:
        storage = TorchStorage(memory_size, num_envs, device)
        super().__init__(storage, export, export_format, export_directory, replacement, export_keep)

    def share_memory(self) -> None:
        """Move the tensors into memory that processes share; where the next sample goes stays each process's own."""
        for buffer in self.storage.buffers.values():
            if buffer.device.type == "cpu":
                buffer.share_memory_()


@final
class TorchStorage(keepfast.Storage):
    """Keeps tensors on a device, without a graph.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live, as a name or a device of the framework; None is its default.

    Raises:
        InvalidValue: if a size is no positive whole number, or there is no such device.
    """

    backend: ClassVar[str] = "torch"

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        chosen = parse_device(device) or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        super().__init__(memory_size, num_envs, chosen)
        self._viewed: tuple[int, dict[str, Sequence[torch.Tensor]]] = _NO_VIEWS

    def dtype_name(self, dtype: Any) -> str:  # noqa: D102  (the interface's)
        return str(_dtype(dtype)).removeprefix("torch.")

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> torch.Tensor:  # noqa: D102  (the interface's)
        chosen = torch.get_default_dtype() if dtype is None else _dtype(dtype)
        buffer = torch.zeros(shape, dtype=chosen, device=self.device)
        return buffer.fill_(float("nan")) if chosen.is_floating_point else buffer

    def plainly(self) -> contextlib.AbstractContextManager[Any]:  # noqa: D102  (the interface's)
        return outside() if is_mode_on() else _NOTHING

    def array(self, value: Any) -> torch.Tensor:  # noqa: D102  (the interface's)
        if isinstance(value, torch.Tensor):
            tensor = self._value(value)
            return tensor.detach() if tensor.requires_grad else tensor
        if type(value).__module__.startswith("torch.fx"):
            raise TypeError("it is being traced by torch.fx and has no value")
        return _from_host(value) if isinstance(value, np.ndarray) else _of_numbers(value)

    def _value(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what a tensor holds outside of all modes; where the memory has no values, neither need its samples."""
        if tensor.is_meta and self.device.type == "meta":
            return tensor
        return with_numbers(real_value(tensor))

    def joined(self, arrays: Sequence[torch.Tensor]) -> torch.Tensor:  # noqa: D102  (the interface's)
        return torch.cat([each.to(self.device) for each in arrays], dim=1)

    def write(self, start: int, samples: Mapping[str, torch.Tensor]) -> None:  # noqa: D102  (the interface's)
        for name, values in samples.items():
            self.buffers[name].narrow(0, start, values.shape[0]).copy_(values)

    def write_row(self, row: int, tensors: Mapping[str, Any]) -> None:  # noqa: D102  (the interface's)
        if are_transformed():
            self._write_row_outside(row, tensors)
            return
        block, place = divmod(row, _BLOCK)
        viewed, rows = self._viewed
        if viewed != block or len(rows) != len(self.buffers):
            rows = self._view_rows(block)
        values = [
            value
            if type(value) is torch.Tensor and not value.requires_grad and value.data_ptr()
            else self.numbers(name, value)
            for name, value in tensors.items()
        ]
        try:
            torch._foreach_copy_([rows[name][place] for name in tensors], values)
        except RuntimeError:  # one is on the device `meta`, perhaps, which is told better then
            self._write_row_outside(row, tensors)

    def _write_row_outside(self, row: int, tensors: Mapping[str, Any]) -> None:
        with outside():
            super().write_row(row, tensors)

    def _view_rows(self, block: int) -> dict[str, Sequence[torch.Tensor]]:
        """Make views of some rows at once, for making one takes longer than copying a small row into it."""
        rows = {}
        for name, flat in self.buffers.items():
            whole = flat.view(self.memory_size, self.num_envs, *flat.shape[1:])
            rows[name] = whole[block * _BLOCK : (block + 1) * _BLOCK].unbind(0)
        self._viewed = block, rows
        return rows

    def __getstate__(self) -> dict[str, Any]:
        # A receiving process makes views of its own, of the memory that is shared.
        return {**super().__getstate__(), "_viewed": _NO_VIEWS}

    def view(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:  # noqa: D102  (the interface's)
        flat: torch.Tensor = self.buffers[name]
        return flat.view(shape)

    def host_array(self, value: Any) -> NDArray[Any]:  # noqa: D102  (the interface's)
        return _host_copy(value) if isinstance(value, torch.Tensor) else np.asarray(value)

    def is_on_host(self, array: torch.Tensor) -> bool:  # noqa: D102  (the interface's)
        return array.is_cpu

    def host_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:  # noqa: D102  (the interface's)
        return self.host_part(name, start, stop)  # a copy by itself

    def host(self, name: str) -> NDArray[Any]:  # noqa: D102  (the interface's)
        return _host_copy(self.buffers[name])

    def draw(self, size: int, count: int, *, replacement: bool) -> torch.Tensor:  # noqa: D102  (the interface's)
        if replacement:
            return torch.randint(size, (count,), device=self.device)
        return torch.randperm(size, device=self.device)[:count]

    def skip(self, ranks: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:  # noqa: D102  (the interface's)
        return ranks + torch.searchsorted(skipped, ranks, right=True)

    def places(self, indexes: Any) -> torch.Tensor:  # noqa: D102  (the interface's)
        if isinstance(indexes, torch.Tensor):
            tensor: torch.Tensor = self.numbers("indexes", indexes)
            if not tensor.is_cpu and tensor.ndim == 1 and tensor.dtype in _WHOLE:
                return tensor.to(self.device, torch.int64)
            indexes = tensor if tensor.is_meta else _host_copy(tensor)
        return torch.as_tensor(super().places(indexes), device=self.device)

    def take(self, names: Sequence[str], places: torch.Tensor) -> list[torch.Tensor]:  # noqa: D102  (the interface's)
        return [self.buffers[name].index_select(0, places) for name in names]

    def slice(self, name: str, start: int, stop: int) -> torch.Tensor:  # noqa: D102  (the interface's)
        flat: torch.Tensor = self.buffers[name]
        return flat[start:stop]

    def versions(self) -> dict[str, str]:  # noqa: D102  (the interface's)
        return {"torch": str(torch.__version__)}


def _dtype(dtype: Any) -> torch.dtype:
    """Return the dtype that users name, by itself or by its name."""
    if isinstance(dtype, torch.Tensor):
        raise keepfast.InvalidValue(f"PyTorch has no dtype {as_given(dtype)}")
    try:
        name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype | str) else np.dtype(dtype).name
    except TypeError as error:
        raise keepfast.InvalidValue(f"PyTorch has no dtype {as_given(dtype)}") from error
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise keepfast.InvalidValue(f"PyTorch has no dtype {as_given(dtype)}")
    if found not in DTYPES:
        known = ", ".join(sorted(str(each).removeprefix("torch.") for each in DTYPES))
        raise keepfast.InvalidValue(f"memory files cannot hold the dtype {name}; allowed: {known}")
    return found


def _host_copy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return an independent copy of a tensor as a NumPy array of the same dtype."""
    copier = HostCopier()
    copied = copier.copy(tensor)
    copier.wait()
    return copied


def _of_numbers(value: Any) -> torch.Tensor:
    """Return a tensor of numbers of Python, none of them rounded, or of what else PyTorch makes one of."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a list of tensors that NumPy cannot read
        return torch.as_tensor(value)
    return _from_host(array) if array.dtype.kind in "biufc" else torch.as_tensor(value)


def _from_host(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor of the values of a NumPy array, of the same dtype; shares memory where it can."""
    # What PyTorch does not wrap, or not without a warning: others' dtypes and byte orders, read-only and reversed ones.
    plain = array.dtype.isbuiltin == 1 and array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array) if plain else tensor_copy(array)
