"""What each process of a distributed run has for itself: its memories, what it tracked, its random generators.

The first process has it in the run's own checkpoints. Each other one has checkpoints of its own, of the same timesteps,
in ``ranks/NUMBER`` of the run's directory; a resume goes on from a timestep that every process has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, final

from keepfast._system.background import wait_for_writing
from keepfast._system.disk.directories import make_directory
from keepfast._system.warnings import warn
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS, IndexedCheckpoint
from keepfast.config import ExperimentConfig
from keepfast.errors import CorruptCheckpoint, NotFound, UsageError
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.modules.parts import Module
from keepfast.modules.registered import RegisteredModule
from keepfast.modules.table import ModuleTable
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.processes.exchange import Exchange
from keepfast.runs.processes.ownership import Ownership
from keepfast.runs.processes.place import Standing

RANKS = "ranks"
"""The directory, within that of the run, that holds one for each process but the first."""

_OF_ITS_OWN = "keepfast_rank"
"""The module that tells whose a checkpoint is, beside the memories."""

_NOTHING = "it had stored nothing when it was ended"
"""What is told of a process that began to train, and has no checkpoint."""

_LAG = 2
"""How many checkpoints more than asked for are kept: each of the others may still be writing what this one has."""


@final
class Ranks:
    """Keeps for each process of a distributed run what the process has for itself, where the settings ask for that.

    Args:
        config: the experiment's settings.
        standing: where this process stands.
        modules: what the run's checkpoints hold.
        checkpointer: what stores them, of the first process.
    """

    def __init__(
        self, config: ExperimentConfig, standing: Standing, modules: ModuleTable, checkpointer: Checkpointer
    ) -> None:
        self._config, self._standing, self._modules, self._checkpointer = config, standing, modules, checkpointer
        self.keep_memories = config.distributed_memories == "each"
        self._is_on = self.keep_memories or config.distributed_metrics == "mean"
        self._directory: Callable[[], Path] = Path
        self._state: Callable[[Sequence[RegisteredModule]], dict[str, Any]] = lambda _modules: {}
        self._exchange = Exchange(config, lambda: self._directory())
        self._ownership: Ownership | None = None
        self._own: Checkpoint | None = None

    def belong_to(
        self, directory: Callable[[], Path], state: Callable[[Sequence[RegisteredModule]], dict[str, Any]]
    ) -> None:
        """Be told what returns the run's directory, and what a resume needs beside modules."""
        self._directory, self._state = directory, state

    @property
    def is_on(self) -> bool:
        """Say whether each process stores what it has for itself, where there are several."""
        return self._is_on

    @property
    def is_another(self) -> bool:
        """Say whether this process has checkpoints of its own, not being the first."""
        return self._is_on and not self._standing.first

    def begin(self) -> None:
        """Be told that training begins: store what this process has for itself from now on.

        Raises:
            DirectoryError: if a process of another run stores there.
        """
        if self._is_on and self._standing.first and self._exchange.is_on:
            self._checkpointer.keep_more(_LAG)
        if not self.is_another or self._ownership is not None:
            return
        place = self._place_in(self._directory())
        make_directory(place)
        ownership = Ownership(place)
        ownership.take()
        self._ownership = ownership
        others = {"keep_best": 0, "best_metric": ExperimentConfig().best_metric, "distributed_metrics": "first"}
        own = _Own(self._modules, self._standing.rank, memories=self.keep_memories)
        beside = Checkpointer(
            self._config.model_copy(update=others),
            place / CHECKPOINTS,
            ModuleTable.of(cast(dict[str, Module], own), self._config, None),
            lambda _modules: self._state(self._modules.look_up()),
        )
        beside.start()
        beside.keep_more(_LAG)
        self._checkpointer.attach(beside)

    def release(self) -> None:
        """Let others store there; twice is fine."""
        if self._ownership is not None:
            self._ownership.release()

    def check(
        self,
        path: Path,
        timestep: int,
        *,
        strict: bool,
        is_best: bool,
        check: Callable[[Path, Checkpoint], None],
    ) -> None:
        """Find what this process has of a timestep, and hear whether each other one has it too.

        Args:
            path: the file that the run may go on from.
            timestep: its timestep.
            strict: whether each process that stored anything there must have that of this timestep.
            is_best: whether it is one of the best, of which no other process stores anything.
            check: raises `CorruptCheckpoint` for what cannot be resumed from.

        Raises:
            CorruptCheckpoint: if one of them lacks it; tells which.
            UsageError: if the processes do not come together.
        """
        if not self._is_on:
            return
        run = path.parent.parent
        self._own, problem = self._find(run, timestep, check) if self.is_another else (None, "")
        told = [[problem, problem == _NOTHING]]
        if self._exchange.is_on:
            together = self._exchange.together("a resume", timestep, told[0])
            if together is None:
                raise UsageError("the processes of this distributed run did not come together for a resume")
            told = together
            self._tell_left_over(run, len(told))
        lacking = {f"rank {rank}: {reason}": is_new for rank, (reason, is_new) in enumerate(told) if reason}
        if strict and lacking:
            kind = Unfinished if is_best or all(lacking.values()) else CorruptCheckpoint
            raise kind(f"`{path}` is not that of all processes of the run; {'; '.join(lacking)}")

    def with_own(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> Checkpoint:
        """Return a checkpoint with what this process had for itself in the place of what the first one had.

        Args:
            checkpoint: that of the first process.
            state: what a resume needs beside modules where this process has nothing of that timestep.
        """
        own, self._own = self._own, None
        if not self.is_another:
            return checkpoint
        known = {module.name for module in self._modules.look_up() if _is_own(module)} if self.keep_memories else set()
        modules = {name: state for name, state in checkpoint.modules.items() if name not in known}
        about = {key: told for key, told in checkpoint.metadata.items() if key != "module"}
        if own is None:
            return Checkpoint(modules, {**about, "resume": {**about.get("resume", {}), **state}})
        mine = {name: tree for name, tree in own.modules.items() if name in known}
        merged = {**about.get("backends", {}), **own.metadata.get("backends", {})}
        resume = own.metadata.get("resume", {})
        return Checkpoint({**modules, **mine}, {**about, **({"backends": merged} if merged else {}), "resume": resume})

    def _place_in(self, run: Path) -> Path:
        return run / RANKS / str(self._standing.rank)

    def _find(
        self, run: Path, timestep: int, check: Callable[[Path, Checkpoint], None]
    ) -> tuple[Checkpoint | None, str]:
        """Return what this process has of a timestep, or why it has nothing; "" where it never stored there."""
        place = self._place_in(run)
        if not place.is_dir():
            return None, ""
        wait_for_writing(place / CHECKPOINTS)
        directory = CheckpointDirectory(place / CHECKPOINTS)
        if not directory.checkpoints():
            return None, _NOTHING
        try:
            indexed = _at(timestep, directory.checkpoints())
            found = directory.read(indexed)
            check(directory.path / min(indexed.names), found)
        except OSError as error:
            return None, str(error)
        return found, ""

    def _tell_left_over(self, run: Path, count: int) -> None:
        """Tell of what more processes had than there are now."""
        left = sorted(int(path.name) for path in (run / RANKS).glob("[0-9]*") if path.name.isdecimal())
        left = [rank for rank in left if rank >= count]
        if left and self._standing.first and self.keep_memories:
            warn(
                f"the memories of rank {', '.join(map(str, left))} are not resumed, since the run goes on with {count} "
                f"processes; they stay in `{run / RANKS}`, and `keepfast memory merge` puts exported ones together"
            )


@final
class Unfinished(CorruptCheckpoint):
    """A checkpoint was stored by some processes, and others were ended before they had stored any."""


def _at(timestep: int, checkpoints: Sequence[IndexedCheckpoint]) -> IndexedCheckpoint:
    """Return the checkpoint of a timestep, one that no later run set aside before others."""
    fitting = [each for each in checkpoints if each.timestep == timestep]
    if not fitting:
        stored = ", ".join(str(each.timestep) for each in checkpoints)
        raise NotFound(f"it has stored nothing at timestep {timestep}, only at: {stored}")
    return min(fitting, key=lambda each: each.superseded)


def _is_own(module: RegisteredModule) -> bool:
    return module.holds_samples or module.is_environment


@final
class _Own(Mapping[str, Module]):
    """The modules that a process has for itself, out of a table that may change, and its rank."""

    def __init__(self, modules: ModuleTable, rank: int, *, memories: bool) -> None:
        self._modules, self._memories, self._rank = modules, memories, {"rank": rank}

    def _found(self) -> dict[str, Module]:
        own = [each for each in self._modules.look_up() if _is_own(each)] if self._memories else []
        return {**{each.name: each.module for each in own}, _OF_ITS_OWN: self._rank}

    def __getitem__(self, name: str) -> Module:
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())
