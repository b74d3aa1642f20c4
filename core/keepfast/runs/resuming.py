"""Has a run go on where a checkpoint was taken: finds it, reads it, and restores all that it holds."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._system.background import wait_for_writing
from keepfast._system.warnings import warn
from keepfast.checkpoints.best import check_best
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS, IndexedCheckpoint
from keepfast.checkpoints.placing import IncompleteSet
from keepfast.errors import CorruptCheckpoint, InvalidValue, KeepfastError, NotFound, RemoteError, as_given
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.loading.report import LoadReport
from keepfast.modules.options import LoadOptions
from keepfast.modules.registered import RegisteredModule
from keepfast.modules.restoring import restore_all, restored
from keepfast.modules.table import ModuleTable
from keepfast.modules.undoing import Undo, naming
from keepfast.plugins.formats import is_checkpoint, read_checkpoint
from keepfast.plugins.locations import located
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.directory import EarlierRun
from keepfast.runs.processes.ranks import Ranks, Unfinished
from keepfast.runs.random_state import capture_random_state, check_random_state, restore_random_state
from keepfast.runs.reading import Progress
from keepfast.runs.recorder import Recorder, check_tracked
from keepfast.tracking.tracker import Tracker
from keepfast.tree import Tree


@final
class Resuming:
    """Has a run go on where a checkpoint was taken, its own or another run's.

    Args:
        modules: what the run's checkpoints hold.
        recorder: what tracks and writes.
        checkpointer: what stores.
        earlier: what an earlier run left in the run's directory.
        ranks: what each process of a distributed run has for itself.
    """

    def __init__(
        self,
        modules: ModuleTable,
        recorder: Recorder,
        checkpointer: Checkpointer,
        earlier: EarlierRun,
        ranks: Ranks,
    ) -> None:
        self._modules, self._recorder, self._checkpointer, self._earlier = modules, recorder, checkpointer, earlier
        self._ranks = ranks
        self._late: tuple[Checkpoint, Path] | None = None
        self.late_names: set[str] = set()

    def state(self, modules: Sequence[RegisteredModule]) -> dict[str, Any]:
        """Return what a checkpoint holds beside the modules, so that the run can go on exactly."""
        backends = {module.backend.name: module.backend for module in modules}
        late = {"late": sorted(self.late_names)} if self.late_names else {}
        return {
            **late,
            "random": capture_random_state(backends.values()),
            "recorder": self._recorder.state_dict(),
            "best": self._checkpointer.best.state(),
            "improvement": self._checkpointer.improvement.state(),
        }

    def resume(self, which: str | Path, options: LoadOptions) -> LoadReport | None:
        """Find a checkpoint and restore it; see `Experiment.resume`.

        Returns:
            What was restored, with the timestep to go on with; None where the run's directory has no such checkpoint.

        Raises:
            NotFound: if the given path does not exist or holds no checkpoint that can be loaded.
            LoadMismatch: if the checkpoint does not fit; nothing was changed then.
            CorruptCheckpoint: if the one given file is damaged.
        """
        strict = which == "latest" or (which != "best" and located(which).is_dir())
        check = partial(self._check_all, strict=strict)
        found = find(which, self._checkpointer.directory, check, options.wanted())
        if found is None:
            self._start_anew()
            return None
        found = self._with_own(found)
        with self.restored(found, options) as report:
            return self.go_on(found, report)

    def find_at(self, path: Path, own: CheckpointDirectory) -> Found:
        """Return the checkpoint of a path, read and checked; see `find`."""
        return self._with_own(find_at(path, own, partial(self._check_all, strict=True)))

    def _with_own(self, found: Found) -> Found:
        """Return a checkpoint with what this process had for itself then; of the first one, as it is."""
        backends = {module.backend.name: module.backend for module in self._modules.look_up()}
        nothing = {"random": capture_random_state(backends.values()), "recorder": {"tracker": Tracker().state_dict()}}
        return replace(found, checkpoint=self._ranks.with_own(found.checkpoint, nothing))

    def _check_all(self, found: Found, *, strict: bool) -> None:
        """Check a checkpoint, and what each process has beside it; `strict` says whether each must have something."""
        self._check(found)

        def check(path: Path, checkpoint: Checkpoint) -> None:
            self._check(replace(found, path=path, checkpoint=checkpoint))

        is_best = found.checkpoint.about.metric is not None
        self._ranks.check(found.path, found.timestep, strict=strict, is_best=is_best, check=check)

    def _check(self, found: Found) -> None:
        """Check that all that a checkpoint holds beside the modules can be restored; nothing is changed.

        Raises:
            CorruptCheckpoint: if it is not as `state` returns it, or of another version of a library.
        """
        state = found.checkpoint.about.resume
        if state is None:
            return
        backends = {module.backend.name: module.backend for module in self._modules.look_up()}
        try:
            for part in ("random", "recorder", "best"):
                if not isinstance(state.get(part), Mapping):
                    raise InvalidValue(f"`{part}` is {as_given(state.get(part))}; allowed: a mapping")
            if not isinstance(state["random"].get("backends"), Mapping):
                raise InvalidValue("`random.backends` is no mapping")
            if not isinstance(state.get("late", ()), list | tuple):
                raise InvalidValue(f"`late` is {as_given(state['late'])}; allowed: a list of names")
            check_tracked(state["recorder"])
            check_best(state["best"])
            check_random_state(state["random"], list(backends.values()))
        except Exception as error:
            told = str(error) if isinstance(error, KeepfastError) else f"{type(error).__name__}: {error}"
            raise CorruptCheckpoint(
                f"`{found.path}` is damaged, or of another version of a library: what a resume needs cannot be "
                f"restored: {told}"
            ) from error

    def restored(self, found: Found, options: LoadOptions) -> AbstractContextManager[LoadReport]:
        """Restore the modules from a checkpoint that was found, and put them back where the block raises.

        Raises:
            LoadMismatch: if the checkpoint does not fit; nothing was changed then.
        """
        modules = self._modules.look_up()
        now, later = _parted(found.checkpoint, {module.name for module in modules})
        if later.modules and not now.modules and not modules:
            return nullcontext(LoadReport(found.path, timestep=found.timestep))
        return restored(modules, now, found.path, options, spent=True)

    def go_on(self, found: Found, report: LoadReport) -> LoadReport:
        """Restore all that a checkpoint holds beside the modules, which were restored from it.

        Returns:
            The report, with the timestep to go on with.
        """
        modules = self._modules.look_up()
        with Undo() as undo, naming("what a resume needs", found.path):
            self._restore_rest(found, modules, report, undo)
        later = _parted(found.checkpoint, {module.name for module in modules})[1]
        self._late = (later, found.path) if later.modules else None
        _warn_of_memories(modules, report, found.timestep)
        return LoadReport(found.path, report.entries, found.timestep, report.absent_modules, found.skipped)

    @property
    def late(self) -> Mapping[str, Tree]:
        """Return the modules of the checkpoint that are to be registered yet, by name."""
        return {} if self._late is None else self._late[0].modules

    def restore_late(self, names: Iterable[str]) -> None:
        """Restore modules that were registered only after a resume, where its checkpoint has them for that.

        Raises:
            LoadMismatch: if one of them does not fit; lists every difference, and nothing was changed.
        """
        wanted = set(names) & self.late.keys()
        if not wanted or self._late is None:
            return
        checkpoint, path = self._late
        now, later = _parted(checkpoint, wanted)
        restore_all([module for module in self._modules.look_up() if module.name in wanted], now, path, LoadOptions())
        self._late = (later, path) if later.modules else None

    def _start_anew(self) -> None:
        """Have the writers void what a run left that was killed before its first checkpoint was whole."""
        stored = any(found.own for found in self._checkpointer.directory.checkpoints())
        if self._earlier.begun and (self._ranks.is_on or not stored):
            self._recorder.resume(None, 0)
            self._earlier.taken_over()

    def _restore_rest(self, found: Found, modules: Sequence[RegisteredModule], report: LoadReport, undo: Undo) -> None:
        state, backends = found.state, {module.backend.name: module.backend for module in modules}.values()
        undo.add("the best score", self._checkpointer.remember())
        self._checkpointer.resume(state.get("best"), found.timestep)
        self._checkpointer.improvement.resume(state.get("improvement"), found.timestep)
        loaded = {entry.module for entry in report.entries if entry.status == "loaded"}
        environment = any(module.is_environment and module.name in loaded for module in modules)
        running = self._recorder.continues(environment)
        undo.add("what was tracked", self._recorder.remember())
        undo.add("the random state", partial(restore_random_state, capture_random_state(backends), backends))
        self._recorder.resume(state.get("recorder"), found.timestep, running_episodes=running)
        if "random" in state:  # last, because writers that are closed may draw from it
            restore_random_state(state["random"], backends)
        if not running:
            for memory in self._modules.memories():
                memory.reset_episodes()
        if found.own:
            self._checkpointer.branch(found.timestep)
            self._earlier.taken_over()


def _parted(checkpoint: Checkpoint, now: Container[str]) -> tuple[Checkpoint, Checkpoint]:
    """Return a checkpoint of what is restored at once, and one of what is registered by the loop itself, later."""
    late = set((checkpoint.about.resume or {}).get("late", ()))
    named = checkpoint.modules
    later = {name: state for name, state in named.items() if name in late and name not in now}
    rest = {name: state for name, state in named.items() if name not in later}
    about = {key: told for key, told in checkpoint.metadata.items() if key != "module"}  # each has its name here
    return Checkpoint(rest, about), Checkpoint(later, about)


def _warn_of_memories(modules: Sequence[RegisteredModule], report: LoadReport, timestep: int) -> None:
    restored = {entry.module for entry in report.entries}
    for module in modules:
        if module.holds_samples and module.name not in restored:
            warn(
                f"the checkpoint of timestep {timestep} does not hold the memory `{module.name}`, which stays as it "
                "is; `memory_checkpoint_interval` says which checkpoints do"
            )


def warn_where_complete(directory: Path, completed: int, timesteps: int | None) -> None:
    """Warn where the checkpoint that a run goes on from is of the end of the training."""
    if timesteps is not None and completed >= timesteps:
        warn(
            f"the run in `{directory}` is complete: its checkpoint is of timestep {completed}, and `timesteps` is "
            f"{timesteps}, so nothing is left to do. More `timesteps` go on with it; another `experiment_name` starts "
            "anew"
        )


def warn_of_unfinished(own: Path, agent: str, run: Progress | None) -> None:
    """Warn that a new run found nothing to resume, where there is one that was perhaps meant."""
    if run is not None:
        warn(
            f"there is nothing to resume in `{own}`, which is new: without an `experiment_name` each start has a "
            f'directory of its own. The latest unfinished run of `{agent}` is {run}. `resume("last")` goes on with it, '
            f"and so does the setting `experiment_name` = `{run.path.name}`"
        )


def warn_of_complete(own: Path, agent: str, run: Progress | None) -> None:
    """Warn that a run starts anew where the last one was to go on, which has come to its end."""
    if run is not None:
        warn(
            f"no run of `{agent}` in `{own.parent}` is unfinished, so that this one starts anew in `{own.name}`; the "
            f"latest is complete: {run}. The setting `experiment_name` = `{run.path.name}`, with more `timesteps`, "
            "goes on with it"
        )


@final
@dataclass(frozen=True)
class Found:
    """A checkpoint to resume from.

    Attributes:
        path: its file, or one of its files.
        checkpoint: what it holds.
        timestep: the completed timesteps it was taken at.
        own: whether it is one of the run's own.
        skipped: damaged ones that were passed over, with the reasons.
    """

    path: Path
    checkpoint: Checkpoint
    timestep: int
    own: bool
    skipped: Mapping[Path, str] = field(default_factory=dict)

    @property
    def state(self) -> Mapping[str, Any]:
        """Return what `Resuming.state` returned then, empty where that is not known.

        Of another run's, neither the writers nor the best score are continued.
        """
        state = self.checkpoint.about.resume or {}
        if self.own or not state:
            return state
        recorder = {key: value for key, value in state["recorder"].items() if key != "writers"}
        return {"random": state["random"], "recorder": recorder}


Check = Callable[[Found], None]
"""Raises CorruptCheckpoint for what cannot be resumed from."""


def _pass(_found: Found) -> None:
    """Take a checkpoint as it is."""


def find(
    which: str | Path, own: CheckpointDirectory, check: Check = _pass, wanted: Container[str] | None = None
) -> Found | None:
    """Return the checkpoint that `Experiment.resume` is asked for, read and verified.

    Args:
        which: ``"latest"``, ``"best"``, or a path.
        own: the run's own directory of checkpoints.
        check: says of one that was read whether it can be resumed from.
        wanted: the names of the modules that are asked for; all if None.

    Returns:
        None where the own directory has none such.

    Raises:
        NotFound: if the given path does not exist, or what is there cannot be loaded; lists what is damaged.
        CorruptCheckpoint: if the one given file is damaged.
    """
    if isinstance(which, str) and which in ("latest", "best"):
        candidates = list(own.newest_first(best=which == "best"))
        try:
            return _first_good(candidates, own, own, check, wanted) if candidates else None
        except _NoModules as nothing:
            warn(f"{nothing}; starting anew")
            return None
    return find_at(located(which, metrics=False), own, check, wanted)


def find_at(path: Path, own: CheckpointDirectory, check: Check = _pass, wanted: Container[str] | None = None) -> Found:
    """Return the checkpoint of a path: the file's, or the newest good one of a directory; see `find`."""
    wait_for_writing(path / CHECKPOINTS)
    wait_for_writing(path)
    if path.is_dir() and not is_checkpoint(path):
        inner = path / CHECKPOINTS
        directory = CheckpointDirectory(inner if inner.is_dir() else path)
        return _first_good(directory.newest_first(best=False), directory, own, check, wanted)
    if not path.exists():
        raise NotFound(f'there is nothing to resume from at `{path}`; allowed: "latest", "best", or an existing path')
    found = _whole_of(path, own, wanted)
    check(found)
    return found


