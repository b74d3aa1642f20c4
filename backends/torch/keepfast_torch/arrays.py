"""Tensors to NumPy arrays and back, bit for bit, and never sharing memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from keepfast import InvalidValue
from keepfast._system.memory.giving import is_given
from keepfast._system.memory.staging import copied
from keepfast.codec import dtype_of
from keepfast_torch.modes import are_transformed, outside, real_value

_CARRIERS = {
    getattr(torch, name): carrier
    for name, carrier in {
        "bfloat16": torch.int16,
        "float8_e4m3fn": torch.uint8,
        "float8_e4m3fnuz": torch.uint8,
        "float8_e5m2": torch.uint8,
        "float8_e5m2fnuz": torch.uint8,
        "float8_e8m0fnu": torch.uint8,
    }.items()
    if hasattr(torch, name)
}
"""The dtypes that NumPy has from `ml_dtypes` only, each with an integer of its width that carries its bits."""

NATIVE = frozenset(
    {
        torch.bool,
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.float32, torch.float64),
    }
)
"""The real dtypes that NumPy has of its own."""

DTYPES = NATIVE | {torch.complex64, torch.complex128} | set(_CARRIERS)
"""Every dtype whose tensors can become NumPy arrays."""


@final
class HostCopier:
    """Makes NumPy arrays of tensors, having waited once for each accelerator in the end.

    Tensors that are one and the same in memory, as tied weights are, become one array, which files then hold once.

    Args:
        shared: whether an array may be the tensor's own memory; where not, it is independent.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._first: dict[int, tuple[torch.Tensor, NDArray[Any]]] = {}
        self._devices: set[torch.device] = set()

    def copy(self, tensor: torch.Tensor) -> NDArray[Any]:
        """Return an array in C order with the tensor's values; they are there once `wait` has returned.

        Args:
            tensor: of any shape and strides, of the dtypes in `DTYPES`, on any device.
        """
        place = tensor.data_ptr()
        known = self._first.get(place)
        if known is not None and _same_memory(known[0], tensor):
            return known[1]
        copy = _begin_copy(tensor.detach() if tensor.requires_grad else tensor, shared=self._shared)
        self._first.setdefault(place, (tensor, copy))
        if tensor.is_cuda:
            self._devices.add(tensor.device)
        return copy

    def wait(self) -> None:
        """Return when every copy is complete."""
        for device in self._devices:
            torch.cuda.current_stream(device).synchronize()


