"""The directory that a run lives in: opened as its owner, given up, or exchanged for that of another run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from keepfast._system.background import wait_for_writing
from keepfast._system.disk.directories import path_of
from keepfast._system.finishing import finish
from keepfast._system.lifetimes import at_exit, before_exit
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.config import LEVEL
from keepfast.interfaces.loading.report import LoadReport
from keepfast.metrics.reading import has_entries
from keepfast.modules.options import LoadOptions
from keepfast.modules.table import ModuleTable
from keepfast.plugins.backends import prepare
from keepfast.runs.artifacts.offering import Offering
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.directory import (
    CONFIG,
    ConfigFile,
    EarlierRun,
    NewDirectory,
    leave_run_directory,
    take_run_directory,
)
from keepfast.runs.processes.origin import Origin
from keepfast.runs.processes.ownership import Ownership
from keepfast.runs.processes.place import Standing
from keepfast.runs.processes.ranks import Ranks
from keepfast.runs.reading import Progress, latest_complete, latest_unfinished
from keepfast.runs.recorder import Recorder
from keepfast.runs.resuming import Resuming, warn_of_complete, warn_of_unfinished, warn_where_complete
from keepfast.runs.stepping import Steps
from keepfast.runs.uploading.leftovers import tell_leftovers
from keepfast.runs.uploading.uploads import Uploads


@final
class Home:
    """Where a run's files are, and what an earlier run left there.

    Args:
        directory: the run's directory.
        agent: the agent's name.
        agent_config: the agent's whole configuration.
        standing: whether this process is the one that writes.
        modules: what the run's checkpoints hold.
        recorder: what tracks and writes.
        checkpointer: what stores.
        steps: what counts the timesteps.
        ranks: what each process has for itself.
        is_named: whether somebody chose the directory's name; else it is of the moment the run was made.

    Attributes:
        earlier: what an earlier run left.
        resuming: has the run go on from a checkpoint.
        timesteps: the length of the training, or None.
    """

    def __init__(
        self,
        directory: Path,
        agent: str,
        agent_config: Mapping[str, Any],
        standing: Standing,
        modules: ModuleTable,
        recorder: Recorder,
        checkpointer: Checkpointer,
        steps: Steps,
        ranks: Ranks,
        *,
        is_named: bool,
    ) -> None:
        self._agent, self._standing, self._is_named = agent, standing, is_named
        self._modules, self._recorder, self._checkpointer = modules, recorder, checkpointer
        self._agent_config: Mapping[str, Any] = agent_config
        self._offering = Offering(recorder.artifacts, recorder.writer, lambda: self.directory, lambda: steps.completed)
        checkpointer.when_durable(self._offering.offer_checkpoint)
        self._ownership = Ownership(directory)
        self._uploads = Uploads(directory, agent_config[LEVEL])
        checkpointer.when_durable(lambda durable: self._uploads.wake(durable))
        checkpointer.when_told(lambda: self._uploads.tell())
        self._new: NewDirectory | None = None
        self._origin = Origin(
            agent_config[LEVEL]["provenance"] if standing.first else False,
            lambda: self._agent_config,
            lambda: recorder.environment,
        )
        self._process, self._steps, self._ranks = os.getpid(), steps, ranks
        ranks.belong_to(lambda: self.directory, lambda modules: self.resuming.state(modules))
        self.timesteps: int | None = None

    @property
    def directory(self) -> Path:
        """Return the run's directory, which changes where the run goes on with another one."""
        return self._ownership.directory

    def open(self) -> None:
        """Open the directory as its owner, and the writers where there is nothing to resume.

        Raises:
            DirectoryError: if it cannot be written in, or another owns it.
        """
        prepare()
        is_new = self._standing.first and not self.directory.exists()
        with self._ownership.unless_it_fails(), self._uploads.unless_it_fails():
            self._take(self._ownership, self._uploads)
            self._start_in(self._ownership)
            at_exit(self._end_with_process)
            before_exit(self._upload_with_process)
            self._checkpointer.tell()
            if self.earlier.is_nothing:
                self._open_writers()  # else by `resume`, which tells them what is void, or at the first need
        self._new = NewDirectory(self.directory) if is_new else None
        if self._standing.first and self._uploads.are_under_way:
            self._uploads.start()
            tell_leftovers(self.directory)

    def _open_writers(self) -> None:
        try:
            self._recorder.open()
        except BaseException as error:  # a warning that is an error too: nobody will close this run
            finish(self._recorder.writer.close, after=error)
            raise

    def _take(self, ownership: Ownership, uploads: Uploads) -> None:
        if self._standing.first:
            take_run_directory(ownership)
            uploads.take()
        else:
            uploads.look()

    def _start_in(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._config_file = ConfigFile(self.directory, self._origin.document)
        self.earlier = self._opened() if self._standing.first else EarlierRun(self.directory)
        self.resuming = Resuming(self._modules, self._recorder, self._checkpointer, self.earlier, self._ranks)

    def _opened(self) -> EarlierRun:
        begun = (self.directory / CONFIG).exists()
        self.describe(self._agent_config)
        found = {"checkpoints": self._checkpointer.start(), "metrics": has_entries(self.directory)}
        return EarlierRun(self.directory, begun=begun, left=[kind for kind, is_there in found.items() if is_there])

    def begin(self) -> None:
        """Be told that training begins."""
        self.earlier.warn()
        self._ranks.begin()
        self._offering.listen(self._modules.memories())
        self._origin.begin(self._tell_news)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Store the run's configuration, where this process is the first; the recorder knows it in each."""
        self._recorder.describe(config)
        self._agent_config = config
        if self._standing.first:
            self._config_file.store(self._agent, self.timesteps, config)

    def mend(self) -> bool:
        """Make the directory and the configuration in it anew where somebody removed them, and say whether so.

        Where there is something new to tell of this start, it is told too.
        """
        return self._config_file.mend() or self._tell_news()

    def _tell_news(self) -> bool:
        """Have the configuration's file tell what is known by now of this start; from any thread."""
        self._config_file.refresh()
        return False

    def resume(self, which: str | Path, options: LoadOptions) -> LoadReport | None:
        """Have the run go on; see `Experiment.resume`. None where there is nothing to go on from."""
        which = which if isinstance(which, str) else path_of(which)
        report = self._resume_last(options) if which == "last" else self.resuming.resume(which, options)
        if report is None:
            self._recorder.open()
            self._tell_unfinished(which)
            return None
        if report.path is not None:
            self._origin.note_resumed(report.path, report.timestep)
        self._tell_news()
        if self._standing.first and which in ("latest", "best", "last"):
            warn_where_complete(self.directory, report.timestep or 0, self.timesteps)
        return report

    def _unfinished(self) -> Progress | None:
        self._uploads.fetch_unfinished(self._agent, self.timesteps)
        return latest_unfinished(self.directory, self._agent, self.timesteps, free=self._standing.first)

    def _tell_unfinished(self, which: str | Path) -> None:
        """Tell which run was perhaps meant, where the directory's name is of this very moment."""
        if not self._standing.first or not self.earlier.is_nothing:
            return
        if which == "last":
            warn_of_complete(self.directory, self._agent, latest_complete(self.directory, self._agent, self.timesteps))
        elif not self._is_named:
            warn_of_unfinished(self.directory, self._agent, self._unfinished())

    def _resume_last(self, options: LoadOptions) -> LoadReport | None:
        own, run = self._ownership, None if self._checkpointer.directory.checkpoints() else self._unfinished()
        if run is None:
            return self.resuming.resume("latest", options)
        other = Ownership(run.path)
        uploads = self._uploads.of_another(run.path)
        self._take(other, uploads)
        with other.unless_it_fails(), uploads.unless_it_fails():
            found = self.resuming.find_at(run.path, CheckpointDirectory(run.path / CHECKPOINTS))
            with self.resuming.restored(found, options) as report:  # before anything is touched there
                try:
                    self._move(other)
                    report = self.resuming.go_on(found, report)
                except BaseException:
                    self._move(own)
                    raise
        self._uploads.release()
        self._uploads = uploads
        if self._standing.first:
            uploads.start()
        own.release()
        if self._new is not None:
            self._new.remove_unless_used()
        return report

    def _move(self, ownership: Ownership) -> None:
        self._recorder.flush()
        self._recorder.move(ownership.directory, vain=self._new is not None and self._new.is_unused)
        self._checkpointer.move(ownership.directory / CHECKPOINTS)
        self._start_in(ownership)

    def wait(self) -> None:
        """Return when what was written is where the writers keep it, and uploaded where the run is."""
        self._recorder.flush()
        self._uploads.wait()

    def give_up(self) -> None:
        """Leave the directory to the process that writes the run, with nothing of this one's own in it."""
        self._config_file.forget()
        self._uploads.release()
        leave_run_directory(self._ownership, begun=self.earlier.begun)
        self.earlier.taken_over()
        if self._steps.under_way:
            self._ranks.begin()

    def end(self, signal_number: int | None, completed: int, *, interrupted: bool) -> None:
        """Have the directory tell how this start ended, and let others have it; twice is fine.

        Args:
            signal_number: the signal that the run ends at, or None.
            completed: the completed timesteps.
            interrupted: whether it is left before its end.
        """
        if not self._origin.has_ended:
            self._origin.end(signal_number, completed, interrupted=interrupted)
            self._config_file.refresh()
        finish(self._uploads.close, self.release)

    def release(self) -> None:
        """Let others have the directory; twice is fine."""
        self._ranks.release()
        self._ownership.release()

    def _end_with_process(self) -> None:
        if os.getpid() == self._process and not self._origin.has_ended:
            self._origin.end_with_process()
            self._config_file.refresh()

    def _upload_with_process(self) -> None:
        if os.getpid() == self._process and self._uploads.are_under_way and not self._origin.has_ended:
            wait_for_writing(self.directory / CHECKPOINTS)
            finish(self._recorder.settle, self._end_with_process, self._uploads.close)