def _first_good(
    candidates: Iterable[IndexedCheckpoint],
    directory: CheckpointDirectory,
    own: CheckpointDirectory,
    check: Check,
    wanted: Container[str] | None,
) -> Found:
    """Return the first of a directory's checkpoints that can be loaded, and warn of those passed over."""
    skipped: dict[Path, str] = {}
    is_damaged = False
    for indexed in candidates:
        path = directory.path / min(indexed.names)
        try:
            found = _found(path, directory.read(indexed, wanted), indexed.timestep, own)
            _require_modules(found)
            check(found)
        except RemoteError:
            raise  # an older one would be taken for the newest
        except OSError as error:  # damaged, vanished, not to be read, of a later format, or no checkpoint
            is_damaged |= not (isinstance(error, _NoModules) or _is_unfinished(indexed, error))
            skipped[path] = str(error)
            continue
        if skipped:
            warn("skipped " + "; ".join(skipped.values()) + f"; going on with {', '.join(sorted(indexed.names))}")
        return replace(found, skipped=skipped)
    damage = "".join(f"\n  {reason}" for reason in skipped.values())
    kind = NotFound if is_damaged or not skipped else _NoModules
    raise kind(f"there is no checkpoint to resume from in `{directory.path}`{damage}")


def _is_unfinished(indexed: IndexedCheckpoint, error: OSError) -> bool:
    """Say whether a kill or a loss of power came before all of a checkpoint was there, of each process."""
    if isinstance(error, Unfinished):
        return True  # its files have their names, and others are missing
    return isinstance(error, IncompleteSet) and not any(file.digest for file in indexed.files.values())


