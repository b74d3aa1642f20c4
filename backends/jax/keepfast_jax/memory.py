"""RandomMemory on JAX, and the storage of its tensors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

import keepfast
from keepfast._system.arguments.guarding import guarded_calls
from keepfast.errors import as_given
from keepfast_jax.device import parse_device
from keepfast_jax.modes import eagerly, is_mode_on, outside, outside_of_modes

_NOTHING = contextlib.nullcontext()


@guarded_calls("__init__")
@final
class RandomMemory(keepfast.Memory):
    """Keeps the newest samples of a number of environments and returns random ones; on JAX.

    The buffers stay on their device and are updated in place: adding takes the time of the samples, however large the
    memory is. Random numbers are NumPy's global ones, those of ``numpy.random.seed``.

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
        >>> memory = RandomMemory(memory_size=16, num_envs=4)
        >>> memory.create_tensor("states", size=3)
        True
        >>> memory.add_samples(states=np.zeros((4, 3)))
        >>> (batch,) = memory.sample(["states"], batch_size=8)
        >>> batch[0].shape
        (8, 3)
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
        storage = JaxStorage(memory_size, num_envs, device)
        super().__init__(storage, export, export_format, export_directory, replacement, export_keep)


@final
class JaxStorage(keepfast.Storage):
    """Keeps arrays on a device, updated in place, so that what is returned of them is a copy.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live, as a name or a device of the framework; None is its default.

    Raises:
        InvalidValue: if a size is no positive whole number, or there is no such device.
    """

    backend: ClassVar[str] = "jax"

    gives_views: ClassVar[bool] = False

    keeps_wide: ClassVar[str] = (
        'JAX keeps 64 bits with JAX_ENABLE_X64=1 in the environment, or jax.config.update("jax_enable_x64", True)'
    )

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        super().__init__(memory_size, num_envs, parse_device(device) or jax.local_devices()[0])

    def __getstate__(self) -> dict[str, Any]:
        host = {name: self.host(name) for name in self.buffers}
        return {**super().__getstate__(), "buffers": host, "device": _device_name(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.device = parse_device(state["device"])
        self.buffers = {name: jnp.array(buffer, device=self.device) for name, buffer in self.buffers.items()}

    def dtype_name(self, dtype: Any) -> str:  # noqa: D102  (the interface's)
        try:
            found = jnp.dtype(dtype)
        except TypeError as error:
            raise keepfast.InvalidValue(f"JAX has no dtype {as_given(dtype)}") from error
        if not (jnp.issubdtype(found, jnp.number) or found == jnp.bool):
            raise keepfast.InvalidValue(f"JAX has no dtype {found}")
        return str(jax.dtypes.canonicalize_dtype(found))

    def plainly(self) -> contextlib.AbstractContextManager[Any]:  # noqa: D102  (the interface's)
        return outside() if is_mode_on() else _NOTHING

    @outside_of_modes
    def allocate(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:  # noqa: D102  (the interface's)
        chosen = jnp.dtype(jnp.float32 if dtype is None else dtype)
        fill = jnp.nan if jnp.issubdtype(chosen, jnp.floating) else 0
        return jnp.full(shape, fill, chosen, device=self.device)

    def array(self, value: Any) -> Any:  # noqa: D102  (the interface's)
        if isinstance(value, jax.core.Tracer):
            raise TypeError("it is traced; add samples outside of `jax.jit`")
        if isinstance(value, jax.Array):
            if value.is_deleted():
                raise TypeError("it was deleted, or donated to a compiled function, so its value is gone")
            return value
        # JAX reads NumPy arrays after the call has returned, when their owner may have changed them: hence the copy.
        array = np.array(value)
        if array.dtype.kind in "OSUMm":
            raise TypeError(f"NumPy makes an array of {array.dtype} of it")
        return array

    @outside_of_modes
    def joined(self, arrays: Sequence[Any]) -> Any:  # noqa: D102  (the interface's)
        return (jnp if any(isinstance(each, jax.Array) for each in arrays) else np).concatenate(arrays, axis=1)

    def write_row(self, row: int, tensors: Mapping[str, Any]) -> None:  # noqa: D102  (the interface's)
        flat = self.buffers
        # What is an array like the buffer, the usual case, is taken as it is; it is no tracer.
        samples = [
            value if type(value) is type(flat[name]) else self.numbers(name, value) for name, value in tensors.items()
        ]
        flat.update(zip(tensors, _updated([flat[name] for name in tensors], samples, row * self.num_envs), strict=True))

    def write(self, start: int, samples: Mapping[str, Any]) -> None:  # noqa: D102  (the interface's)
        updated = _updated([self.buffers[name] for name in samples], list(samples.values()), start)
        self.buffers.update(zip(samples, updated, strict=True))

    def view(self, name: str, shape: tuple[int, ...]) -> jax.Array:  # noqa: D102  (the interface's)
        # A copy, for the buffer itself is consumed by the next `_update`.
        copied: jax.Array = eagerly(_copy, self.buffers[name], shape)
        return copied

    @outside_of_modes
    def host_array(self, value: Any) -> NDArray[Any]:  # noqa: D102  (the interface's)
        return np.asarray(value)

    def host_part(self, name: str, start: int, stop: int) -> NDArray[Any]:  # noqa: D102  (the interface's)
        return np.asarray(self.buffers[name])[start:stop]  # all of it, for JAX compiles anew for every length

    def host_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:  # noqa: D102  (the interface's)
        buffer, count = self.buffers[name], stop - start
        # Of few lengths, for each of which JAX compiles once. A view of the whole would have `_update` copy it.
        length = min(1 << (count - 1).bit_length(), len(buffer))
        first = min(start, len(buffer) - length)
        part = np.asarray(eagerly(_part, buffer, first, length))
        return np.array(part[start - first : stop - first])

    def take(self, names: Sequence[str], places: Any) -> list[jax.Array]:  # noqa: D102  (the interface's)
        found: list[jax.Array] = eagerly(_gather, [self.buffers[name] for name in names], places)
        return found

    def slice(self, name: str, start: int, stop: int) -> jax.Array:  # noqa: D102  (the interface's)
        part: jax.Array = eagerly(_part, self.buffers[name], start, stop - start)
        return part

    def versions(self) -> dict[str, str]:  # noqa: D102  (the interface's)
        return {"jax": jax.__version__}


def _device_name(device: Any) -> Any:
    """Return the name of a device, which, unlike the device, can be pickled."""
    if not isinstance(device, jax.Device):
        return device
    return f"{device.platform}:{jax.local_devices(backend=device.platform).index(device)}"


def _updated(buffers: list[jax.Array], samples: list[Any], start: int) -> list[jax.Array]:
    """Return buffers with samples written into them, whatever mode the caller is in, and however samples are spread."""
    try:
        updated: list[jax.Array] = eagerly(_update, buffers, samples, start)
    except Exception:  # noqa: BLE001  (they may be spread over a mesh that the buffers are not on; else raised again)
        updated = eagerly(_update, buffers, [_on_host(each) for each in samples], start)
    return updated


def _on_host(sample: Any) -> NDArray[Any]:
    try:
        found: NDArray[Any] = eagerly(np.asarray, sample)
    except Exception as error:
        raise keepfast.InvalidValue(f"a sample has no values: {error}; nothing was added") from error
    return found


@functools.partial(jax.jit, donate_argnums=0)
def _update(buffers: list[jax.Array], samples: list[Any], start: int) -> list[jax.Array]:
    """Write samples into buffers, which are consumed: the results take over their memory."""
    return [
        lax.dynamic_update_slice_in_dim(buffer, values.astype(buffer.dtype), start, axis=0)
        for buffer, values in zip(buffers, samples, strict=True)
    ]


@jax.jit
def _gather(buffers: list[jax.Array], indexes: Any) -> list[jax.Array]:
    # Clipped: without a pass for negative indexes, XLA takes a quarter of the time.
    return [jnp.take(buffer, indexes, axis=0, mode="clip") for buffer in buffers]


@functools.partial(jax.jit, static_argnums=1)
def _copy(buffer: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.copy(buffer).reshape(shape)


@functools.partial(jax.jit, static_argnums=2)
def _part(buffer: jax.Array, start: int, count: int) -> jax.Array:
    """Copy a part out of a buffer, so that it outlives it."""
    return lax.dynamic_slice_in_dim(buffer, start, count)
