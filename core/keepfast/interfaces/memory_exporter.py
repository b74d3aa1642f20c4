"""MemorySnapshot and MemoryExporter: what a memory file holds, and a format of it."""

from __future__ import annotations

import abc
from collections.abc import Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.disk.checksum import Summed
from keepfast._system.disk.mapping import change_below
from keepfast._system.notebook.tables import facts, table
from keepfast.errors import CorruptFile, CorruptMemory, InvalidValue, UnknownTensor, as_given, did_you_mean, shown
from keepfast.interfaces.format import Format
from keepfast.interfaces.ring import VALID, Ring

GUESSED = "guessed"
"""In the metadata of a snapshot: what its file does not tell and was guessed; a memory may have it otherwise."""


@guarded_calls()
@final
@dataclass(frozen=True, repr=False)
class MemorySnapshot:
    """A memory (rollout or replay buffer) at one moment.

    Attributes:
        tensors: each tensor by name, of shape (memory_size, num_envs, *size). Rows never written are zeros.
        memory_index: the row that the next sample goes to.
        env_index: the environment that the next sample of fewer than `num_envs` environments goes to.
        filled: whether every row has been written at least once, so that rows from `memory_index` on are the oldest.
        metadata: what else is known: agent, time, spaces, versions, ``keep_dimensions`` of each tensor.
    """

    tensors: Mapping[str, NDArray[Any]]
    memory_index: int
    env_index: int
    filled: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        tensors = ", ".join(f"{shown(name)}: {tensor.dtype}{tensor.shape}" for name, tensor in self.tensors.items())
        return f"MemorySnapshot({len(self)} samples of {self.memory_size} x {self.num_envs}: {tensors})"

    def _repr_html_(self) -> str:
        head = f"{len(self)} samples of {self.memory_size} rows and {self.num_envs} environments"
        rows = ((name, tensor.dtype, tensor.shape) for name, tensor in self.tensors.items())
        return facts(head, self.metadata.items()) + table(("tensor", "dtype", "shape"), rows)

    @property
    def memory_size(self) -> int:
        """Return the number of rows."""
        return next((int(tensor.shape[0]) for tensor in self.tensors.values()), 0)

    @property
    def num_envs(self) -> int:
        """Return the number of environments."""
        return next((int(tensor.shape[1]) for tensor in self.tensors.values()), 0)

    @property
    def ring(self) -> Ring:
        """Return where the samples lie in the rows."""
        return Ring(self.memory_size, self.num_envs, self.memory_index, self.env_index, self.filled)

    @property
    def seams(self) -> list[int]:
        """Return the places (row * num_envs + environment) of samples that the next one does not follow in time.

        They are in the metadata, which in the file of others may be anything: what is no place is left out.
        """
        places, capacity = self.metadata.get("seams"), self.ring.capacity
        return [place for place in places if place in range(capacity)] if isinstance(places, list | tuple) else []

    @property
    def is_marked(self) -> bool:
        """Say whether the tensor `valid` tells which samples are transitions; see `Memory.add_samples`.

        In the file of others it may be anything, and counts if it has one truth value for each sample.
        """
        marks = self.tensors.get(VALID)
        return marks is not None and marks.dtype.kind == "b" and marks.shape[2:] == (1,)

    @property
    def valid(self) -> NDArray[np.bool]:
        """Return which samples are transitions, of shape (memory_size, num_envs): all, unless some are marked."""
        return self.tensors[VALID][..., 0] if self.is_marked else np.ones((self.memory_size, self.num_envs), bool)

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        return len(self.ring)

    def keys(self) -> KeysView[str]:
        """Return the names of the tensors."""
        return self.tensors.keys()

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the tensors."""
        return iter(self.tensors)

    def __contains__(self, name: object) -> bool:
        """Say whether there is a tensor of a name."""
        return name in self.tensors

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a tensor, of shape (memory_size, num_envs, *size).

        Raises:
            UnknownTensor: if there is none of that name.
            CorruptMemory: if it is memory-mapped, and its file was truncated or written to since it was read.
        """
        try:
            tensor = self.tensors[name]
        except KeyError:
            raise UnknownTensor(f"the memory has no tensor `{name}`{did_you_mean(name, self.tensors)}") from None
        _require_unchanged(name, tensor)
        return tensor

    def require_unchanged(self) -> None:
        """Check that the files that tensors are memory-mapped from are as they were when they were read and verified.

        Every call of this class that hands tensors out asks it, and so does whatever writes or loads a snapshot. What
        another program does to a file between that and the access to its memory, nobody can know.

        Raises:
            CorruptMemory: if one was truncated or written to since; one that was replaced by another is still there.
        """
        for name, tensor in self.tensors.items():
            _require_unchanged(name, tensor)

    def histories(self) -> list[NDArray[np.intp]]:
        """Return, for each environment, the places of its samples, oldest first."""
        return self.ring.histories()

    def chronological_seams(self) -> list[tuple[int, int]]:
        """Return which samples of which environments, counted from its oldest, the next one does not follow in time."""
        seams = self.seams
        return [
            (sample, environment)
            for environment, history in enumerate(self.histories())
            for sample in np.flatnonzero(np.isin(history, seams)).tolist()
        ]

    def chronological(self) -> dict[str, NDArray[Any]]:
        """Return each tensor's complete rows, oldest first, of shape (rows, num_envs, *size).

        A row that only some environments have written yet is left out.

        Raises:
            CorruptMemory: if a tensor is memory-mapped, and its file was truncated or written to since it was read.
        """
        self.require_unchanged()
        if not self.filled:
            return {name: tensor[: self.memory_index] for name, tensor in self.tensors.items()}
        return {name: self._in_order(tensor) for name, tensor in self.tensors.items()}

    def _in_order(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor as `Ring.order` has it, without a number for each sample, which may be a byte."""
        made, written = np.empty_like(tensor), self.env_index
        for columns, oldest in ((slice(written), self.memory_index + 1), (slice(written, None), self.memory_index)):
            oldest %= max(self.memory_size, 1)
            made[: len(made) - oldest, columns] = tensor[oldest:, columns]
            made[len(made) - oldest :, columns] = tensor[:oldest, columns]
        return made

    def chronological_blocks(self, nbytes: int = 1 << 24) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield what `chronological` returns, some rows at a time: as many as have about so many bytes together.

        Raises:
            InvalidValue: if the bytes are no whole number of at least 1.
        """
        if not isinstance(nbytes, int | np.integer) or nbytes < 1:
            raise InvalidValue(f"`nbytes` is {as_given(nbytes)}; allowed: a whole number of at least 1")
        ring = self.ring
        count = ring.complete_rows
        rows = max(1, nbytes // max(1, sum(tensor[:1].nbytes for tensor in self.tensors.values())))
        for part in (slice(start, min(start + rows, count)) for start in range(0, count, rows)):
            self.require_unchanged()
            order: Any = (ring.order(part), np.arange(ring.num_envs)) if self.filled else part
            yield {name: tensor[order] for name, tensor in self.tensors.items()}


def _require_unchanged(name: str, tensor: NDArray[Any]) -> None:
    if change := change_below(tensor):
        raise CorruptMemory(f"{change}: the tensor `{shown(name)}` was memory-mapped from it; read the memory again")


@guarded_calls()
class MemoryExporter(Format[MemorySnapshot]):
    """Writes and reads memory files of one format.

    A format is complete with an extension and two methods; committing and naming are not its business. Whatever it
    writes comes back bit for bit, and `load` raises `CorruptMemory` for every byte that is not as it was written,
    whatever `read` raises at it.

    The smallest complete format (its damage detection left to the reader)::

        class PickleFreeNpz(keepfast.MemoryExporter):
            extension = ".npz"

            def write(self, snapshot, file):
                where = [snapshot.memory_index, snapshot.env_index, snapshot.filled]
                numpy.savez(file, _where=where, **snapshot.tensors)

            def read(self, path):
                with numpy.load(path, allow_pickle=False) as arrays:
                    tensors = dict(arrays)
                index, env_index, filled = tensors.pop("_where")
                return keepfast.MemorySnapshot(tensors, int(index), int(env_index), bool(filled))

    A format whose memories are directories is a `DirectoryFormat` too. Registered by a plugin:
    ``keepfast_memory_formats`` returns ``{"npz": PickleFreeNpz}``. `keepfast.testing.MemoryExporterContract` proves it.
    """

    corrupt: ClassVar[type[CorruptFile]] = CorruptMemory
    holds: ClassVar[type] = MemorySnapshot

    def save(self, content: MemorySnapshot, path: Path) -> int:
        """Write a durable file: when this returns, it is complete on disk. Returns its size in bytes.

        Raises:
            CorruptMemory: if a tensor lies in a file that was changed since it was read.
            WriteFailed: if the operating system refused; what was at `path` before is untouched.
        """
        if isinstance(content, MemorySnapshot):  # else it is refused
            content.require_unchanged()
        return super().save(content, path)

    @abc.abstractmethod
    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> Summed | None:
        """Write a snapshot into an open file, without changing or keeping any of its arrays.

        Args:
            snapshot: what to write.
            file: an empty regular file, readable, writable and seekable.

        Raises:
            OSError: if the file cannot be written.
        """

    @abc.abstractmethod
    def read(self, path: Path) -> MemorySnapshot:
        """Read a file, verify every byte of it and return what was written, without running code from it.

        Raises:
            CorruptMemory: if the file is damaged, truncated or carries code; names the file and the part.
            OSError: if the file cannot be opened.
        """
