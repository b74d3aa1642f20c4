"""SampleBuffer: the samples of a memory, put round and round into its storage; Listeners: who is told of them."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import environments
from keepfast._system.arguments.checks import truth
from keepfast._system.warnings import Afterwards, warn
from keepfast._version import __version__
from keepfast.errors import InvalidValue, KeepfastError, ShapeMismatch, as_given
from keepfast.interfaces.loading.report import LoadReport
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import EPISODE_ENDS, VALID, Cursor, Ring, reset_rows
from keepfast.memories.fitting import Fit, fitted, matched, report_of, since_full
from keepfast.memories.storage import Storage
from keepfast.memories.tensors.holding import dtype_name, whole_numbers
from keepfast.memories.tensors.specs import VALIDITY, TensorSpec, sample_size
from keepfast.memories.tensors.table import TensorTable

NEXT_STEP = "next_step"
"""How environments reset whose step after the end of an episode is no transition."""

_RESETS = NEXT_STEP, "same_step", "disabled"


@final
@dataclass(frozen=True)
class Listeners:
    """Who is told what becomes of the samples of a memory: at once, in order, while no other thread can add any.

    None of them may hold the buffer, which is freed with its last user.

    Attributes:
        added: told that samples were written: the place of the first, and how many there are up to the last place.
        filled: told that the last row is complete and nothing was overwritten since: how many times that was, and what
            returns an independent copy of the memory.
        replaced: told that samples were changed in another way: set, loaded or forgotten.
    """

    added: list[Callable[[int, int], None]] = field(default_factory=list)
    filled: list[Callable[[int, Callable[[], MemorySnapshot]], None]] = field(default_factory=list)
    replaced: list[Callable[[], None]] = field(default_factory=list)


@final
class SampleBuffer:
    """Names and checks the tensors of a storage, and adds samples where its cursor is.

    Its calls are those of `Memory`, which has their documentation, for one thread at a time and without files.

    Args:
        storage: keeps the tensors.

    Attributes:
        storage: keeps the tensors.
        tensors: what the tensors are.
        specs: what each tensor is, by its name.
        cursor: where the next sample goes.
        metadata: what snapshots tell beside what the buffer knows.
        listeners: who is told of every change.
        changes: how many changes there were.
        exposed: the names of tensors whose memory somebody was given, who may change it at any time.
        is_lent: whether somebody was given the storage, and with it all tensors.
        settings: how many times all values of a tensor were set, by its name.
        autoreset: when the environments reset. With "next_step" the sample after one that ended an episode is no
            transition, as the buffer's own tensors tell.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.cursor = Cursor(storage.memory_size, storage.num_envs)
        self.tensors = TensorTable(storage)
        self.specs = self.tensors.specs
        self.metadata: dict[str, Any] = {}
        self.listeners = Listeners()
        self.changes = 0
        self.exposed: set[str] = set()
        self.is_lent = False
        self.settings: Counter[str] = Counter()
        self._rest_at = 0, 0  # cycles and place up to which no sample is new
        self.autoreset: str | None = None
        self._unsettled = 0  # how many of the newest samples were not looked at yet
        self._marks_wanting: bool | None = False  # whether samples came without a mask; None once that was told
        self._after_end = np.zeros(storage.num_envs, bool)  # whether the sample before ended the episode

    def __getstate__(self) -> dict[str, Any]:
        # At once and in whole: what pickle asks for later may have changed by then.
        cursor = copy.copy(self.cursor)
        cursor.seams = set(cursor.seams)
        storage = type(self.storage), self.storage.__getstate__()
        self.is_lent = True  # frameworks have processes share what they send each other
        own = {"cursor": cursor, "storage": storage, "tensors": self.tensors.over(self.storage), "specs": None}
        copied = {"_after_end": self._after_end.copy(), "exposed": set(self.exposed), "settings": self.settings.copy()}
        return {**self.__dict__, **own, **copied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, stored = state["storage"]
        storage = kind.__new__(kind)
        storage.__setstate__(stored)
        self.__dict__.update({**state, "storage": storage, "tensors": state["tensors"].over(storage)})
        self.specs = self.tensors.specs

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        return len(self.cursor)

    # tensors ---------------------------------------------------------------------------------------------------------

    def create(self, name: str, size: Any, dtype: Any, *, keep_dimensions: bool) -> bool:
        """Create a tensor, or one for each leaf of a space, and return whether any was not there before."""
        wanted = None if dtype is None else self._dtype_name(dtype)
        if isinstance(name, str) and name == VALID and size is not None:
            return self._create_validity(sample_size(size, keep_dimensions=keep_dimensions), wanted)
        return self.tensors.create(name, size, wanted, keep_dimensions=keep_dimensions)

    def _dtype_name(self, dtype: Any) -> str:
        try:
            return self.storage.dtype_name(dtype)
        except KeepfastError:
            raise
        except Exception as error:
            raise InvalidValue(f"the dtype {as_given(dtype)} is none: {type(error).__name__} {error}") from error

    def _create_validity(self, size: tuple[int, ...] = VALIDITY.size, dtype: str | None = None) -> bool:
        """Create the tensor that tells which samples are transitions, as all were so far."""
        named = dtype or VALIDITY.dtype
        if (size, named) != (VALIDITY.size, VALIDITY.dtype):
            raise InvalidValue(
                f"`{VALID}` was given the size {size} and the dtype {named}; it tells which samples are transitions, "
                f"so it is of size {VALIDITY.size} and of dtype {VALIDITY.dtype}: give yours another name"
            )
        if VALID in self.specs:
            return False
        self.tensors.register(VALIDITY, self.storage.allocate(self.tensors.flat_shape(size), named))
        if count := len(self):
            self.storage.write(0, {VALID: self._all_valid(count)})
            self._replaced()
        return True

    def _all_valid(self, count: int) -> Any:
        return self.storage.array(np.ones((count, 1), bool))

    def tensor(self, name: str, *, keepdim: bool) -> Any:
        """Return a tensor, of shape (memory_size, num_envs, *size) or (memory_size * num_envs, *size)."""
        self.tensors.check_name(name)
        if name in self.tensors.composites:
            leaves = [self.tensor(leaf, keepdim=keepdim) for leaf in self.tensors.composites.tensors_of([name])]
            return self.tensors.composites.together([name], leaves)[0]
        if name == VALID:
            self.settle()
        size = self.tensors.spec(name).size
        self.expose([name])
        with self.storage.plainly():
            whole = self.tensors.shape(size) if truth("keepdim", keepdim) else self.tensors.flat_shape(size)
            return self.storage.view(name, whole)

    def expose(self, names: Iterable[str]) -> None:
        """Take note that somebody is given the memory of some tensors, where the storage gives that out."""
        if self.storage.gives_views:
            self.exposed.update(names)

    def set_tensor(self, name: str, tensor: Any) -> None:
        """Replace all values of a tensor, or of those that a name stands for."""
        self.tensors.check_name(name)
        with self.storage.plainly():
            values = self.tensors.whole(name, tensor)
            self.settings.update(values.keys())
            self.storage.write(0, values)
            if name == VALID:
                self._unsettled = 0
                self.cursor.invalid = np.flatnonzero(~self._flags(VALID, 0, len(self)))
        self._replaced()

    # samples ---------------------------------------------------------------------------------------------------------

    def add(self, tensors: Mapping[str, Any], valid: Any = None) -> None:
        """Add samples from the cursor on, those that are transitions marked as such, and tell the listeners."""
        cursor = self.cursor
        row, environment = divmod(cursor.place, cursor.num_envs)
        if environment == 0 and self.tensors.is_row(tensors):
            if watches := self._watches or valid is not None:
                with self.storage.plainly():
                    tensors = self._marked(tensors, valid, cursor.num_envs)
                    tensors = self._with_room(tensors, cursor.num_envs)
            self.storage.write_row(row, tensors)
            self._advance(cursor.num_envs, watches=watches and self._watches)
            return
        there = self.tensors.there(tensors)
        if there is not tensors:
            if there:
                self.add(there, valid)
            return
        if not self.tensors.composites.structures.keys().isdisjoint(tensors):
            self.add(self.tensors.composites.apart(tensors), valid)
            return
        with self.storage.plainly(), Afterwards():
            count, checked = self.tensors.checked(tensors)
            samples = self._marked(checked, valid, count) if self._watches or valid is not None else checked
            done = 0
            while done < count:
                taken = min(count - done, cursor.capacity - cursor.place)
                whole = taken == count
                part = samples if whole else {name: values[done : done + taken] for name, values in samples.items()}
                self.storage.write(cursor.place, self._with_room(part, taken))
                done += taken
                self._advance(taken, watches=self._watches)

    def _advance(self, count: int, *, watches: bool) -> None:
        cursor, listeners = self.cursor, self.listeners
        start = cursor.place
        is_complete = cursor.advance(count)
        if watches:
            self._unsettled += count
        self.changes += 1
        for added in listeners.added:
            added(start, count)
        if is_complete:
            for filled in listeners.filled:
                filled(cursor.cycles, self.snapshot)

    def _replaced(self) -> None:
        self.changes += 1
        for replaced in self.listeners.replaced:
            replaced()

    def reset(self) -> None:
        """Forget every sample."""
        self.cursor.move(Ring(self.storage.memory_size, self.storage.num_envs))
        self._forget_running()
        self._replaced()

    # which samples are transitions -----------------------------------------------------------------------------------

    def watch(self, autoreset: str | None) -> None:
        """Be told when the environments reset, for samples that are added from here on.

        Raises:
            InvalidValue: if there is no such way of resetting.
        """
        if not (autoreset is None or (isinstance(autoreset, str) and autoreset in _RESETS)):
            allowed = ", ".join(f'"{each}"' for each in _RESETS)
            raise InvalidValue(f"`autoreset` is {as_given(autoreset)}; allowed: None, {allowed}")
        if autoreset != self.autoreset:
            self.settle()
            self._after_end = self._after_end & (self.autoreset != NEXT_STEP)
            self.autoreset = autoreset

    @property
    def _watches(self) -> bool:
        """Whether any sample that is added may be no transition."""
        return VALID in self.specs or self.autoreset == NEXT_STEP

    def _marked(self, samples: Mapping[str, Any], valid: Any, count: int) -> Mapping[str, Any]:
        """Return samples with the marks that are given for them, unless all are valid and no tensor tells it."""
        if valid is None:
            self._marks_wanting = None if self._marks_wanting is None else True
            return samples
        marks = self._marks(valid)
        if math.prod(marks.shape) != count:
            raise ShapeMismatch(
                f"`{VALID}` was given with the shape {tuple(marks.shape)}; expected ({count},), for as many samples; "
                "nothing was added"
            )
        if VALID not in self.specs:
            if self.storage.is_on_host(marks) and self.storage.host_array(marks).all():
                return samples
            self._create_validity()
        return {**samples, VALID: marks.reshape(count, 1)}

    def _marks(self, valid: Any) -> Any:
        marks = self.storage.numbers(VALID, valid)
        if whole_numbers(name := dtype_name(marks.dtype)) is None:
            raise InvalidValue(
                f"`{VALID}` was given {name}; allowed: truth values or whole numbers, one for each sample; nothing was "
                "added"
            )
        return marks

    def _with_room(self, samples: Mapping[str, Any], count: int) -> Mapping[str, Any]:
        """Look at samples that are about to be overwritten, and return the new ones with the marks they need by now."""
        if self._unsettled + count > self.cursor.capacity:
            self.settle()
        return {VALID: self._all_valid(count), **samples} if VALID in self.specs else samples

    @property
    def invalid(self) -> NDArray[np.intp]:
        """Return the places, ascending, of samples that are no transitions."""
        self.settle()
        return self.cursor.invalid

    def settle(self) -> None:
        """Find the samples that are no transitions among those added since; waits for a device, unlike adding."""
        count, self._unsettled = self._unsettled, 0
        start = self.cursor.place - count
        for first, last in ((start + self.cursor.capacity, self.cursor.capacity), (max(start, 0), self.cursor.place)):
            if first < last:
                with self.storage.plainly():
                    self._settle(first, last)

    def _settle(self, start: int, stop: int) -> None:
        valid = self._flags(VALID, start, stop) if VALID in self.specs else np.ones(stop - start, bool)
        if self.autoreset == NEXT_STEP:
            resets = self._resets(start, valid & self._ends(start, stop))
            if resets.any():
                valid = valid & ~resets
                self._create_validity()
                self.storage.write(start, {VALID: self.storage.array(valid[:, None])})
        self.cursor.mark(start, valid)

    def _ends(self, start: int, stop: int) -> NDArray[np.bool]:
        """Return, for the samples from one place to another, whether they end an episode."""
        names = EPISODE_ENDS & self.specs.keys()
        if self._marks_wanting and not names & {"truncated", "dones"}:
            self._marks_wanting = None
            warn(
                "the memory has no tensor `truncated`, so it cannot tell that a sample follows an episode that was cut "
                "short, and only resets its environment; create that tensor, or give `valid` to `add_samples`"
            )
        ends = np.zeros(stop - start, bool)
        for name in names:
            ends = ends | self._flags(name, start, stop)
        return ends

    def _flags(self, name: str, start: int, stop: int) -> NDArray[np.bool]:
        """Return, for the samples from one place to another, whether any value of a tensor is true."""
        part = self.storage.host_part(name, start, stop).astype(bool)
        return np.asarray(part.any(axis=tuple(range(1, part.ndim))))

    def _resets(self, start: int, ends: NDArray[np.bool]) -> NDArray[np.bool]:
        """Return which samples, from a place on, only reset their environment, given which end an episode."""
        num_envs, resets = self.storage.num_envs, np.zeros_like(ends)
        head = min(-start % num_envs, len(ends))  # the rest of a row that was begun
        tail = head + (len(ends) - head) // num_envs * num_envs
        for first, last in ((0, head), (head, tail), (tail, len(ends))):
            if first < last:
                environment = (start + first) % num_envs
                after = self._after_end[environment : environment + min(last - first, num_envs)]
                rows = ends[first:last].reshape(-1, len(after))
                found = reset_rows(rows, after)
                after[...] = rows[-1] & ~found[-1]
                resets[first:last] = found.reshape(-1)
        return resets

    def part(self, envs: Any = None) -> None:
        """Be told that environments were reset: what comes next of them does not follow their newest samples."""
        self.settle()
        chosen = range(self.storage.num_envs) if envs is None else environments(envs, self.storage.num_envs).tolist()
        self.cursor.part(chosen)
        self._after_end[list(chosen)] = False
        self.changes += 1

    @property
    def after_end(self) -> NDArray[np.bool]:
        """Return in which environments the newest sample ended an episode, so that the next one only resets."""
        self.settle()
        return self._after_end.copy()

    @after_end.setter
    def after_end(self, ended: NDArray[np.bool]) -> None:
        self._after_end = ended

    def _forget_running(self) -> None:
        self._unsettled = 0
        self._after_end = np.zeros(self.storage.num_envs, bool)
        self._rest_at = self.cursor.cycles, self.cursor.place

    # states ----------------------------------------------------------------------------------------------------------

    def position(self) -> dict[str, Any]:
        """Return where the next sample goes, and what follows what: the state of a memory beside its tensors."""
        self.settle()
        places = dict(zip(("memory_index", "env_index", "filled"), self.cursor.ring.position, strict=True))
        running = {"after_end": self.after_end} if self.autoreset == NEXT_STEP else {}
        return {**running, **places, "seams": sorted(self.cursor.seams)}

    def snapshot(self) -> MemorySnapshot:
        """Return an independent copy of everything, in host memory."""
        self.settle()
        with self.storage.plainly():
            hosts = {name: self.storage.host(name) for name in self.specs}
        tensors = {}
        for name, spec in self.specs.items():
            flat = hosts[name]
            flat[len(self) :] = np.zeros((), flat.dtype)  # never written, or forgotten by a reset
            tensors[name] = flat.reshape(self.tensors.shape(spec.size))
        metadata = self._description()
        if self.cursor.seams:
            metadata["seams"] = sorted(self.cursor.seams)
        return MemorySnapshot(tensors, *self.cursor.ring.position, metadata)

    def _description(self) -> dict[str, Any]:
        versions = {"keepfast": __version__, "numpy": np.__version__, **self.storage.versions()}
        return {
            "backend": self.storage.backend,
            **self.tensors.description(),
            "format_version": 1,
            "time": datetime.now(UTC).isoformat(),
            "cycle": self.cursor.cycles,
            "versions": versions,
            **self.metadata,
        }

    def rest(self) -> MemorySnapshot | None:
        """Return the samples since the last row was completed; None where there are none that are new."""
        at = self.cursor.cycles, self.cursor.place
        if not self.cursor.place or at == self._rest_at:
            return None
        self._rest_at = at
        rest = since_full(self.snapshot())
        return replace(rest, metadata={**rest.metadata, "cycle": self.cursor.cycles + 1})

    def restore(self, snapshot: MemorySnapshot, fit: Fit = "error") -> LoadReport:
        """Replace every sample by those of a snapshot, or raise and change nothing."""
        storage = self.storage
        specs, tensors = matched(snapshot, self.specs, storage.dtype_name, storage.keeps_wide)
        fit_in = fitted(replace(snapshot, tensors=tensors), storage.memory_size, storage.num_envs, fit)
        with storage.plainly():
            if not self.specs:
                self.tensors.composites.adopt(snapshot.metadata.get("structures"), specs)
            self._put(specs, fit_in)
        self.cursor.move(fit_in.ring, fit_in.seams, np.flatnonzero(~fit_in.valid.reshape(-1)[: len(fit_in)]))
        self._forget_running()
        self._replaced()
        return report_of(snapshot, specs)

    def _put(self, specs: Mapping[str, TensorSpec], fit_in: Any) -> None:
        storage = self.storage
        new = {
            name: storage.allocate(self.tensors.flat_shape(spec.size), spec.dtype)
            for name, spec in specs.items()
            if name not in self.specs
        }
        for name, tensor in fit_in.tensors.items():
            self.tensors.register(specs[name], new[name] if name in new else storage.buffers[name])
            flat = tensor.reshape(self.tensors.flat_shape(specs[name].size))[: len(fit_in)]
            storage.write(0, {name: storage.array(flat)})
        if VALID in self.specs and VALID not in fit_in.tensors and len(fit_in):
            storage.write(0, {VALID: self._all_valid(len(fit_in))})
