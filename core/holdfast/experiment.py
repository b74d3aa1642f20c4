"""Experiment: one run, its metrics and its checkpoints tied to timesteps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np

from holdfast._warnings import warn
from holdfast.backends import process_rank
from holdfast.checkpoint import Checkpoint
from holdfast.checkpoint_directory import CheckpointDirectory
from holdfast.checkpoint_formats import read_checkpoint
from holdfast.checkpointing import Checkpointer
from holdfast.config import ExperimentConfig, agent_settings
from holdfast.errors import InvalidValue, NotFound, UsageError
from holdfast.loading import LoadOptions, LoadReport
from holdfast.modules import Module, RegisteredModule, restore_all
from holdfast.multi_writer import MultiWriter
from holdfast.random_state import capture_random_state, restore_random_state
from holdfast.recording import Recorder
from holdfast.run_directory import CHECKPOINTS, open_run_directory, run_directory
from holdfast.signals import Preemption


@final
@dataclass(frozen=True)
class _Found:
    """A checkpoint to resume from.

    Attributes:
        path: its file, or one of its files.
        checkpoint: what it holds.
        timestep: the timestep in its name, or None.
        own: whether it is one of the experiment's own.
        skipped: damaged ones that were passed over, with the reasons.
    """

    path: Path
    checkpoint: Checkpoint
    timestep: int | None
    own: bool
    skipped: Mapping[Path, str] = field(default_factory=dict)


@final
class Experiment:
    """Keeps what one run produces, for any loop that counts timesteps.

    Args:
        cfg: the experiment's settings, with or without the level ``"experiment"``; a mapping, an `ExperimentConfig`
            or the path of a TOML, YAML or JSON file.
        name: the agent's name, which the directory's name ends with where the settings give none.
        timesteps: the length of the training, which "auto" intervals derive from; None if it is not known.
        directory: the run's own directory, where it is known already.
        modules: the table of modules, where somebody else keeps it.

    In a distributed run the process of rank 0 alone writes and checkpoints; all of them resume.

    Raises:
        ConfigError: if a setting is wrong.
        UnknownPlugin: if a setting names a backend, writer or format that nobody provides.
        DirectoryError: if the run's directory cannot be written in.

    Example::

        with holdfast.Experiment(cfg, name="PPO", timesteps=100_000) as experiment:
            experiment.register(policy=policy, value=value, optimizer=optimizer)
            for timestep in range(experiment.resume(), 100_000):
                experiment.record_transition(rewards, terminated, truncated)
                experiment.track_data("Loss / Policy loss", loss)
                experiment.step(timestep)
    """

    def __init__(
        self,
        cfg: ExperimentConfig | Mapping[str, Any] | str | Path | None = None,
        *,
        name: str = "run",
        timesteps: int | None = None,
        directory: Path | None = None,
        modules: dict[str, Module] | None = None,
    ) -> None:
        config = ExperimentConfig.of(cfg)
        agent_config = agent_settings(cfg)[1]
        self.name = name
        self.directory = run_directory(config, name) if directory is None else directory
        self.completed = 0
        self._modules: dict[str, Module] = {} if modules is None else modules
        self._first = process_rank() == 0
        self._recorder = Recorder(config, self.directory, agent_config, enabled=self._first)
        self._checkpointer = Checkpointer(
            config, self.directory / CHECKPOINTS, self._modules, self._resume_state, enabled=self._first
        )
        self._timesteps = timesteps
        self._closed = self._stepping = False
        self._preemption = Preemption()
        self.resumed: LoadReport | None = None
        if self._first:
            open_run_directory(self.directory, name, timesteps, agent_config)
            self._checkpointer.start()
        self.set_timesteps(timesteps)

    def set_timesteps(self, timesteps: int | None) -> None:
        """Tell the length of the training, where it was not known when the experiment was made.

        Raises:
            InvalidValue: if it is no whole number of at least 1, nor None.
        """
        if timesteps is not None and (not isinstance(timesteps, int | np.integer) or timesteps < 1):
            raise InvalidValue(f"`timesteps` is {timesteps!r}; allowed: a whole number of at least 1, or None")
        self._timesteps = None if timesteps is None else int(timesteps)
        self._recorder.set_length(self._timesteps)
        self._checkpointer.set_length(self._timesteps)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Store another configuration in ``config.json``, and tell it to writers that are yet to be made."""
        self._recorder.agent_config = config
        if self._first:
            open_run_directory(self.directory, self.name, self._timesteps, config)

    @property
    def timesteps(self) -> int | None:
        """Return the length of the training, or None where it is not known."""
        return self._timesteps

    @property
    def write_interval(self) -> int:
        """Return the timesteps between writes, 0 when disabled."""
        return self._recorder.schedule.interval

    @property
    def checkpoint_interval(self) -> int:
        """Return the timesteps between checkpoints, 0 when disabled."""
        return self._checkpointer.schedule.interval

    @property
    def best_score(self) -> float | None:
        """Return the best value of the metric that is judged, or None where nothing was judged yet."""
        return self._checkpointer.best.score

    @property
    def writer(self) -> MultiWriter:
        """Return all writers behind one, with the calls of torch's SummaryWriter, past all intervals."""
        return self._recorder.writer

    def register(self, **modules: Module) -> None:
        """Register what checkpoints hold: networks, optimizers, schedulers, preprocessors, states, memories.

        Args:
            modules: each by the name it has in checkpoints. One that is replaced as training goes on, as JAX states
                are, is given as ``holdfast.attribute(owner, "name")``.

        Raises:
            UnsupportedModule: if no backend can capture one of them.
        """
        self._checkpointer.check(modules)
        self._modules.update(modules)

    def record_transition(self, rewards: Any, terminated: Any, truncated: Any) -> None:
        """Track the rewards of one step of every environment, and the episodes that ended with it.

        Args:
            rewards: of shape (num_envs,) or (num_envs, 1), on any device; a number for a single environment.
            terminated: of as many elements; whether the episode ended in a terminal state.
            truncated: of as many elements; whether it was cut short.

        Raises:
            ShapeMismatch: if the numbers of elements differ.
        """
        if self._recorder.enabled:
            self._recorder.tracker.episodes.record(rewards, terminated, truncated)

    def track_data(self, tag: str, value: Any) -> None:
        """Track a number until the next write; see `Tracker.track` for what may be given."""
        if self._recorder.enabled:
            self._recorder.tracker.track(tag, value)

    def step(self, timestep: int) -> None:
        """Complete a timestep, and write and checkpoint if that is due.

        Args:
            timestep: counted from 0; timestep + 1 are complete then, and that is the number events and files carry.

        Raises:
            Exception: what went wrong with an earlier checkpoint behind training.
            SystemExit: after saving, if the process was told to end (SIGTERM, SIGUSR1).
            UsageError: if the experiment was closed.
        """
        self.completed = completed = timestep + 1
        if not self._stepping:
            self._start_stepping()
        if self._checkpointer.failed:
            self._checkpointer.wait()
        if self._recorder.schedule.due(completed):
            self.write_tracking_data(completed)
        if self._checkpointer.schedule.due(completed):
            self.write_checkpoint(completed)
        if self._preemption.received is not None:
            self._leave(self._preemption.received)
        if completed == self._timesteps:
            self._preemption.release()

    def _start_stepping(self) -> None:
        if self._closed:
            raise UsageError("this experiment was closed; make another one")
        self._checkpointer.warn_if_occupied()
        self._preemption.watch()
        self._stepping = True

    def _leave(self, signal_number: int) -> None:
        self._checkpointer.checkpoint(self.completed, with_memories=True)
        self.close()
        raise SystemExit(128 + signal_number)

    def write_tracking_data(self, completed: int) -> None:
        """Write what was tracked since the last write at once, and judge whether it is the best so far.

        Args:
            completed: the completed timesteps.
        """
        if self._recorder.enabled:
            statistics = self._recorder.write(completed)
            episodes = self._recorder.tracker.episodes.ended_in_last_interval
            self._checkpointer.judge(statistics, episodes, completed)

    def write_checkpoint(self, completed: int) -> None:
        """Checkpoint at once: copy every module now, and write the copy behind training.

        Args:
            completed: the completed timesteps.
        """
        self.completed = max(self.completed, completed)
        self._checkpointer.checkpoint(completed)

    def _resume_state(self, modules: Sequence[RegisteredModule]) -> dict[str, Any]:
        backends = {module.backend.name: module.backend for module in modules}
        return {
            "random": capture_random_state(backends.values()),
            "recorder": self._recorder.state_dict(),
            "best": self._checkpointer.best.state(),
        }

    def resume(
        self,
        which: str | Path = "latest",
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> int:
        """Go on where a checkpoint was taken: modules, random states, what was tracked, writers, best score.

        Args:
            which: ``"latest"`` or ``"best"`` of this experiment's own directory, or the path of another run's directory
                or of one checkpoint. Damaged checkpoints are passed over, with a warning that names them.
            modules: the names of the modules to restore; all if None.
            strict: whether any difference between file and modules is an error.
            cast: whether another dtype is converted.
            rename: file path -> own path.

        Returns:
            The timestep to go on with, counted from 0; 0 where this experiment has no checkpoint yet.

        Raises:
            NotFound: if the given path does not exist or holds no checkpoint that can be loaded.
            LoadMismatch: if the checkpoint does not fit; lists every difference, and nothing was changed.
            CorruptCheckpoint: if the one given file is damaged.
        """
        self._checkpointer.wait()
        options = LoadOptions(None if modules is None else tuple(modules), strict, cast, rename or {})
        found = self._find(which)
        if found is None:
            return 0
        registered = self._checkpointer.modules()
        report = restore_all(registered, found.checkpoint, found.path, options)
        step = int(found.checkpoint.metadata.get("timestep") or found.timestep or 0)
        self._restore_rest(found, registered, step)
        self._warn_of_memories(registered, report, step)
        self.resumed = LoadReport(found.path, report.entries, step, report.absent_modules, found.skipped)
        return step

    def _find(self, which: str | Path) -> _Found | None:
        own = self._checkpointer.directory
        if which in ("latest", "best"):
            some = any(True for _ in own.newest_first(best=which == "best"))
            return self._find_in(own, str(which)) if some else None
        path = Path(which)
        if path.is_dir():
            inner = path / CHECKPOINTS
            return self._find_in(CheckpointDirectory(inner if inner.is_dir() else path), "latest")
        if not path.exists():
            raise NotFound(
                f'there is nothing to resume from at `{path}`; allowed: "latest", "best", or an existing path'
            )
        return self._find_file(path)

    def _find_in(self, directory: CheckpointDirectory, which: str) -> _Found:
        indexed, checkpoint, skipped = self._checkpointer.find(which, directory)
        own = directory.path.resolve() == self._checkpointer.directory.path.resolve()
        return _Found(directory.path / min(indexed.names), checkpoint, indexed.timestep, own, skipped)

    def _find_file(self, path: Path) -> _Found:
        """Return the whole checkpoint that a file belongs to, which may be one of several."""
        directory = CheckpointDirectory(path.parent)
        indexed = next((found for found in directory.checkpoints() if path.name in found.names), None)
        if indexed is None:
            return _Found(path, read_checkpoint(path), None, own=False)
        own = directory.path.resolve() == self._checkpointer.directory.path.resolve()
        return _Found(path, directory.read(indexed), indexed.timestep, own)

    def _restore_rest(self, found: _Found, modules: Sequence[RegisteredModule], step: int) -> None:
        self.completed = step
        state = found.checkpoint.metadata.get("resume")
        best = self._checkpointer.best
        stored = self._checkpointer.directory.best_scores(best.metric)
        best.resume(state["best"] if state is not None and found.own else None, stored)
        self._recorder.resume(None if state is None else state["recorder"], step, own=found.own)
        self._checkpointer.resumed(step, own=found.own)
        if state is not None:
            backends = {module.backend.name: module.backend for module in modules}
            restore_random_state(state["random"], backends.values())

    def _warn_of_memories(self, modules: Sequence[RegisteredModule], report: LoadReport, step: int) -> None:
        restored = {entry.module for entry in report.entries}
        for module in modules:
            if module.is_memory and module.name not in restored:
                warn(
                    f"the checkpoint of timestep {step} does not hold the memory `{module.name}`, which stays as it "
                    "is; `memory_checkpoint_interval` says which checkpoints do"
                )

    def wait(self) -> None:
        """Return when what was promised is on disk.

        Raises:
            Exception: what went wrong with a checkpoint, other than being refused by the operating system.
        """
        self._checkpointer.wait()
        self._recorder.flush()

    def close(self) -> None:
        """Write what was tracked last, store the best, wait for all of it and release everything.

        Closing twice is fine. In a ``with`` statement this is called at its end, also after an error.
        """
        if self._closed:
            return
        self._closed, self._stepping = True, False
        self._preemption.release()
        try:
            self._write_rest()
        finally:
            try:
                self._checkpointer.close()
            finally:
                self._recorder.close()

    def _write_rest(self) -> None:
        """Write the interval that the close cuts short, unless a checkpoint holds it for a resume to complete."""
        recorder = self._recorder
        resumable = self._checkpointer.latest == self.completed and self.completed != self._timesteps
        if recorder.enabled and recorder.tracker.pending and self.completed > recorder.written_step and not resumable:
            recorder.write(self.completed)  # not judged: it is no whole interval

    def __enter__(self) -> Self:
        if self._closed:
            raise UsageError("this experiment was closed; make another one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