def _same_memory(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors that begin at one address are the same numbers."""
    return (
        (tensor.dtype, tensor.shape, tensor.stride()) == (other.dtype, other.shape, other.stride())
        and tensor.device == other.device
        and (tensor.is_conj(), tensor.is_neg()) == (other.is_conj(), other.is_neg())
    )


def _begin_copy(tensor: torch.Tensor, *, shared: bool) -> NDArray[Any]:
    """Return an array in C order that has the tensor's values as soon as its device is done."""
    if tensor._is_zerotensor():  # noqa: SLF001  (nothing public tells; it has no memory)
        tensor = tensor.clone()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    plain = with_bits(tensor)
    if plain.is_cpu:
        # NumPy asks for huge pages, so that large copies cost a fraction of the page faults that a clone costs.
        copy = np.ascontiguousarray(plain.numpy()) if shared and plain.dim() else copied(plain.numpy())
    else:
        copy = torch.empty(plain.shape, dtype=plain.dtype).copy_(plain, non_blocking=plain.is_cuda).numpy()
    return copy if plain is tensor else copy.view(_numpy_dtype(tensor.dtype))


def with_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a dtype that NumPy has of its own, over the same memory; the same where it has one."""
    carrier = _CARRIERS.get(tensor.dtype)
    return tensor if carrier is None else tensor.view(carrier)


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return dtype_of(str(dtype).removeprefix("torch."))


@functools.lru_cache(maxsize=256)
def _torch_dtype(dtype: np.dtype[Any]) -> Any:
    """Return PyTorch's dtype of the name of one of NumPy, which takes NumPy long to tell; None where it has none."""
    return getattr(torch, dtype.name, None)


def tensor_copy(array: NDArray[Any]) -> torch.Tensor:
    """Return an independent tensor on the CPU with the values and dtype of a NumPy array.

    Args:
        array: of any shape, strides and byte order; read-only is fine.

    Raises:
        TypeError: if PyTorch has no such dtype.
    """
    dtype = _torch_dtype(array.dtype)
    if dtype in _CARRIERS:
        return torch.from_numpy(np.array(array.view(_bits(array)), order="C")).view(dtype)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of a NumPy array, or of a copy where PyTorch takes none such."""
    dtype: Any = getattr(torch, array.dtype.name)
    array = np.require(array, requirements=("C", "W"))
    if dtype in _CARRIERS:
        return torch.from_numpy(array.view(_bits(array))).view(dtype)
    return torch.from_numpy(array)


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a NumPy array over the memory of a tensor on the CPU."""
    carrier = _CARRIERS.get(tensor.dtype)
    return tensor.numpy() if carrier is None else tensor.view(carrier).numpy().view(_numpy_dtype(tensor.dtype))


def own_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor that is the caller's alone: over an array that is given, or a copy; see `tensor_copy`."""
    if not is_given(array):
        return tensor_copy(array)
    dtype = _torch_dtype(array.dtype)
    return torch.from_numpy(array.view(_bits(array))).view(dtype) if dtype in _CARRIERS else torch.from_numpy(array)


def _bits(array: NDArray[Any]) -> str:
    return f"i{array.itemsize}" if array.itemsize > 1 else "u1"


def hold(tensor: torch.Tensor) -> torch.Tensor | NDArray[Any]:
    """Return something that keeps the present values of a tensor, without waiting for its device.

    On the CPU that is a NumPy array, which costs a fraction of what a tensor costs; else a clone on the same device.
    """
    if are_transformed() or tensor.is_meta:
        tensor = real_value(tensor)
    elif lacks_memory(tensor):  # or stands for values to come
        tensor = real_value(tensor)
        require_memory(tensor)
    elif tensor.is_cpu and tensor.dtype in NATIVE and not tensor.is_neg():
        try:
            return (tensor.detach() if tensor.requires_grad else tensor).numpy().copy()
        except (RuntimeError, TypeError):  # it was wrapped by a transform that has ended, or stands for values to come
            tensor = real_value(tensor)
    with outside():
        return with_numbers(tensor).detach().clone()


def lacks_memory(tensor: torch.Tensor) -> bool:
    """Say whether a tensor's storage was freed: it has numbers by its shape, and no memory that they would be in."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):  # which may have none of its own, and warn when asked
        return False
    try:
        return tensor.data_ptr() == 0 and tensor.numel() > 0 and not (tensor.is_meta or tensor._is_zerotensor())  # noqa: SLF001
    except RuntimeError:  # it is made of others, or stands for values to come
        return False


def require_memory(tensor: torch.Tensor) -> None:
    """Check that there is memory for the numbers of a tensor, which would be read beyond its end.

    Raises:
        InvalidValue: if its storage was freed, or cut.
    """
    try:
        if tensor.layout != torch.strided or tensor.is_meta or tensor.numel() == 0:
            return
        if tensor.is_contiguous():
            reach = tensor.numel()
        else:
            reach = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        end = tensor.storage_offset() + reach
        room = tensor.untyped_storage().nbytes() // tensor.element_size()
    except (RuntimeError, NotImplementedError):  # it has no storage of its own
        return
    if room < end and not tensor._is_zerotensor():  # noqa: SLF001
        raise InvalidValue("its storage was freed, or cut, so it has no values; give a copy made before")


def with_numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that has a number in each place.

    Raises:
        InvalidValue: if it keeps them in another way, which PyTorch may end the process at.
    """
    if torch.nn.parameter.is_lazy(tensor):
        raise InvalidValue("it is not initialized yet, so it has no shape; run its module once")
    if tensor.layout is torch.strided and tensor.dtype in DTYPES and not tensor.is_nested:
        require_memory(tensor)
        return tensor
    kind = "nested" if tensor.is_nested else f"{tensor.dtype} as {tensor.layout}"
    raise InvalidValue(f"it is {kind}; give its numbers, by .to_dense(), .dequantize() or .to(torch.float32)")


def host_array(value: Any) -> NDArray[Any] | None:
    """Return a NumPy array of a tensor, in single precision where NumPy lacks its dtype; None of anything else."""
    if not isinstance(value, torch.Tensor):
        return None
    with outside():
        (array,) = fetch([hold(value)])
    return array if value.dtype not in _CARRIERS else array.astype(np.float32)


def fetch(held: Sequence[torch.Tensor | NDArray[Any]]) -> list[NDArray[Any]]:
    """Return held values as NumPy arrays of their own shapes and dtypes, in one transfer from each device."""
    fetched: list[Any] = list(held)
    by_device: dict[torch.device, list[int]] = {}
    for position, value in enumerate(fetched):
        if isinstance(value, torch.Tensor):
            if value.is_cpu:  # as few are that were held, for which there are arrays of NumPy
                fetched[position] = with_numbers(value)
            by_device.setdefault(value.device, []).append(position)
    for positions in by_device.values():
        arrays = _fetch_together([fetched[position] for position in positions])
        for position, array in zip(positions, arrays, strict=True):
            fetched[position] = array
    return fetched


def _fetch_together(tensors: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
    """Return arrays of tensors on one device: alike ones are stacked, the stacks joined as bytes, and moved at once."""
    alike: dict[tuple[torch.dtype, torch.Size], list[int]] = {}
    for position, tensor in enumerate(tensors):
        alike.setdefault((tensor.dtype, tensor.shape), []).append(position)
    # The widest first, so that each stack begins where its dtype may.
    groups = sorted(alike.items(), key=lambda group: -group[0][0].itemsize)
    stacks = [torch.stack([tensors[position] for position in positions]) for _, positions in groups]
    data = torch.cat([stack.reshape(-1).view(torch.uint8) for stack in stacks]).cpu().numpy()
    fetched: dict[int, NDArray[Any]] = {}
    begin = 0
    for ((dtype, shape), positions), stack in zip(groups, stacks, strict=True):
        end = begin + stack.nbytes
        rows = data[begin:end].view(_numpy_dtype(dtype)).reshape(len(positions), *shape)
        fetched.update((position, rows[row, ...]) for row, position in enumerate(positions))
        begin = end
    return [fetched[position] for position in range(len(tensors))]