@final
class _NoModules(NotFound):
    """What has the name of a checkpoint holds no modules, being another tool's, or never became one."""


def _require_modules(found: Found) -> None:
    """Check that a file of another tool has the states of modules in it.

    Raises:
        _NoModules: if it has none: it is a list, an array, a number, or a dict of these.
    """
    states = found.checkpoint.modules.values()
    if not found.checkpoint.about.written_by_keepfast and not any(map(_is_state, states)):
        raise _NoModules(
            f"`{found.path}` is no checkpoint: no module's state is in it. `keepfast.read_checkpoint` gives what it "
            "holds"
        )


def _is_state(tree: Tree) -> bool:
    return isinstance(tree, Mapping) and any(isinstance(key, str) for key in tree)


def _whole_of(path: Path, own: CheckpointDirectory, wanted: Container[str] | None) -> Found:
    """Return the whole checkpoint that a file belongs to, which may be one of several."""
    directory = CheckpointDirectory(path.parent)
    indexed = next((listed for listed in directory.checkpoints() if path.name in listed.names), None)
    if indexed is None:
        return _found(path, read_checkpoint(path, wanted), None, own)
    return _found(path, directory.read(indexed, wanted), indexed.timestep, own)


def _found(path: Path, checkpoint: Checkpoint, named: int | None, own: CheckpointDirectory) -> Found:
    """Return what was found, its timestep as the file tells it, or else its name."""
    timestep = checkpoint.about.timestep or named or 0
    return Found(path, checkpoint, timestep, path.parent.resolve() == own.path.resolve())
