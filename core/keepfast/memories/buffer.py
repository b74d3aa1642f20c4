"""MemoryBuffer: a circular buffer of samples, whatever the framework of its tensors."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keepfast.errors import InvalidValue, LoadMismatch, ShapeMismatch, UnknownTensor
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.memories.fitting import Fit, fitted, matched
from keepfast.memories.storage import TensorStorage


class MemoryBuffer(TensorStorage, abc.ABC):
    """Keeps the newest samples of a number of environments in tensors of shape (memory_size, num_envs, *size).

    Two numbers say where the next sample goes: `memory_index`, the row, and `env_index`, the environment. When the
    last row is complete, the next sample overwrites the oldest. Samples lie in order in flat buffers of shape
    (memory_size * num_envs, *size).

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live; None is the framework's default.

    Raises:
        InvalidValue: if a size is no positive whole number.
    """

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None) -> None:
        super().__init__(memory_size, num_envs, device)
        self.memory_index, self.env_index, self.filled = 0, 0, False
        self._seams: set[int] = set()  # places of samples that the next one of their environment does not follow

    @property
    def ring(self) -> Ring:
        """Return where the samples lie in the rows."""
        return Ring(self.memory_size, self.num_envs, self.memory_index, self.env_index, self.filled)

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
            InvalidValue: if no numbers can be made of what is given.
        """
        with self._lock:
            if self.env_index == 0 and self._is_row(tensors):
                self._write_row(self.memory_index, tensors)
                self._advance(self.num_envs)
                return
            count, samples = self._checked(tensors)
            done = 0
            while done < count:
                start = self.memory_index * self.num_envs + self.env_index
                taken = min(count - done, self._capacity - start)
                whole = taken == count
                self._write(start, samples if whole else {k: v[done : done + taken] for k, v in samples.items()})
                done += taken
                self._advance(taken)

    def _is_row(self, tensors: Mapping[str, Any]) -> bool:
        """Say whether the tensors are arrays with one sample of each environment, which is by far the usual case."""
        shapes = self._row_shapes
        try:
            for name, values in tensors.items():
                if shapes[name] != values.shape:
                    return False
        except (KeyError, AttributeError):  # an unknown name, or a list
            return False
        return bool(tensors)

    def _write_row(self, row: int, tensors: Mapping[str, Any]) -> None:
        """Copy arrays of shape (num_envs, *size) into a row."""
        self._write(row * self.num_envs, {name: self._numbers(name, values) for name, values in tensors.items()})

    def _advance(self, count: int) -> None:
        start = self.memory_index * self.num_envs + self.env_index
        if self._seams:
            self._seams.difference_update(range(start, start + count))
        self.memory_index, self.env_index = divmod(start + count, self.num_envs)
        self._changed()
        if self.memory_index == self.memory_size:
            self._complete_cycle()

    def _checked(self, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the number of samples, and each array with the shape (number, *size)."""
        if not tensors:
            raise InvalidValue("`add_samples` was given no tensors; give them by name, as in `add_samples(states=...)`")
        samples, counts = {}, {}
        for name, given in tensors.items():
            spec, values = self._spec_to_add(name), self._numbers(name, given)
            shape = tuple(values.shape)
            counts[name] = spec.samples_in(shape, self.num_envs)
            flat = (counts[name], *spec.size)
            samples[name] = values if shape == flat else values.reshape(flat)
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"`{name}`: {count}" for name, count in counts.items())
            raise ShapeMismatch(f"the tensors hold different numbers of samples ({listing}); nothing was added")
        return next(iter(counts.values())), samples

    def _spec_to_add(self, name: str) -> Any:
        try:
            return self._spec(name)
        except UnknownTensor as error:
            way = f"`create_tensor({name!r}, size)` makes one, or leave it out"
            raise UnknownTensor(f"{error} Nothing was added: {way}") from None

    def _complete_cycle(self) -> None:
        """Begin at the first row again, where the oldest samples are."""
        self.memory_index, self.filled = 0, True

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        return len(self.ring)

    def reset(self) -> None:
        """Forget every sample; the tensors keep their old values until they are overwritten."""
        with self._lock:
            self.memory_index, self.env_index, self.filled = 0, 0, False
            self._seams.clear()
            self._changed()

    # states ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> MemorySnapshot:
        """Return an independent copy of the memory, in host memory."""
        with self._lock:
            tensors = {}
            for name, spec in self._specs.items():
                flat = self._host(name)
                flat[len(self) :] = np.zeros((), flat.dtype)  # never written, or forgotten by a reset
                tensors[name] = flat.reshape(self.memory_size, self.num_envs, *spec.size)
            metadata = self._describe()
            if self._seams:
                metadata["seams"] = sorted(self._seams)
            return MemorySnapshot(tensors, *self.ring.position, metadata)

    def _describe(self) -> dict[str, Any]:
        """Return the metadata of a snapshot."""
        return {
            "backend": self.backend,
            "keep_dimensions": {name: spec.keep_dimensions for name, spec in self._specs.items()},
            "spaces": {name: spec.space for name, spec in self._specs.items() if spec.space},
        }

    def restore(self, snapshot: MemorySnapshot, fit: Fit = "error") -> None:
        """Replace every sample by those of a snapshot; a memory without tensors gets the snapshot's.

        Values are kept bit for bit. Only where the framework keeps a dtype of 64 bits as one of 32, as JAX does by
        default, are they converted, and only if each of them is the same afterwards.

        Args:
            snapshot: what to restore.
            fit: what to do with a snapshot of another memory size or number of environments: ``"error"``; keep the
                ``"newest"`` samples that fit, or the ``"oldest"``. With another number of environments, what belongs
                to one environment stays together and in order, and then follows the next one's; sequences do not go
                from the one to the other.

        Raises:
            LoadMismatch: if the tensors differ in names, sizes or dtypes, or the sizes of the memories do where `fit`
                is ``"error"``; lists every difference. The memory is unchanged.
        """
        with self._lock:
            specs, tensors = matched(snapshot, self._specs, self._dtype_name, self._keeps_wide)
            fit_in = fitted(replace(snapshot, tensors=tensors), self.memory_size, self.num_envs, fit)
            new = {
                name: self._allocate((self._capacity, *spec.size), spec.dtype)
                for name, spec in specs.items()
                if name not in self._specs
            }
            for name, tensor in fit_in.tensors.items():
                self._register(specs[name], new[name] if name in new else self._flat[name])
                flat = tensor.reshape(self._capacity, *specs[name].size)[: len(fit_in)]
                self._write(0, {name: self._array(flat)})
            self.memory_index, self.env_index, self.filled = fit_in.ring.position
            self._seams = set(fit_in.seams)
            self._changed()

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and where the next sample goes, so that a memory can be a module of a checkpoint."""
        with self._lock:
            return {
                "tensors": {name: self.get_tensor_by_name(name) for name in self._specs},
                "memory_index": self.memory_index,
                "env_index": self.env_index,
                "filled": self.filled,
                "seams": sorted(self._seams),
            }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, of a memory of the same sizes; arrays may be of any framework.

        Raises:
            LoadMismatch: if the tensors or sizes differ. The memory is unchanged.
        """
        tensors = {name: self._host_array(tensor) for name, tensor in state_dict["tensors"].items()}
        position = int(state_dict["memory_index"]), int(state_dict["env_index"]), bool(state_dict["filled"])
        if not (0 <= position[0] < self.memory_size and 0 <= position[1] < self.num_envs):
            raise LoadMismatch(f"the memory is unchanged: row {position[0]}, environment {position[1]} is not in it")
        seams = [int(place) for place in state_dict.get("seams", ())]
        self.restore(MemorySnapshot(tensors, *position, {"seams": seams}))
