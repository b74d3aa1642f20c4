"""Experiment: one run, its metrics and its checkpoints tied to timesteps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from keepfast._system.arguments.checks import function
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.finishing import finish
from keepfast._system.lifetimes import in_child
from keepfast._system.warnings import Afterwards
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.config import ExperimentConfig, Source, agent_settings, masked
from keepfast.errors import refuse
from keepfast.interfaces.loading.report import LoadReport
from keepfast.memories.fitting import Fit
from keepfast.modules.options import LoadOptions
from keepfast.modules.parts import Module
from keepfast.modules.table import ModuleTable
from keepfast.plugins.locations import kept_in
from keepfast.runs.artifacts.promised import Durable
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.directory import run_directory
from keepfast.runs.in_vain import warn_of_idle_settings
from keepfast.runs.listing.shown import page
from keepfast.runs.loops.compiled import CompiledLoop
from keepfast.runs.processes.home import Home
from keepfast.runs.processes.ownership import in_forked_child
from keepfast.runs.processes.place import Standing
from keepfast.runs.processes.preemption import raise_honoured
from keepfast.runs.processes.ranks import Ranks
from keepfast.runs.recorder import Recorder
from keepfast.runs.schedule import whole_timestep
from keepfast.runs.stepping import Steps
from keepfast.tracking.multi_writer import MultiWriter

_CLOSED = "this experiment was closed; make another one"


@guarded_calls("__init__", inside=("record_transition", "step", "track_data"))
@final
class Experiment:
    """Keeps what one run produces, for any loop that counts timesteps.

    Args:
        cfg: the experiment's settings, with or without the level ``"experiment"``, in any form that
            `ExperimentConfig` takes.
        name: the agent's name, which the directory's name ends with where the settings give none.
        timesteps: the length of the training, which "auto" intervals derive from; None if it is not known.
        directory: the run's own directory, where it is known already.
        modules: the table of modules, where somebody else keeps it.
        on_write: called in the place of `write_tracking_data` when that is due, where somebody else has a say in it.
        on_checkpoint: called in the place of `write_checkpoint` when that is due.
        env: the environment, which tells when it resets (see `set_environment`).
        device: where a resume puts what it restores, as the framework names it; None leaves each where it is.

    In a distributed run rank 0 alone writes and checkpoints; all resume. What writes owns its directory until it is
    closed: a second experiment is refused there. A forked child's calls, and those after `close`, raise `UsageError`.

    Raises:
        ConfigError: if a setting is wrong.
        UnknownPlugin: if a setting names a backend, writer or format that nobody provides.
        InvalidValue: if there is no such device.
        DirectoryError: if the run's directory cannot be written in, or another experiment that is not closed owns it.

    Example::

        with keepfast.Experiment(cfg, name="PPO", timesteps=100_000) as experiment:
            experiment.register(policy=policy, value=value, optimizer=optimizer)
            for timestep in range(experiment.resume(), 100_000):
                experiment.record_transition(rewards, terminated, truncated)
                experiment.track_data("Loss / Policy loss", loss)
                experiment.step(timestep)
    """

    def __init__(
        self,
        cfg: Source = None,
        *,
        name: str = "run",
        timesteps: int | None = None,
        directory: Path | None = None,
        modules: dict[str, Module] | None = None,
        on_write: Callable[[int], None] | None = None,
        on_checkpoint: Callable[[int], None] | None = None,
        env: object = None,
        device: Any = None,
    ) -> None:
        config = ExperimentConfig.of(cfg)
        self.name, agent_config = name, agent_settings(cfg)[1]
        directory = run_directory(config, name) if directory is None else kept_in(directory)
        self._standing = Standing(config.distributed, directory, self._stand_aside)
        self._recorder = Recorder(config, directory, masked(agent_config), enabled=self._standing.first)
        self._modules = ModuleTable.of(modules, config, device)
        self._checkpointer = Checkpointer(
            config,
            directory / CHECKPOINTS,
            self._modules,
            lambda captured: self._home.resuming.state(captured),
            settle=self._settle,
            enabled=self._standing.first,
        )
        self._record, self._track = self._recorder.record, self._recorder.track
        self._steps = Steps(
            self._standing,
            self._recorder,
            self._checkpointer,
            begin=self._begin,
            write=self.write_tracking_data if on_write is None else function("on_write", on_write),
            checkpoint=self.write_checkpoint if on_checkpoint is None else function("on_checkpoint", on_checkpoint),
            leave=partial(self._close, interrupted=True),
        )
        self._refusal, self._process, self._at_close = "", os.getpid(), list[Callable[[], object]]()
        self._loop = CompiledLoop(self._recorder, lambda: self._home.resuming, self._steps, self._checkpointer)
        in_child(self._part_from_parent)
        self.resumed: LoadReport | None = None
        ranks = Ranks(config, self._standing, self._modules, self._checkpointer)
        parts = self._modules, self._recorder, self._checkpointer, self._steps, ranks
        self._home = Home(directory, name, agent_config, self._standing, *parts, is_named=bool(config.experiment_name))
        self.set_timesteps(timesteps)
        self.set_environment(env)
        if self._standing.first:
            warn_of_idle_settings(config)
        self._home.open()

    def _repr_html_(self) -> str:
        return page(repr(self), self, self._modules.names, self._checkpointer.staged)

    def __repr__(self) -> str:
        of = "" if self.timesteps is None else f" of {self.timesteps}"
        best = "" if self.best_score is None else f", best {self.best_score:.6g}"
        return f"Experiment({self.name!r} in {str(self.directory)!r}: {self.completed}{of} timesteps{best})"

    @property
    def directory(self) -> Path:
        """Return the run's directory."""
        return self._home.directory

    def _stand_aside(self) -> None:
        """Leave the run to the process that is the first, and in its directory nothing of this one's own."""
        self._checkpointer.enabled = False
        self._recorder.stand_aside()
        self._record, self._track = self._recorder.record, self._recorder.track
        self._home.give_up()

    def _part_from_parent(self) -> None:
        reason = in_forked_child(self._process)
        self._bar(f"an experiment was used {reason}")
        self._recorder.writer.refuse(reason)

    def _bar(self, refusal: str) -> None:
        """Refuse all calls from now on."""
        self._refusal = refusal
        self._steps.stop()
        self._record = self._track = partial(refuse, refusal)

    def _settle(self) -> None:
        """Have on disk what a checkpoint builds on; behind training, where checkpoints are written."""
        self._mend()
        self._recorder.settle()

    def _mend(self) -> None:
        """Make anew what somebody removed of the run's directory."""
        if self._standing.first:
            self._checkpointer.note_vanished(self._home.mend)

    def set_timesteps(self, timesteps: int | None) -> None:
        """Tell the length of the training, where it was not known when the experiment was made.

        Raises:
            InvalidValue: if it is no whole number of at least 1, nor None.
        """
        self._steps.set_length(timesteps)
        self._home.timesteps = self._steps.length

    def begin_pass(self) -> None:
        """Be told that another training or evaluation begins: its timesteps, from 0, are counted on from here.

        After a training that is complete this need not be told.
        """
        self._steps.passes.tell()

    def set_environment(self, env: object) -> None:
        """Tell the environment, where it was not known when the experiment was made.

        Where it resets in the step after the end of an episode, as vector environments of Gymnasium may, such rows are
        in no statistic, and registered memories give them to nobody. The setting ``autoreset`` counts if not "auto".
        """
        self._autoreset = self._recorder.set_environment(env)
        self._modules.set_autoreset(self._autoreset)

    @property
    def loop(self) -> CompiledLoop:
        """Return the experiment as a loop sees it that a backend compiles; others need it not."""
        self._check_open()
        return self._loop

    def describe(self, config: Mapping[str, Any]) -> None:
        """Store another configuration in ``config.json``, and tell it to writers that are yet to be made.

        Raises:
            ConfigError: if it is no mapping, or contains itself.
        """
        if self._standing.first:
            self._check_open()
        self._home.describe(config)

    @property
    def autoreset(self) -> str | None:
        """Return when the environments reset, or None where nobody said."""
        return self._autoreset

    @property
    def completed(self) -> int:
        """Return the number of completed timesteps."""
        return self._steps.completed

    @property
    def timesteps(self) -> int | None:
        """Return the length of the training, or None where it is not known."""
        return self._steps.length

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
        """Return all writers behind one, with the calls of torch's SummaryWriter, past all intervals.

        It is the same one from the start of the run to its end, through every `resume`.
        """
        if not self._refusal:
            self._standing.look_again()
        return self._recorder.writer

    def improved_within(self, timesteps: int) -> bool:
        """Say whether `best_metric` improved in the last timesteps, or the run is not that long: to stop early by."""
        return self._checkpointer.improvement.within(whole_timestep(timesteps), self.completed)

    def when_durable(self, callback: Callable[[Durable], object]) -> None:
        """Have a function called with each checkpoint (`timestep`, `paths`, `is_best`) once it is on disk.

        It is called behind training; what it raises is raised at the next call here.
        """
        self._checkpointer.when_durable(callback)

    def when_closed(self, callback: Callable[[], object]) -> None:
        """Have a function called at the end of `close`, of those that were named the last one first."""
        self._at_close.insert(0, function("callback", callback))

    def register(self, **modules: Module) -> None:
        """Register what checkpoints hold: networks, optimizers, schedulers, preprocessors, states, memories.

        Args:
            modules: each by the name it has in checkpoints. One that is replaced as training goes on, as JAX states
                are, is given as ``keepfast.attribute(owner, "name")``.

        Raises:
            UnsupportedModule: if no backend can capture one of them.
        """
        self._modules.add(modules)
        self._checkpointer.note_registered()
        self._modules.set_autoreset(self._autoreset)
        self._home.resuming.restore_late(modules)

    def record_transition(self, rewards: Any, terminated: Any, truncated: Any, valid: Any = None) -> None:
        """Track the rewards of one step of every environment, and the episodes that ended with it.

        Several agents in one environment give their rewards as a dict: each agent's statistics carry its name, those of
        all, their rewards added up, carry none. The episode of all is over once each agent has ended.

        Args:
            rewards: of shape (num_envs,) or (num_envs, 1), on any device; a number for one environment; or a dict.
            terminated: of as many elements; whether the episode ended in a terminal state; a dict, or for all agents.
            truncated: of as many elements; whether it was cut short; as `terminated`.
            valid: of as many elements; whether the row is a transition; as `terminated`. One that is none (of an
                environment that was idle, or only reset) is in no statistic. All are if None.

        Raises:
            ShapeMismatch: if the numbers of elements differ.
            InvalidValue: if dicts have different agents, or the rewards are no numbers.
            UsageError: if the experiment was closed.
        """
        self._record(rewards, terminated, truncated, valid)

    def reset_episodes(self, envs: Any = None) -> None:
        """Be told that environments were reset in mid-run: count their episodes anew, and tell registered memories.

        Args:
            envs: which ones: a mask of shape (num_envs,), or their numbers; all of them if None.

        Raises:
            InvalidValue: if there is no such environment.
            UsageError: if the experiment was closed.
        """
        self._check_open()
        self._modules.reset_episodes(envs, self._recorder.reset_episodes(envs))

    def track_data(self, tag: str, value: Any) -> None:
        """Track a number until the next write; see `Tracker.track` for what may be given.

        Raises:
            InvalidValue: if it is no single number.
            UsageError: if the experiment was closed.
        """
        self._track(tag, value)

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write a dict of values at once, past all intervals, an evaluation's for example.

        Args:
            values: numbers by tag. Of a dict within, tags are joined: ``{"eval": {"return": 1.0}}`` is "eval/return".
            step: the completed timesteps; by default those of the last step. The best is judged by `best_metric` if it
                is among the values.

        Raises:
            InvalidValue: if a value is no single number, the step no whole one, or something is no mapping.
            UsageError: if the experiment was closed.
        """
        self._check_open()
        self._standing.look_again()
        at = self.completed if step is None else whole_timestep(step)
        with Afterwards():
            written = self._recorder.log(values, at)
            self._standing.certain |= bool(written)
            if self._checkpointer.best.metric in written:
                self._checkpointer.judge(written, self._recorder.episodes, at)

    def step(self, timestep: int) -> None:
        """Complete a timestep, and write and checkpoint if that is due.

        A loop may count in strides, of its number of environments for example: what is due at a multiple of an interval
        is done at the first step that reaches or passes it.

        Args:
            timestep: counted from 0; timestep + 1 are complete then, and that is the number events and files carry.

        Raises:
            Exception: what went wrong with an earlier checkpoint behind training.
            InvalidValue: if it is no whole number.
            SystemExit: after saving, if the process was told to end (SIGTERM, SIGUSR1).
            KeyboardInterrupt: after saving, if Ctrl-C was pressed during the timestep; pressed twice, it acts at once.
            UsageError: if the experiment was closed.
        """
        self._steps.step(timestep)

    def _begin(self) -> None:
        self._check_open()
        self._modules.check()
        self._checkpointer.note_registered()
        self._standing.look_again()
        self._home.begin()

    def _check_open(self) -> None:
        if self._refusal:
            refuse(self._refusal)

    def write_tracking_data(self, completed: int) -> None:
        """Write what was tracked since the last write at once, and judge whether it is the best so far.

        Args:
            completed: the completed timesteps.
        """
        self._check_open()
        completed = whole_timestep(completed)
        self._standing.look_again()
        with Afterwards():
            statistics = self._recorder.write(completed) if self._recorder.enabled else {}
            self._standing.certain |= bool(statistics)
            self._checkpointer.judge(statistics, self._recorder.episodes, completed)

    def write_checkpoint(self, completed: int) -> None:
        """Checkpoint at once: copy every module now, and write the copy behind training.

        Args:
            completed: the completed timesteps.
        """
        self._check_open()
        completed = whole_timestep(completed)
        self._steps.completed = max(self.completed, completed)
        self._standing.look_again()
        with Afterwards():
            self._checkpointer.checkpoint(completed)
        self._standing.certain = True

    def resume(
        self,
        which: str | Path = "latest",
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
        fit: Fit = "error",
    ) -> int:
        """Go on where a checkpoint was taken: modules, random states, what was tracked, writers, best score.

        What this run wrote beyond it is void: all of it, where the run has no checkpoint yet. Episodes that were under
        way are dropped, since environments are reset at the start; with ``"running_episodes": "continue"``, or an
        environment among the modules that were restored, they go on.

        Args:
            which: ``"latest"`` or ``"best"`` of this experiment's own directory, or the path of another run's directory
                or of one checkpoint. Damaged checkpoints are passed over, with a warning that names them. ``"last"``
                goes on with the newest unfinished run of this agent, and in its directory, which is this experiment's
                from then on; where there is none, or this run has checkpoints of its own, it is ``"latest"``.
            modules: the names of the modules to restore; all if None.
            strict: whether any difference between file and modules is an error.
            cast: whether another dtype is converted.
            rename: file path -> own path.
            fit: what to do with a memory of another size or number of environments; see `Memory.load`.

        Returns:
            The timestep to go on with, counted from 0; 0 where this experiment has no checkpoint yet. Without an
            ``experiment_name``, a warning names the unfinished run that was perhaps meant then.

        Raises:
            NotFound: if the given path does not exist or holds no checkpoint that can be loaded.
            LoadMismatch: if the checkpoint does not fit; lists every difference, and nothing was changed.
            CorruptCheckpoint: if the one given file is damaged.
            UsageError: if the experiment was closed.
        """
        self._check_open()
        self._standing.look_again()
        with Afterwards():
            self._checkpointer.wait()
            report = self._home.resume(which, LoadOptions.of(modules, strict, cast, rename, self._modules.device, fit))
            if report is None:
                return 0
            self.resumed = report
            self._steps.go_on(report.timestep or 0)
        return self.completed

    def wait(self) -> None:
        """Return when what was promised is on disk, and uploaded where the run's directory is on an object store.

        Raises:
            Exception: what went wrong with a checkpoint, other than being refused by the operating system.
            WaitedInVain: if it was not uploaded within `upload_patience` seconds; says why, and where it lies.
        """
        self._loop.wait()
        with Afterwards():
            self._mend()
            self._checkpointer.wait()
            self._home.wait()

    def close(self) -> None:
        """Write what was tracked last, save the last state and the best, wait for all of it and release everything.

        Where an error ends the run, the last state is not saved, since it may be half of an update. What was tracked
        last is left to a resume then, if a checkpoint holds it. Closing twice is fine; a ``with`` statement closes at
        its end. In a forked child it does nothing.
        """
        own, interrupted = os.getpid() == self._process, sys.exc_info()[0] is not None  # leaving `with` or `except`
        finish(*[self._loop.wait] * own, partial(self._close, interrupted=interrupted), *[raise_honoured] * own)

    def _close(self, *, interrupted: bool) -> None:
        if self._refusal or os.getpid() != self._process:
            return
        self._steps.release_signals()
        interrupted |= self._loop.is_broken_off
        with Afterwards():
            finish(
                partial(self._steps.write_rest, interrupted=interrupted, at_close=True),
                *([] if interrupted else [self._steps.save_end]),
                partial(self._bar, _CLOSED),
                self._mend,
                partial(self._checkpointer.close, interrupted=interrupted),
                self._recorder.close,
                partial(self._home.end, self._steps.preemption.asked, self.completed, interrupted=interrupted),
                *self._at_close,
            )

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finish(self.close, after=error)
