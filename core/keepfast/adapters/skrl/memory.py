"""MemoryState: a memory of skrl in checkpoints, and in files of every format that ours have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from keepfast._arrays import host_array
from keepfast._version import __version__
from keepfast.errors import LoadMismatch
from keepfast.experiment import Experiment
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.export import MemoryExport
from keepfast.memories.files import read_memory
from keepfast.memories.fitting import Fit, fitted

MEMORIES = ("skrl.memories.torch.base.Memory", "skrl.memories.jax.base.Memory")
"""The classes that its memories derive from."""

_FOLDER = "memories"
"""Where its memories are saved, below the directory that is given."""


@final
class MemoryState:
    """Keeps a memory of skrl: its samples and where the next one goes, so that a rollout goes on in its midst.

    Only rows that were written are in a checkpoint.

    Args:
        memory: the memory.
        experiment: the experiment of its agent, in whose directory it is saved where it has none of its own.
    """

    holds_samples: ClassVar[bool] = True

    def __init__(self, memory: Any, experiment: Experiment) -> None:
        self._memory, self._experiment = memory, experiment
        self._before = {name: vars(memory)[name] for name in ("save", "load") if name in vars(memory)}

    def install(self) -> None:
        """Have the memory saved and loaded by our formats."""
        self._memory.save, self._memory.load = self.save, self.load

    def remove(self) -> None:
        """Let the memory have its own calls again."""
        for name in ("save", "load"):
            vars(self._memory).pop(name, None)
        vars(self._memory).update(self._before)

    def save(self, directory: str = "", format: str = "pt") -> Path:  # noqa: A002  (its name for it)
        """Save the memory, whole or not at all, in any format that memories of Keepfast have.

        Args:
            directory: below it, in ``memories``, the file is made; by default the memory's own, or else the run's.
            format: the memory format, by name.

        Returns:
            The file's path.
        """
        chosen = directory or self._memory.export_directory or self._experiment.directory
        return MemoryExport(format, Path(chosen) / _FOLDER).save(self.snapshot)

    def load(self, path: str | os.PathLike[str], fit: Fit = "error") -> None:
        """Load the memory from a file of skrl or of Keepfast, verified, all of it or nothing.

        Args:
            path: the file, of any memory format.
            fit: what to do with a file of another size; see `Memory.load`.

        Raises:
            LoadMismatch: if the file has other tensors, or does not fit; the memory is as it was.
            CorruptMemory: if it is damaged.
            NotFound: if there is none.
        """
        memory = self._memory
        snapshot = fitted(read_memory(path), memory.memory_size, memory.num_envs, fit)
        self._require_fit({name: tensor.shape for name, tensor in snapshot.tensors.items()}, path)
        self._put(
            snapshot.tensors, {"row": snapshot.memory_index, "env": snapshot.env_index, "filled": snapshot.filled}
        )

    def _require_fit(self, found: Mapping[str, Any], path: Any) -> None:
        own = {name: tuple(tensor.shape) for name, tensor in self._memory.tensors.items()}
        wrong = {
            name: shape for name, shape in own.items() if found.get(name) is not None and tuple(found[name]) != shape
        }
        missing = sorted(own.keys() - found.keys())
        if wrong or missing:
            told = [f"`{name}` is of the shape {tuple(found[name])}, not {own[name]}" for name in wrong]
            told += [f"`{name}` is not there" for name in missing]
            raise LoadMismatch(f"the memory is unchanged: in `{path}`, {', '.join(told)}")

    def snapshot(self) -> MemorySnapshot:
        """Return an independent copy of the memory."""
        memory = self._memory
        tensors = {name: np.array(host_array(memory.tensors[name])) for name in memory.get_tensor_names()}
        if not memory.filled:  # what was never written is not a number there
            for tensor in tensors.values():
                tensor[memory.memory_index + (memory.env_index > 0) :] = 0
        about = {"agent": self._experiment.name, "keepfast": __version__}
        return MemorySnapshot(tensors, memory.memory_index, memory.env_index, bool(memory.filled), about)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows that were written, and where the next one goes."""
        memory = self._memory
        rows = memory.memory_size if memory.filled else memory.memory_index + (memory.env_index > 0)
        return {
            # By their number, for they are as many as a file has, and not as many as there are already.
            "tensors": {str(rows): {name: tensor[:rows] for name, tensor in memory.tensors.items()}},
            "row": int(memory.memory_index),
            "env": int(memory.env_index),
            "filled": bool(memory.filled),
            "sizes": [int(memory.memory_size), int(memory.num_envs)],
        }

    def copied(self) -> dict[str, Any]:
        """Return the state, of its own."""
        state = self.state_dict()
        ((number, tensors),) = state["tensors"].items()
        return {**state, "tensors": {number: {name: np.array(host_array(rows)) for name, rows in tensors.items()}}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put rows back, into tensors that are made where they are yet to be."""
        memory = self._memory
        own = [int(memory.memory_size), int(memory.num_envs)]
        if list(map(int, state["sizes"])) != own:
            raise LoadMismatch(
                f"the memory has (memory_size, num_envs) = {tuple(own)}, the file {tuple(state['sizes'])}"
            )
        self._put(next(iter(state["tensors"].values()), {}), state)

    def _put(self, tensors: Mapping[str, Any], where: Mapping[str, Any]) -> None:
        memory = self._memory
        for name, rows in tensors.items():
            if name not in memory.tensors:
                self._create(name, rows)
        for name, rows in tensors.items():
            self._overwrite(name, rows)
        memory.memory_index, memory.env_index = int(where["row"]), int(where["env"])
        memory.filled = bool(where["filled"])

    def _create(self, name: str, rows: Any) -> None:
        """Make a tensor as `init` will ask for it, which then takes it for its own."""
        size = tuple(map(int, rows.shape[2:]))
        if len(size) == 1:
            self._memory.create_tensor(name=name, size=size[0], dtype=rows.dtype)
        else:
            self._memory.create_tensor(name=name, size=size, dtype=rows.dtype, keep_dimensions=True)

    def _overwrite(self, name: str, rows: Any) -> None:
        tensor = self._memory.tensors[name]
        if hasattr(tensor, "copy_"):
            values = rows if hasattr(rows, "copy_") else tensor.new_tensor(rows)
            tensor[: len(rows)].copy_(values)
            return
        whole = np.array(host_array(tensor))
        whole[: len(rows)] = host_array(rows)
        self._memory.set_tensor_by_name(name, whole)
