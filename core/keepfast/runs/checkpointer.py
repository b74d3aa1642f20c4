"""From modules to checkpoints on disk, behind training."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._system.arguments.checks import function
from keepfast._system.background import Background
from keepfast._system.disk.optional import tell_lacking
from keepfast._system.finishing import finish
from keepfast._system.memory.staging import Staging
from keepfast._system.tally import Tally
from keepfast.checkpoints.best import BestJudge, Improvement
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import INDEX
from keepfast.checkpoints.placing import documents_of
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.segments import present
from keepfast.config import ExperimentConfig
from keepfast.errors import KeepfastError, WaitedInVain, WriteFailed
from keepfast.interfaces.checkpoint_store import CheckpointStore
from keepfast.interfaces.loading.memory_log import NewRows
from keepfast.interfaces.sharding.format import ShardedFormat, Troubles, key_of, of_the_first
from keepfast.memories.tensors.additions import RowLog
from keepfast.modules.comparing.growth import Growth
from keepfast.modules.registered import RegisteredModule, copy_all, format_name, metadata, view_all, without_memories
from keepfast.modules.table import ModuleTable
from keepfast.plugins.discovery import registry
from keepfast.runs.artifacts.promised import Durable, Promised
from keepfast.runs.in_vain import REFUSED, VANISHED, Lacking, UntrackedMetric, all_refused, first_refused, spared
from keepfast.runs.processes.together import Together
from keepfast.runs.schedule import Schedule, Turns
from keepfast.tree import Tree

_FALLBACK_INTERVAL = 10_000
"""Timesteps between checkpoints where "auto" has no length of training to go by."""

_SAMPLES = 10
"""How many checkpoints "auto" spreads over a training."""


@final
class Checkpointer:
    """Copies the modules when a checkpoint is due and writes the copy behind training, one at a time.

    A checkpoint that the operating system refuses does not end the training: it is told once, counted, and the tally
    told at close. Any other failure is raised at the next call.

    Attributes:
        latest: the completed timesteps at the checkpoint promised last, or None.
        together: asks the other processes where a module is spread over them.
        enabled: whether anything is written.
        beside: what stores in the place of this one, where another process has the run's checkpoints.

    Args:
        config: the experiment's settings.
        directory: where checkpoints go.
        modules: what to save, looked up once for each checkpoint.
        resume_state: returns what an exact resume needs beside the modules.
        settle: called behind training before a checkpoint is written, to return when what else the run wrote until then
            is on disk.
        enabled: whether anything is written; in a distributed run one process alone does.

    Raises:
        UnknownPlugin: if the configuration names a format that nobody provides.
        MissingDependency: if it names one whose packages are not installed.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        directory: Path,
        modules: ModuleTable,
        resume_state: Callable[[Sequence[RegisteredModule]], dict[str, Any]],
        *,
        settle: Callable[[], None] = lambda: None,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self._config, self._modules, self._resume_state = config, modules, resume_state
        self._settle, self._follows = settle, config.distributed_metrics == "mean"
        self._store: CheckpointStore | None = None
        if config.checkpoint_format != "auto":
            self._store = registry().get("checkpoint format", config.checkpoint_format)()
        self._background = Background("keepfast-checkpoints", does="a checkpoint to be written")
        self._staging = Staging()
        self._retention = Retention(config.keep_last, config.keep_every, config.keep_best, config.best_mode)
        self._refused = Tally()
        self.together, self._troubles = Together(), Troubles()
        self._stored = 0
        self.beside: Checkpointer | None = None
        self.move(directory)
        self.best = BestJudge(config.best_metric, config.best_mode, config.best_min_episodes, max(config.keep_best, 1))
        self.improvement = Improvement(config.best_metric, config.best_mode, config.best_min_episodes)
        self.seconds = config.checkpoint_seconds
        self._callbacks: list[Callable[[Durable], object]] = []
        self._tellers: list[Callable[[], object]] = [tell_lacking, lambda: self.directory.spared.tell(spared)]
        self._untracked = UntrackedMetric(config.best_metric)
        self._growth = Growth()
        self._lacking = Lacking(config)
        self.latest: int | None = None
        self._branches_at: int | None = None
        self.set_length(None)

    def set_length(self, timesteps: int | None, completed: int = 0) -> None:
        """Set the interval, given the length of the training or None, and how much of it is complete already."""
        self.schedule = Schedule.of(self._config.checkpoint_interval, timesteps, _SAMPLES, _FALLBACK_INTERVAL)
        self._start_turns(completed)
        self.note_registered()

    def note_registered(self) -> None:
        """Take note of the modules that are new, so that what they grow by is told at the first checkpoint."""
        if self.enabled and self._modules:
            with contextlib.suppress(KeepfastError):  # told where it is registered, or stored
                self._growth.note(self._modules.look_up())

    def _start_turns(self, completed: int) -> None:
        interval = self._config.memory_checkpoint_interval
        memories = self.schedule if interval == "auto" else Schedule(max(interval, 0))
        self._turns = Turns([self.schedule, memories], completed)
        self._share_turns()

    @property
    def is_on(self) -> bool:
        """Say whether there are checkpoints at all, by the timesteps or by the clock."""
        return self.schedule.enabled or self.seconds is not None

    def when_durable(self, callback: Callable[[Durable], object]) -> None:
        """Have a function called with each checkpoint that is on disk, behind training.

        Raises:
            InvalidValue: if it is no function.
        """
        self._callbacks.append(function("callback", callback))

    def when_told(self, teller: Callable[[], object]) -> None:
        """Have a function called where this one tells, in the thread that trains, of what went wrong behind it."""
        self._tellers.append(teller)

    def _format_for(self, modules: Sequence[RegisteredModule]) -> CheckpointStore:
        """Return the format that checkpoints are written in: as configured, or that of the first module's backend."""
        if self._store is None:
            store: CheckpointStore = registry().get("checkpoint format", format_name(modules, "auto"))()
            self._store = store
        self.together.connect(self._store)
        return self._store

    def _takes_part(self) -> bool:
        """Say whether this process stores: the first does, and each other where a module is spread over all."""
        if self._modules:
            self.together.find(self._modules.look_up, first=self.enabled)
        return self.enabled or self.together.is_on

    @property
    def judged_metric(self) -> str | None:
        """Return the tag that the best is judged by, or None where no best is kept."""
        return self.best.metric if self.enabled and self.schedule.enabled and self._config.keep_best else None

    def judge(self, statistics: Mapping[str, float], episodes: int, timestep: int) -> None:
        """Judge an interval, and keep a copy of the modules where it was the best so far.

        Processes that get the same values of all judge them alike, so that all of them know the best.
        """
        if self.enabled:
            self._untracked.written(statistics)
        if self.enabled or self._follows:
            self.improvement.judge(statistics, episodes, timestep)
        takes_part = self._takes_part()
        if (takes_part or self._follows) and self.is_on and self._config.keep_best and self._modules:
            capture = self._capture_for_best if takes_part else lambda: ({}, {})
            with contextlib.suppress(WriteFailed):  # told with the next checkpoint, which is lost too
                self.best.judge(statistics, episodes, timestep, capture, self.together.first)

    def _capture_for_best(self) -> tuple[dict[str, Tree], dict[str, Any]]:
        modules = without_memories(self._modules.look_up())
        with self._staging.in_use():
            return copy_all(modules), self._resume_state(modules) if self.enabled else {}

    def _take_turn(self, timestep: int) -> bool:
        """Take the turn of a checkpoint, and say whether it is one that holds the memories.

        One that is asked for out of turn is: whoever asks wants all there is.
        """
        due, memories_due = self._turns.take(timestep)
        return memories_due or not due

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
        self._store_beside(timestep, with_memories=with_memories)
        if not self._takes_part() or not self._modules:
            self._lacking.tell_nothing(is_due=self.enabled and self.is_on)
            if not self.enabled:
                self.best.take()  # which the first process stores
            return
        if not self._has_room(timestep):
            return
        known = self._modules.look_up()
        self._growth.tell(known)
        in_turn = self._take_turn(timestep)
        modules = known if with_memories or in_turn else without_memories(known)
        # The best first: once the periodic one is durable, so is the best that its resume state speaks of.
        state, rows, resume = self._capture_at(timestep, modules)
        promised = self._promised_best(known)
        promised.append(Promised(state, metadata(modules, timestep=timestep, resume=resume), rows=rows))
        self._submit(promised, known)
        self.latest = timestep
        self._lacking.tell_no_memory(is_there=len(without_memories(known)) != len(known))

    def _store_beside(self, timestep: int, *, with_memories: bool) -> None:
        if self.beside is not None:
            self.beside.checkpoint(timestep, with_memories=with_memories)
            self.latest = timestep

    def attach(self, beside: Checkpointer) -> None:
        """Have another one store, at each checkpoint of this one, which itself stores nothing."""
        beside._background, self.beside = self._background, beside
        self._background.place = beside.directory.path.absolute()
        beside._refused = self._refused
        if self._branches_at is not None:
            beside.branch(self._branches_at)
        self._share_turns()

    def _share_turns(self) -> None:
        if self.beside is not None:
            self.beside.schedule, self.beside._turns = self.schedule, self._turns  # noqa: SLF001

    def keep_more(self, count: int) -> None:
        """Keep more of the last checkpoints than the settings say, where they say how many."""
        if (last := self._config.keep_last) is not None:
            self._retention = replace(self._retention, keep_last=last + count)

    def _has_room(self, timestep: int | None = None) -> bool:
        """Wait until a checkpoint can be promised; where the one before hangs, this one is lost, counted and told."""
        try:
            self._background.room()
            trouble = None
        except WaitedInVain as error:
            trouble = str(error)
        if self._try(partial(self.together.agree, trouble, timestep)):
            return True
        self.tell()
        return False

    def _capture_at(
        self, timestep: int, modules: Sequence[RegisteredModule]
    ) -> tuple[dict[str, Tree], dict[str, NewRows], dict[str, Any]]:
        """Return a copy of the modules, sharing what the best candidate copied at this timestep, and of new rows."""
        candidate = self.best.candidate
        copied = dict(candidate.state) if candidate is not None and candidate.timestep == timestep else {}
        modules = modules if self.enabled else without_memories(modules)  # whose own the first process stores
        logged = self._added(modules)
        copied |= {name: position for name, (position, _) in logged.items()}
        others = [module for module in modules if module.name not in copied]
        with self._staging.in_use():  # which need no copy of their own if they are written before anything changes them
            fresh = copy_all(others) if self._config.async_checkpoints else view_all(others)
        state = {module.name: copied.get(module.name, fresh.get(module.name)) for module in modules}
        resume = self._resume_state(modules) if self.enabled else {}
        return state, {name: rows for name, (_, rows) in logged.items()}, resume

    def _added(self, modules: Sequence[RegisteredModule]) -> dict[str, tuple[dict[str, Any], NewRows]]:
        """Return where each memory is, and its rows that no checkpoint has, where those are what is stored."""
        memories = {each.name: each.value for each in modules if each.is_memory}
        whole = self._config.memory_checkpoints == "whole" or isinstance(self._store, ShardedFormat)
        if whole or not memories:
            return {}
        there = present(self.directory.path)
        return {name: self._logs[name].take(memory, there) for name, memory in memories.items()}

    def _store_best(self) -> None:
        """Write the best candidate, if there is one that is not stored yet."""
        if self._takes_part() and self.best.candidate is not None and self._has_room():
            known = self._modules.look_up()
            self._submit(self._promised_best(known), known)

    def _promised_best(self, known: Sequence[RegisteredModule]) -> list[Promised]:
        candidate = self.best.take()
        if candidate is None:
            return []
        described = metadata(
            without_memories(known),
            timestep=candidate.timestep,
            metric={"tag": self.best.metric, "value": candidate.score},
            resume=candidate.resume,
        )
        return [Promised(candidate.state, described, candidate)]

    def _submit(self, promised: list[Promised], known: Sequence[RegisteredModule]) -> None:
        store = self._format_for(known)
        superseded, self._branches_at = self._branches_at, None
        memories = frozenset(module.name for module in known if module.holds_samples)
        retention = replace(self._retention, memories=memories)

        def job() -> None:
            with self.together.leading(store) as self._troubles:
                self._settle()  # what a resume takes for written must not be lost to the kill that makes it needed
                if superseded is not None:
                    self._try(lambda: self.directory.supersede(superseded))
                durable = self._write_all(promised, store, retention)
            finish(*(partial(callback, each) for each in durable for callback in self._callbacks))

        work = job if self.enabled else partial(self._follow, promised, store)
        if self._config.async_checkpoints:
            self._background.submit(work)
        else:
            work()
        self.tell()

    def _follow(self, promised: Sequence[Promised], store: CheckpointStore) -> None:
        """Write this process's part of what the first process writes."""
        separately = self._config.store_separately
        made = [documents_of(each.state, each.metadata, separately=separately) for each in promised]
        contents = {key_of(document): document for documents in made for document in documents.values()}
        assert isinstance(store, ShardedFormat)  # noqa: S101  (what else is stored together)

        def follow() -> None:
            told = store.follow(contents)
            for candidate in filter(None, (each.candidate for each in promised)):
                if candidate.timestep in told.unstored:
                    self.best.put_back(candidate)
            if told.reasons:
                raise WriteFailed(of_the_first(told.reasons))

        self._try(follow)

    def _write_all(self, promised: list[Promised], store: CheckpointStore, retention: Retention) -> list[Durable]:
        """Write checkpoints, the last of which makes those before it durable, and return what is."""
        durable, last = list[Durable](), list[Durable]()
        while promised:  # popped, so that its memory is free before the next is written
            each = promised.pop(0)
            last = self._write(each, store, retention, last=not promised)
            durable += last
        if durable and not last and not self._try(self.directory.make_durable):
            return []
        return durable

    def _write(self, promised: Promised, store: CheckpointStore, retention: Retention, *, last: bool) -> list[Durable]:
        """Write a checkpoint; return it, or nothing where that was refused."""
        written: list[Durable] = []

        def write() -> None:
            indexed = self.directory.write(
                promised.state,
                promised.metadata,
                store,
                separately=self._config.store_separately,
                best=promised.candidate is not None,
                retention=retention,
                rows=promised.rows,
                last=last,
            )
            paths = tuple(self.directory.path / name for name in sorted(indexed.names))
            written.append(Durable(indexed.timestep or 0, paths, indexed.best))

        try:
            self._try(write)
            self._stored += len(written)
        finally:
            if not written and promised.candidate is not None:
                self.best.put_back(promised.candidate)
                self._troubles.unstored.append(promised.candidate.timestep)
        return written

    def _try(self, write: Callable[[], object]) -> bool:
        """Do what the operating system may refuse, which is counted and told; say whether it did not."""
        try:
            write()
        except OSError as error:
            self._refused.count(REFUSED, str(error))
            self._troubles.reasons.append(str(error))
            return False
        return True

    def note_vanished(self, mend: Callable[[], bool]) -> None:
        """Take note of what vanished from the run's directory: that which is mended, and checkpoints.

        Args:
            mend: makes anew what is gone, and says whether anything was.
        """
        lost = self._stored if self._stored and not (self.directory.path / INDEX).exists() else 0
        try:
            mended = mend()
        except OSError as error:
            self._refused.count(VANISHED, f"{error}")
            return
        if mended or lost:
            self._stored -= lost
            held = f", with {lost} checkpoint(s) that this run had stored" if lost else ""
            self._refused.count(VANISHED, f"files of `{self.directory.path.parent}` were removed while it ran{held}")

    @property
    def failures(self) -> Collection[BaseException]:
        """Return what went wrong behind training and was not raised yet; it is the same object at each call."""
        return self._background.failures

    def move(self, directory: Path) -> None:
        """Have checkpoints go to another directory, from its `start` on."""
        self.directory = CheckpointDirectory(directory)
        self._logs = defaultdict[str, RowLog](RowLog)
        self._background.place = directory.absolute()

    def start(self) -> bool:
        """Sweep up what killed saves left, take in files that the index lacks, and go on from the best on disk.

        Returns:
            Whether the directory holds checkpoints, of a run before.
        """
        self.directory.sweep()
        self.directory.adopt()
        self.best.resume(None, self.directory.best_scores(self.best.metric))
        occupied = bool(self.directory.checkpoints())
        self._branches_at = 0 if occupied else None
        return occupied

    def resume(self, best: Mapping[str, Any] | None, timestep: int) -> None:
        """Go on from a timestep.

        Args:
            best: what `BestJudge.state` returned then, or None where nothing is known of it.
            timestep: the completed timesteps.
        """
        self.best.resume(best, self.directory.best_scores(self.best.metric))
        self._start_turns(timestep)

    def remember(self) -> Callable[[], None]:
        """Return what undoes a `resume`."""
        turns, best = self._turns, self.best.remember()

        def back() -> None:
            self._turns = turns
            best()

        return back

    def branch(self, timestep: int) -> None:
        """Be told that the run goes on from a checkpoint of its own directory.

        What that holds of later timesteps is no longer the latest once the run has stored its next.
        """
        if self.beside is not None:
            self.beside.branch(timestep)
        self._branches_at = timestep

    def tell(self) -> None:
        """Tell of a refused checkpoint, the first time there is one."""
        finish(partial(self._refused.tell, first_refused), *self._tellers)

    def wait(self) -> None:
        """Return when every checkpoint that was promised is on disk.

        Raises:
            BaseException: what went wrong with one of them, other than being refused.
        """
        self._background.wait()
        self.tell()

    @property
    def staged(self) -> int:
        """Return how many bytes of memory are kept for the copies of later checkpoints."""
        return self._staging.nbytes

    def close(self, *, interrupted: bool = False) -> None:
        """Write the best candidate, wait, end the thread, and tell how many checkpoints were refused.

        Where a run breaks off, the other processes may be anywhere, so that none waits for them to store the best.
        """
        try:
            if not (interrupted and self.together.is_on):
                self._store_best()
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._background.close()
        finally:
            self._staging.close()
            if self.beside is not None:
                self.beside._staging.close()  # noqa: SLF001
            self.tell()
            self._untracked.tell_at_end()
            self._refused.tell_sum(all_refused, clear=True)
