"""From modules to checkpoints on disk, behind training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from keepfast._system.background import Background
from keepfast._system.warnings import warn
from keepfast.checkpoints.best import BestJudge, Candidate
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedCheckpoint
from keepfast.checkpoints.retention import Retention
from keepfast.config import ExperimentConfig
from keepfast.errors import NotFound
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.modules.registered import Module, RegisteredModule, check_places, copy_all, metadata, registered
from keepfast.plugins.backends import configured
from keepfast.plugins.discovery import registry
from keepfast.runs.schedule import Schedule
from keepfast.tree import Tree

FALLBACK_INTERVAL = 10_000
"""Timesteps between checkpoints where "auto" has no length of training to go by."""

SAMPLES = 10
"""How many checkpoints "auto" spreads over a training."""


@final
@dataclass(frozen=True)
class _Promised:
    """A copy of modules that is to be written."""

    state: Mapping[str, Tree]
    metadata: CheckpointMetadata
    candidate: Candidate | None = None


@final
class Checkpointer:
    """Copies the modules when a checkpoint is due and writes the copy behind training, one at a time.

    A checkpoint that the operating system refuses does not end the training: it is told once, counted, and the tally
    told at close. Any other failure is raised at the next call.

    Attributes:
        latest: the completed timesteps at the checkpoint promised last, or None.
        occupied: whether the directory holds checkpoints of a run that was not resumed.

    Args:
        config: the experiment's settings.
        directory: where checkpoints go.
        modules: what to save, looked at anew each time.
        resume_state: returns what an exact resume needs beside the modules.
        settle: called behind training before a checkpoint is written, to return when what else the run wrote until then
            is on disk.
        enabled: whether anything is written; in a distributed run one process alone does.

    Raises:
        UnknownPlugin: if the configuration names a backend or format that nobody provides.
        MissingDependency: if it names one whose packages are not installed.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        directory: Path,
        modules: Mapping[str, Module],
        resume_state: Callable[[Sequence[RegisteredModule]], dict[str, Any]],
        *,
        settle: Callable[[], None] = lambda: None,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._config, self._modules, self._resume_state = config, modules, resume_state
        self._settle = settle
        self._named: Backend | None = configured(config.backend)
        self._store: CheckpointStore | None = None
        if config.checkpoint_format != "auto":
            self._store = registry().get("checkpoint format", config.checkpoint_format)()
        self._background = Background("keepfast-checkpoints")
        self._retention = Retention(config.keep_last, config.keep_every, config.keep_best, config.best_mode)
        self._refused: list[str] = []
        self._told = 0
        self._lock = threading.Lock()
        self.directory = CheckpointDirectory(directory)
        self.memory_schedule = Schedule(0)
        self.best = BestJudge(config.best_metric, config.best_mode, config.best_min_episodes, max(config.keep_best, 1))
        self.schedule = Schedule(0)
        self.latest: int | None = None
        self.occupied = False
        self._turn: tuple[int, bool] | None = None
        self._branches_at: int | None = None

    def set_length(self, timesteps: int | None) -> None:
        """Set the interval, given the length of the training or None."""
        self.schedule = Schedule.of(self._config.checkpoint_interval, timesteps, SAMPLES, FALLBACK_INTERVAL)
        interval = self._config.memory_checkpoint_interval
        self.memory_schedule = self.schedule if interval == "auto" else Schedule(max(interval, 0))

    def modules(self) -> list[RegisteredModule]:
        """Return the registered modules with their backends.

        Raises:
            UnsupportedModule: if no backend can capture one of them.
        """
        return registered(self._modules, self._named)

    def check(self, modules: Mapping[str, Module]) -> None:
        """Check modules that are about to be registered.

        Raises:
            UnsupportedModule: if no backend can capture one of them, or one is replaced as training goes on and was
                not given as an attribute.
        """
        known = registered({**self._modules, **modules}, self._named)
        check_places(known)
        for module in known:
            if module.name in modules:
                module.capture()

    def store(self, modules: Sequence[RegisteredModule]) -> CheckpointStore:
        """Return the format that checkpoints are written in."""
        if self._store is None:
            store: CheckpointStore = registry().get("checkpoint format", modules[0].backend.checkpoint_format)()
            self._store = store
        return self._store

    def judge(self, statistics: Mapping[str, float], episodes: int, timestep: int) -> None:
        """Judge an interval, and keep a copy of the modules where it was the best so far."""
        if self._enabled and self.schedule.enabled and self._config.keep_best and self._modules:
            self.best.judge(statistics, episodes, timestep, lambda: self._capture(self._without_memories()))

    def _without_memories(self) -> list[RegisteredModule]:
        return [module for module in self.modules() if not module.is_memory]

    def _capture(self, modules: Sequence[RegisteredModule]) -> tuple[dict[str, Tree], dict[str, Any]]:
        return copy_all(modules), self._resume_state(modules)

    def take_turn(self, timestep: int, *, with_memories: bool) -> None:
        """Be told that the next checkpoint is the one due at a step, which may lie past a multiple of the interval.

        Args:
            timestep: the completed timesteps.
            with_memories: whether one that holds the memories is due.
        """
        self._turn = (timestep, with_memories)

    def _holds_memories(self, timestep: int) -> bool:
        turn, self._turn = self._turn, None
        if turn is not None and turn[0] == timestep:
            return turn[1]
        # A checkpoint asked for out of turn holds the memories too: whoever asks wants all there is.
        return not self.schedule.due(timestep) or self.memory_schedule.due(timestep)

    def checkpoint(self, timestep: int, *, with_memories: bool = False) -> None:
        """Copy the modules now, and write them and the best candidate behind training.

        Waits first until the checkpoint before is durable, so that there is never more than one copy in memory beside
        the best candidate.

        Args:
            timestep: the completed timesteps.
            with_memories: whether to store the memories whatever their interval.

        Raises:
            BaseException: what went wrong with an earlier checkpoint, other than being refused.
        """
        self.tell()
        if not self._modules or not self._enabled:
            return
        self._background.room()
        whole = self._holds_memories(timestep) or with_memories
        modules = self.modules() if whole else self._without_memories()
        # The best first: once the periodic one is durable, so is the best that its resume state speaks of.
        state, resume = self._capture_at(timestep, modules)
        promised = self._promised_best()
        promised.append(_Promised(state, metadata(modules, timestep=timestep, resume=resume)))
        self._submit(promised, self.store(modules))
        self.latest = timestep

    def _capture_at(self, timestep: int, modules: Sequence[RegisteredModule]) -> tuple[dict[str, Tree], dict[str, Any]]:
        """Return a copy of the modules, sharing what the best candidate copied at this very timestep."""
        candidate = self.best.candidate
        copied = candidate.state if candidate is not None and candidate.timestep == timestep else {}
        fresh = copy_all([module for module in modules if module.name not in copied])
        state = {module.name: copied.get(module.name, fresh.get(module.name)) for module in modules}
        return state, self._resume_state(modules)

    def store_best(self) -> None:
        """Write the best candidate, if there is one that is not stored yet."""
        self._background.room()
        promised = self._promised_best()
        if promised:
            self._submit(promised, self.store(self._without_memories()))

    def _promised_best(self) -> list[_Promised]:
        candidate = self.best.take()
        if candidate is None:
            return []
        described = metadata(
            self._without_memories(),
            timestep=candidate.timestep,
            metric={"tag": self.best.metric, "value": candidate.score},
            resume=candidate.resume,
        )
        return [_Promised(candidate.state, described, candidate)]

    def _submit(self, promised: list[_Promised], store: CheckpointStore) -> None:
        superseded, self._branches_at = self._branches_at, None
        memories = frozenset(module.name for module in self.modules() if module.is_memory)
        retention = replace(self._retention, memories=memories)

        def job() -> None:
            self._settle()  # what a resume takes for written must not be lost to the kill that makes it needed
            if superseded is not None:
                self._try(lambda: self.directory.supersede(superseded))
            while promised:
                self._write(
                    promised.pop(0), store, retention
                )  # popped, so that its memory is free before the next is written

        if self._config.async_checkpoints:
            self._background.submit(job)
        else:
            job()
        self.tell()

    def _write(self, promised: _Promised, store: CheckpointStore, retention: Retention) -> None:
        written = False
        try:
            written = self._try(
                lambda: self.directory.write(
                    promised.state,
                    promised.metadata,
                    store,
                    separately=self._config.store_separately,
                    best=promised.candidate is not None,
                    retention=retention,
                )
            )
        finally:
            if not written and promised.candidate is not None:
                self.best.put_back(promised.candidate)

    def _try(self, write: Callable[[], object]) -> bool:
        """Do what the operating system may refuse, which is counted and told; say whether it did not."""
        try:
            write()
        except OSError as error:
            with self._lock:
                self._refused.append(str(error))
            return False
        return True

    @property
    def failed(self) -> bool:
        """Say whether something went wrong behind training that was not raised yet."""
        return self._background.failed

    def start(self) -> None:
        """Sweep up what killed saves left, take in files that the index lacks, and go on from the best on disk."""
        self.directory.sweep()
        self.directory.adopt()
        self.best.resume(None, self.directory.best_scores(self.best.metric))
        self.occupied = bool(self.directory.checkpoints())
        self._branches_at = 0 if self.occupied else None

    def resumed(self, timestep: int, *, own: bool) -> None:
        """Be told that the run goes on from a checkpoint, of its own directory or from elsewhere.

        What its own directory holds of later timesteps is no longer the latest once the run has stored its next.
        """
        self.occupied = self.occupied and not own
        self._branches_at = timestep if own else self._branches_at

    def tell(self) -> None:
        """Tell of a refused checkpoint, the first time there is one."""
        with self._lock:
            first = self._refused[0] if self._refused and not self._told else None
            self._told = len(self._refused) if first else self._told
        if first is not None:
            warn(f"a checkpoint could not be stored: {first}. Training goes on; further ones are counted")

    def find(self, which: str, directory: CheckpointDirectory) -> tuple[IndexedCheckpoint, Checkpoint, dict[Path, str]]:
        """Return the checkpoint to resume from, read and verified.

        Args:
            which: ``"latest"`` or ``"best"``.
            directory: where to look.

        Returns:
            What the index says of it, what it holds, and the damaged ones passed over, each with the reason.

        Raises:
            NotFound: if there is none that can be loaded; lists what is damaged.
        """
        skipped: dict[Path, str] = {}
        for indexed in directory.newest_first(best=which == "best"):
            try:
                checkpoint = directory.read(indexed)
            except OSError as error:  # damaged, vanished, or not to be read
                skipped[directory.path / min(indexed.names)] = str(error)
                continue
            if skipped:
                warn("skipped " + "; ".join(skipped.values()) + f"; going on with {', '.join(sorted(indexed.names))}")
            return indexed, checkpoint, skipped
        damage = "".join(f"\n  {reason}" for reason in skipped.values())
        raise NotFound(f"there is no checkpoint to resume from in `{directory.path}`{damage}")

    def wait(self) -> None:
        """Return when every checkpoint that was promised is on disk.

        Raises:
            BaseException: what went wrong with one of them, other than being refused.
        """
        self._background.wait()
        self.tell()

    def close(self) -> None:
        """Write the best candidate, wait, end the thread, and tell how many checkpoints were refused."""
        try:
            self.store_best()
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._background.close()
        finally:
            self.tell()
            if len(self._refused) > 1:
                warn(f"{len(self._refused)} checkpoints could not be stored; the last reason: {self._refused[-1]}")
            self._refused.clear()
