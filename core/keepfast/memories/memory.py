"""Memory: samples that are added, drawn, exported, and brought back from files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from keepfast._system.arguments.checks import table, truth
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.lifetimes import in_child
from keepfast.errors import InvalidValue, UsageError, as_given
from keepfast.interfaces.loading.report import LoadReport
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.memories.buffer import SampleBuffer
from keepfast.memories.export import DEFAULT_DIRECTORY, DEFAULT_FORMAT, MemoryExport
from keepfast.memories.files import read_memory
from keepfast.memories.fitting import Fit, of_state
from keepfast.memories.sampling import Sampler
from keepfast.memories.shown import line, page
from keepfast.memories.storage import Storage


@guarded_calls("__init__")
class Memory:
    """Keeps the newest samples of a number of environments in tensors of shape (memory_size, num_envs, *size).

    Two numbers say where the next sample goes: `memory_index`, the row, and `env_index`, the environment. When the
    last row is complete, the next sample overwrites the oldest; before that, the memory is exported where that is
    asked for. Samples lie in order in flat buffers of shape (memory_size * num_envs, *size).

    One thread may add samples while another samples, saves or loads: each call is completed before the next begins.
    Pickling and copying a memory is no such call; on PyTorch no thread may add meanwhile.

    Args:
        storage: keeps the tensors, on one framework; a new one for each memory.
        export: whether to export the memory at each filling cycle, before anything is overwritten. What is written is
            a copy, and the file is made behind training; a memory that fills again before it is done waits for it.
        export_format: the memory format of exports and of `save`: ``pt``, ``np``, ``csv``, or another that a plugin
            provides.
        export_directory: where the files go, made where it is missing: ``memory`` in the working directory by default.
            Where it is "", they go into the directory of the agent's run, once the memory belongs to one.
        replacement: whether `sample` may return one sample several times. Without, a batch larger than what the
            memory holds is cut to that.
        export_keep: how many exported cycles stay on disk, the newest; None keeps all.

    Raises:
        UnknownPlugin: if nobody provides the export format.
        DirectoryError: if files cannot be written into the directory, and `export` is on.
    """

    def __init__(
        self,
        storage: Storage,
        export: bool = False,
        export_format: str | None = DEFAULT_FORMAT,
        export_directory: str | os.PathLike[str] | None = DEFAULT_DIRECTORY,
        replacement: bool = True,
        export_keep: int | None = None,
    ) -> None:
        self._buffer = SampleBuffer(storage)
        self._sampler = Sampler(self._buffer, truth("replacement", replacement))
        self._exports = MemoryExport(export_format, export_directory, export_keep, active=truth("export", export))
        self._buffer.listeners.filled.append(self._exports.filled)
        if self._exports.active:
            self._exports.prepare()
        self._begin()

    def _begin(self) -> None:
        self._renew_lock()
        in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()  # in a child too: a thread that held the other stayed with the parent

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
            sampler = self._sampler.replacement, self._sampler.last
            return {**state, "_buffer": self._buffer.__getstate__(), "_sampler": sampler}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._buffer = SampleBuffer.__new__(SampleBuffer)
        self._buffer.__setstate__(state["_buffer"])
        self._sampler = Sampler(self._buffer, *state["_sampler"])
        self._begin()

    @property
    def storage(self) -> Storage:
        """Return what keeps the tensors."""
        self._buffer.is_lent = True
        return self._buffer.storage

    @property
    def backend(self) -> str:
        """Return the name of the framework's backend."""
        return self._buffer.storage.backend

    @property
    def device(self) -> Any:
        """Return where the tensors live."""
        return self._buffer.storage.device

    @property
    def memory_size(self) -> int:
        """Return the number of rows; each holds one sample of every environment."""
        return self._buffer.storage.memory_size

    @property
    def num_envs(self) -> int:
        """Return the number of environments."""
        return self._buffer.storage.num_envs

    @property
    def ring(self) -> Ring:
        """Return where the samples lie in the rows, and where the next one goes."""
        return self._buffer.cursor.ring

    @property
    def memory_index(self) -> int:
        """The row that the next sample goes to."""
        return self.ring.memory_index

    @memory_index.setter
    def memory_index(self, row: int) -> None:
        self._move(memory_index=row)

    @property
    def env_index(self) -> int:
        """The environment that the next sample goes to."""
        return self.ring.env_index

    @env_index.setter
    def env_index(self, environment: int) -> None:
        self._move(env_index=environment)

    @property
    def filled(self) -> bool:
        """Whether every row has been written at least once."""
        return self._buffer.cursor.filled

    @filled.setter
    def filled(self, filled: bool) -> None:
        self._move(filled=filled)

    def _move(self, **position: Any) -> None:
        with self._lock:
            self._buffer.cursor.move(self.ring.moved(**position), self._buffer.cursor.seams)

    @property
    def autoreset(self) -> str | None:
        """When the environments reset, as the setting of that name has it; None where nobody said.

        With "next_step" the sample of each environment that follows the end of an episode (a true value in
        ``terminated``, ``truncated`` or ``dones``) is no transition: its environment was only reset. It is marked in
        the tensor ``valid``, and neither `sample` nor `sample_all` returns it. `Agent.init` and `Experiment.register`
        set this by the environment, where they are given it.
        """
        return self._buffer.autoreset

    @autoreset.setter
    def autoreset(self, autoreset: str | None) -> None:
        with self._lock:
            self._buffer.watch(autoreset)

    @property
    def metadata(self) -> dict[str, Any]:
        """What else the files tell of this memory (its agent, say); yours to fill."""
        return self._buffer.metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        read = table("metadata", metadata)
        self._buffer.metadata = metadata if isinstance(metadata, dict) else read

    @property
    def replacement(self) -> bool:
        """Whether `sample` may return one sample several times."""
        return self._sampler.replacement

    @replacement.setter
    def replacement(self, replacement: bool) -> None:
        self._sampler.replacement = truth("replacement", replacement)

    @property
    def export(self) -> bool:
        """Whether the memory is exported at each filling cycle."""
        return self._exports.active

    @export.setter
    def export(self, export: bool) -> None:
        self._exports.active = truth("export", export)

    @property
    def export_format(self) -> str:
        """Return the format of exports and of `save`."""
        return self._exports.format

    @property
    def export_directory(self) -> Path:
        """Return where the files go."""
        return self._exports.directory

    def belong_to(self, run: Path) -> None:
        """Be told the directory of the run, where exports go if `export_directory` is ""; the agent calls this.

        Raises:
            DirectoryError: if exports are to go there, and it cannot be made or written in.
        """
        self._exports.belong_to(run)

    def when_exported(self, callback: Callable[[Path], object]) -> None:
        """Have a function called, behind training, with each file that is written for a filling cycle.

        Raises:
            InvalidValue: if it is no function.
        """
        self._exports.when_exported(callback)

    def __repr__(self) -> str:
        return line(self)

    def _repr_html_(self) -> str:
        return page(self)

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments; those that are no transitions count too."""
        return len(self._buffer)

    # tensors ---------------------------------------------------------------------------------------------------------

    def create_tensor(self, name: str, size: Any, dtype: Any = None, keep_dimensions: bool = False) -> bool:
        """Create a tensor of shape (memory_size, num_envs, *size); floating-point ones begin as NaN, others as zeros.

        Args:
            name: its name, by which `add_samples` and `sample` know it.
            size: the size of one sample: a number of elements, a shape, or a Gymnasium space. None makes no tensor:
                agents say so what they have not, an environment's state for example.
            dtype: its dtype, in the framework's terms; None is the framework's default floating-point one.
            keep_dimensions: whether to keep the dimensions of a shape or space, instead of flattening them to one.

        Returns:
            Whether it was created; False where it exists already, of the same size and dtype, or the size is None.

        Raises:
            ShapeMismatch: if it exists with another size.
            InvalidValue: if it exists with another dtype, the size or the dtype is none, or the name could not be
                stored in files.
        """
        with self._lock:
            return self._buffer.create(name, size, dtype, keep_dimensions=keep_dimensions)

    def get_tensor_names(self) -> list[str]:
        """Return the names of the tensors, in alphabetical order."""
        with self._lock:
            self._buffer.settle()
            return sorted(self._buffer.specs)

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
        with self._lock:
            return self._buffer.tensor(name, keepdim=keepdim)

    def set_tensor_by_name(self, name: str, tensor: Any) -> None:
        """Replace all values of a tensor.

        Raises:
            UnknownTensor: if there is none of that name.
            ShapeMismatch: if the new values are of neither shape that `get_tensor_by_name` returns.
            InvalidValue: if no numbers can be made of them.
        """
        with self._lock:
            self._buffer.set_tensor(name, tensor)

    # samples ---------------------------------------------------------------------------------------------------------

    def add_samples(self, *, valid: Any = None, **tensors: Any) -> None:
        """Add samples, in order, from (memory_index, env_index) on; the oldest are overwritten.

        Every array holds the same number of samples, in one of these shapes: (num_envs, *size) is one of each
        environment; *size* is one sample; (n, *size) are the samples of n environments, or, where there is only one
        environment, any number of its samples; (rows, num_envs, *size) are several rows. Tensors that are not given
        keep what they hold in those places, and names without a tensor are passed over: agents give all that they have.
        All arrays are checked before the first is written.

        Args:
            valid: of shape (num_envs,), or with as many elements as there are samples; whether each is a transition;
                all are if None. Those that are not (of environments that were idle, or only reset) are in no batch,
                and no sequence crosses them. The tensor ``valid``, of size 1, tells which they are, once there was one.
            **tensors: the samples by the name of their tensor; converted to its dtype and device. None is none.

        Raises:
            UnknownTensor: if a name is nearly that of a tensor, or none is that of one; `create_tensor` makes one.
            ShapeMismatch: if an array has another shape, or the arrays hold different numbers of samples.
            InvalidValue: if no numbers can be made of what is given.
        """
        with self._lock:
            self._buffer.add(tensors, valid)

    def sample(
        self, names: Sequence[str], batch_size: int, mini_batches: int = 1, sequence_length: int = 1
    ) -> list[list[Any]]:
        """Return random samples, in mini-batches.

        Args:
            names: the tensors to sample from; where there is none of a name, there is None in its place.
            batch_size: how many samples, or sequences.
            mini_batches: into how many parts to split them.
            sequence_length: how many consecutive samples of one environment to return for each one drawn. Sequences
                do not cross the end of an episode (a true value in ``terminated`` or ``truncated``, where the memory
                has these tensors), a sample that is no transition, the place that is overwritten next, nor a place
                where `load` put together what did not belong together.

        Returns:
            For each mini-batch, the samples of each name, in the order of `names`, of shape
            (batch_size / mini_batches * sequence_length, *size); the samples of a sequence follow one another.

        Raises:
            UnknownTensor: if a name is nearly that of a tensor, or none is that of one.
            UsageError: if there is nothing to sample from.
            InvalidValue: if a number is no positive whole number.
        """
        with self._lock:
            return self._sampler.sample(names, batch_size, mini_batches, sequence_length)

    def sample_by_index(self, names: Sequence[str], indexes: Any, mini_batches: int = 1) -> list[list[Any]]:
        """Return samples by their place, row * num_envs + environment, split into mini-batches.

        Raises:
            UnknownTensor: if there is no tensor of a name.
            InvalidValue: if an index is not that of a place. Those on an accelerator are not waited for and checked.
        """
        with self._lock:
            return self._sampler.by_index(names, indexes, mini_batches)

    def sample_all(self, names: Sequence[str], mini_batches: int = 1, sequence_length: int = 1) -> list[list[Any]]:
        """Return every sample that is a transition, in the order of their rows, split into mini-batches.

        Args:
            names: the tensors to return.
            mini_batches: into how many parts to split them, as equal as possible.
            sequence_length: where greater than 1, the samples of one environment follow one another, oldest first, and
                mini-batches begin at multiples of it. An environment whose number of samples is no multiple shares a
                sequence with the next.

        Returns:
            For each mini-batch, the samples of each name, of shape (transitions / mini_batches, *size).

        Raises:
            UnknownTensor: if there is no tensor of a name.
            InvalidValue: if a number is no positive whole number.
        """
        with self._lock:
            return self._sampler.everything(names, mini_batches, sequence_length)

    def get_sampling_indexes(self) -> Any:
        """Return the places of what `sample` returned last."""
        return self._sampler.last

    def reset_episodes(self, envs: Any = None) -> None:
        """Be told that environments were reset: what is added next of them does not follow their newest samples.

        No sequence goes from the ones to the others. `Agent.reset_episodes` and a resume call this.

        Args:
            envs: which ones: a mask of shape (num_envs,), or their numbers; all of them if None.

        Raises:
            InvalidValue: if there is no such environment.
        """
        with self._lock:
            self._buffer.part(envs)

    def reset(self) -> None:
        """Forget every sample; the tensors keep their old values until they are overwritten."""
        with self._lock:
            self._buffer.reset()

    # states ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> MemorySnapshot:
        """Return an independent copy of the memory, in host memory."""
        with self._lock:
            return self._buffer.snapshot()

    def restore(self, snapshot: MemorySnapshot, fit: Fit = "error") -> LoadReport:
        """Replace every sample by those of a snapshot, and tell so; a memory without tensors gets the snapshot's.

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
            if not isinstance(snapshot, MemorySnapshot):
                raise InvalidValue(f"`snapshot` is {as_given(snapshot)}; allowed: what `Memory.snapshot` returned")
            return self._buffer.restore(snapshot, fit)

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and where the next sample goes, so that a memory can be a module of a checkpoint."""
        with self._lock:
            position = self._buffer.position()  # first: it may make a tensor
            return {
                "tensors": {name: self._buffer.tensor(name, keepdim=True) for name in self._buffer.specs},
                **position,
            }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, of a memory of the same sizes; arrays may be of any framework.

        Raises:
            LoadMismatch: if the tensors or sizes differ, or it is no such state. The memory is unchanged.
        """
        snapshot, ended = of_state(state_dict, self.memory_size, self.num_envs, self._buffer.storage.host_array)
        with self._lock:
            self.restore(snapshot)
            self._buffer.after_end = ended

    def save(self, directory: str | os.PathLike[str] = "", format: str | None = None) -> Path:  # noqa: A002  (the design's name)
        """Write the memory, full or not, into a new file, and return its path once it is on disk.

        Args:
            directory: where to; the directory of exports by default.
            format: the memory format; that of exports by default.

        Raises:
            UnknownPlugin: if nobody provides the format.
            UsageError: if the memory has no tensors.
            WriteFailed: if the operating system refused.
        """
        if not self._buffer.specs:
            raise UsageError("the memory has no tensors to save; `create_tensor` makes one")
        return self._exports.save(self.snapshot, directory, format)

    def load(self, path: str | os.PathLike[str], fit: Fit = "error") -> LoadReport:
        """Replace every sample by those of a file, of any format and written on any framework.

        Args:
            path: a memory file. Where this memory has no tensors, it gets the file's.
            fit: what to do with a file of another memory size or number of environments: ``"error"``; keep the
                ``"newest"`` samples that fit, or the ``"oldest"``.

        Returns:
            What was loaded: each tensor, and whether its dtype was converted.

        Raises:
            NotFound: if there is no such file.
            CorruptMemory: if the file is damaged.
            LoadMismatch: if the file does not fit; lists every difference. The memory is unchanged in each case.
        """
        return replace(self.restore(read_memory(path), fit), path=Path(path))

    def wait(self) -> None:
        """Return when every export that was begun is on disk; warns of one that failed."""
        self._exports.wait()

    def close(self) -> None:
        """Finish every export, that of what was added since the memory was last full too, and tell how many failed."""
        with self._lock:
            self._exports.close(self._buffer.rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
