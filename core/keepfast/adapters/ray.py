"""Ray: the results and checkpoints of a trial of Ray Tune, or of a worker of Ray Train, are those of its experiment.

Nothing of Ray is imported here: the part of it that the trial runs in is given.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from keepfast._system.disk.directories import make_directory
from keepfast._system.finishing import finish
from keepfast.checkpoints.index import CHECKPOINTS, IndexedFile, read_index
from keepfast.errors import UsageError
from keepfast.experiment import Experiment
from keepfast.runs.artifacts.promised import Durable
from keepfast.runs.schedule import Schedule, Turns


@final
class RayTrial:
    """Reports an experiment's values and checkpoints to Ray, and has it go on from what Ray gives back.

    There is one report an interval of writing, with the values of that interval by their tags, the ``"timestep"``, and
    the newest checkpoint if there is one since the last report; it is durable then, and Ray stores a copy of its files.

    Args:
        experiment: the experiment, before its `resume`. Closing is left to the trial.
        session: ``ray.tune`` in a function that Tune calls, ``ray.train`` in one of a trainer's workers, each of which
            has a trial of its own: all report at the same timesteps, and the first has the checkpoint.

    Raises:
        UsageError: if the experiment writes nothing.

    Example::

        def train(config):
            cfg = {"directory": runs, "experiment_name": ray.tune.get_context().get_trial_id(), "writers": ["jsonl"]}
            with RayTrial(keepfast.Experiment(cfg, name="PPO", timesteps=1000), ray.tune) as trial:
                trial.experiment.register(policy=policy, optimizer=optimizer)
                for timestep in range(trial.resume(), 1000):
                    trial.experiment.track_data("Reward", train_once(config["lr"]))
                    trial.step(timestep)

    Attributes:
        experiment: the experiment.
    """

    def __init__(self, experiment: Experiment, session: Any) -> None:
        self.experiment, self._session = experiment, session
        self._values: dict[str, float] = {}
        self._newest: Durable | None = None
        self._turns: Turns | None = None
        self._reported_at: int | None = None
        experiment.writer.when_written(self._take)
        experiment.when_durable(self._note)

    def _take(self, values: Mapping[str, float], step: int) -> None:
        self._values.update(values)

    def _note(self, durable: Durable) -> None:
        if not durable.is_best:
            self._newest = durable

    def resume(self) -> int:
        """Go on from the checkpoint that Ray gives, and return the timestep to go on with; see `Experiment.resume`.

        Where the run's own directory has that very checkpoint, it is that run which goes on, with its writers and its
        best score. Another trial's, as population-based training gives, and one on a machine that lacks the directory,
        is gone on from as from another run. Without one by Ray, it is the run's own latest.
        """
        given = self._session.get_checkpoint()
        if given is None:
            return self.experiment.resume()
        with given.as_directory() as folder:
            own = self._same_as(Path(folder))
            start = self.experiment.resume(Path(folder) if own is None else own)
        self.experiment._home.earlier.taken_over()  # noqa: SLF001  (the trial goes on in its run, with another's weights)
        return start

    def _same_as(self, folder: Path) -> Path | None:
        """Return a file of the run's own checkpoint that has the same content as a folder's; None if there is none."""
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        own = [self.experiment.directory / CHECKPOINTS / path.name for path in files]
        is_same = all(one.is_file() and _digest(one) == _digest(path) for one, path in zip(own, files, strict=True))
        return own[0] if own and is_same else None

    def step(self, timestep: int) -> None:
        """Complete a timestep, and report if a write was due; see `Experiment.step`.

        Raises:
            BaseException: what Ray ends a trial by.
        """
        if self._turns is None:
            self._turns = Turns([Schedule(self._interval())], timestep)
        self.experiment.step(timestep)
        if any(self._turns.take(self.experiment.completed)):
            self.experiment.wait()
            self._report()

    def _interval(self) -> int:
        if not self.experiment.write_interval:
            raise UsageError(
                "`write_interval` is 0, so that nothing is ever reported to Ray; set how often it is to be"
            )
        return self.experiment.write_interval

    def _report(self) -> None:
        newest, self._newest = self._newest, None
        self._reported_at = self.experiment.completed
        with _folder_of(self.experiment.directory / CHECKPOINTS, newest) as folder:
            checkpoint = None if folder is None else self._session.Checkpoint.from_directory(str(folder))
            self._session.report({**self._values, "timestep": self._reported_at}, checkpoint=checkpoint)

    def close(self) -> None:
        """Close the experiment, and report its end if the last report was not of it."""
        self.experiment.close()
        if self._turns is not None and self._reported_at != self.experiment.completed:
            self._report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            finish(self.experiment.close, after=error)


@contextlib.contextmanager
def _folder_of(directory: Path, durable: Durable | None) -> Iterator[Path | None]:
    """Give a folder with the files of one checkpoint, for as long as the block lasts; None where there is none."""
    if durable is None:
        yield None
        return
    names = {path.name for path in durable.paths}
    segments = [name for each in read_index(directory) if each.names & names for name in each.segments]
    with tempfile.TemporaryDirectory(prefix="keepfast-ray-") as folder:
        for name in (*sorted(names), *segments):
            _copy(directory / name, Path(folder) / name)
        yield Path(folder)


def _copy(source: Path, target: Path) -> None:
    make_directory(target.parent)
    if source.is_dir():
        shutil.copytree(source, target)
        return
    try:
        os.link(source, target)  # the file is never changed, only replaced
    except OSError:  # of another file system
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    return IndexedFile.of(path).digest
