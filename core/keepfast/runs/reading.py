"""What the directory of a run holds, and the runs that lie below a directory."""

from __future__ import annotations

import contextlib
import datetime as dt
import heapq
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, final

from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.special import content_of
from keepfast._system.remote.elsewhere import is_leased
from keepfast._system.warnings import warn
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS, IndexedCheckpoint
from keepfast.config import LEVEL, ExperimentConfig
from keepfast.errors import ConfigError, NotFound, did_you_mean
from keepfast.metrics.frames import Series
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.plugins.formats import numeric_order
from keepfast.plugins.locations import located
from keepfast.provenance.ending import RUNNING
from keepfast.provenance.starts import ENDED, whole
from keepfast.runs.directory import CONFIG, LONGEST_PATHS, leaves
from keepfast.runs.listing.tagging import TAGS, Label, read_label
from keepfast.runs.processes.ownership import is_owned
from keepfast.tree import require_short_paths, values

_OF_A_CONFIG = {"agent", "timesteps", "config"}
"""What tells the configuration of a run from another ``config.json``."""

_CONFIG_BYTES = 2**24
"""A longer ``config.json`` is not looked at where many are."""

_DEEPEST = 150
"""How many containers are in each other in what is known of a start; a configuration may have a hundred."""

_MOST_SETTINGS = 10_000
"""How many values the settings of a run may have, each of which is checked."""

_LOOKED_AT = 100
"""In how many directories an unfinished run is searched for, so that a start is as quick among thousands."""

_DATED = re.compile(r"\d\d-\d\d-\d\d_\d\d-\d\d-\d\d-\d")
"""How the names begin that runs have by default, which sort by time."""


@final
@dataclass(frozen=True)
class Latest:
    """The latest value of a tag, and the completed timesteps it was written at."""

    step: int
    value: float


@final
@dataclass(frozen=True)
class Run:
    """What the directory of a run holds.

    Attributes:
        path: the directory.
        agent: the agent's name, or None where no configuration tells it.
        steps: the completed timesteps, as far as metrics and checkpoints tell; None where there are neither.
        timesteps: the length of the training, or None where it is not known.
        best_metric: the tag that the best is judged by.
        best_score: the best value so far, by the best checkpoint or else by the metrics; None where there is none.
        latest: the latest value of each tag.
        checkpoints: the checkpoints by timestep, the best last.
        changed: when a file was last written, in seconds since the epoch.
        size: the bytes of all files.
        best_mode: whether more ("max") or less of the best metric is better.
        settings: the configuration, each setting by its dotted path.
        status: how the latest start ended (finished, failed, interrupted, killed), "running" where it has not, and ""
            where it is of a version that did not tell.
        error: why it failed, or was interrupted.
        label: the name and the tags that somebody gave it.
        began: when the latest start was, in seconds since the epoch; None where it is not known.
        seconds: how long that took.
        starts: what is known of each start, the first one first: see `keepfast.provenance`.
    """

    path: Path
    agent: str | None
    steps: int | None
    timesteps: int | None
    best_metric: str
    best_score: float | None
    latest: Mapping[str, Latest]
    checkpoints: list[IndexedCheckpoint]
    changed: float
    size: int
    best_mode: str = "max"
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    error: str | None = None
    label: Label = field(default_factory=Label)
    began: float | None = None
    seconds: float | None = None
    starts: Sequence[Mapping[str, Any]] = ()


def find_runs(directory: str | Path) -> list[Path]:
    """Return the directories of all runs at and below a directory, by name.

    A run is a directory with the configuration, the checkpoints or the metrics of one; those inside it are its own.
    Directories that cannot be read are passed over with a warning.

    Raises:
        NotFound: if there is no such directory, or no run in it.
    """
    root = Path(directory)
    if not root.is_dir():
        raise NotFound(f"there is no directory `{root}`; give the one that your runs lie in")
    found = list(_runs_below(root))
    if not found:
        raise NotFound(f"there are no runs in `{root}`")
    return found


def _runs_below(root: Path) -> Iterator[Path]:
    for path, directories, _ in os.walk(root, onerror=_tell_unreadable):
        if _may_be_run(Path(path)):
            yield Path(path)
            directories.clear()
        else:
            names = [name for name in directories if not name.startswith(".")]
            directories[:] = sorted(names, key=lambda name: numeric_order(Path(name)))


def _tell_unreadable(error: OSError) -> None:
    warn(f"`{error.filename}` cannot be read and was passed over: {error.strerror}")


def _may_be_run(path: Path) -> bool:
    try:
        return is_run(path)
    except OSError as error:
        _tell_unreadable(error)
        return False


def is_run(path: Path) -> bool:
    """Say whether a directory is that of a run."""
    return (path / CHECKPOINTS).is_dir() or bool(_document(path)) or has_metrics(path)


def read_run(path: str | Path) -> Run:
    """Return what the directory of a run holds; of one on an object store, what a copy of it does.

    Raises:
        NotFound: if it is no run's directory; lists the runs beside it, and the nearest.
        OSError: if it cannot be read.
    """
    with within_memory(path):
        return _read(located(path))


def _read(path: Path) -> Run:
    if not path.is_dir() or not is_run(path):
        raise NotFound(f"there is no run at `{path}`{did_you_mean(path.name, _beside(path))}")
    document = _document(path)
    config = _settings(document)
    metrics = read_metrics(path) if has_metrics(path) else {}
    checkpoints = CheckpointDirectory(path / CHECKPOINTS).checkpoints()
    ends = [int(series.steps[-1]) for series in metrics.values()]
    ends += [checkpoint.timestep for checkpoint in checkpoints if checkpoint.timestep is not None]
    changed, size = _usage(path)
    starts = _starts(document)
    return Run(
        path=path,
        agent=agent if isinstance(agent := document.get("agent"), str) else None,
        steps=max(ends, default=None),
        timesteps=timesteps if isinstance(timesteps := document.get("timesteps"), int) else None,
        best_metric=config.best_metric,
        best_score=_best_score(path, config, metrics),
        latest={tag: Latest(int(series.steps[-1]), float(series.values[-1])) for tag, series in metrics.items()},
        checkpoints=checkpoints,
        changed=changed,
        size=size,
        best_mode=config.best_mode,
        settings=_leaves(document.get("config", {})),
        label=read_label(path),
        starts=starts,
        **latest_start(path, starts),
    )


def latest_start(path: Path, starts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the latest start tells: `status`, `error`, `began` and `seconds` of a `Run`."""
    last = starts[-1] if starts else {}
    told = last.get(ENDED)
    ended = told if isinstance(told, Mapping) else {}
    how, error, seconds = ended.get("how"), ended.get("error"), ended.get("seconds")
    return {
        "status": how if isinstance(how, str) else status_of(path, is_told=ENDED in last),
        "error": error if isinstance(error, str) else None,
        "began": _seconds(last.get("time")),
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
    }


def status_of(path: Path, *, is_told: bool) -> str:
    """Return what a run is that tells of no end: running, or killed where it would tell."""
    if is_owned(path) or is_leased(path):
        return RUNNING
    return "killed" if is_told else ""


def _seconds(time: object) -> float | None:
    try:
        return dt.datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    except (ValueError, OverflowError, OSError):
        return None


def _starts(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = document.get("starts")
    if not isinstance(told, list):
        return []
    return whole(start for start in told if isinstance(start, Mapping) and not _is_deep(start))


def _is_deep(start: Mapping[str, Any]) -> bool:
    """Say whether what is known of a start has more containers in each other than any of ours has."""
    level, depth = list[Any]([start]), 0
    while level and depth <= _DEEPEST:
        inner = chain.from_iterable(node.values() if isinstance(node, dict) else node for node in level)
        level, depth = [child for child in inner if isinstance(child, dict | list)], depth + 1
    return depth > _DEEPEST


@final
@dataclass(frozen=True)
class Progress:
    """How far a run has come, by its checkpoints.

    Attributes:
        path: its directory.
        steps: the completed timesteps at its latest checkpoint.
        timesteps: the length of the training, or None where nobody told.
    """

    path: Path
    steps: int
    timesteps: int | None

    @property
    def is_complete(self) -> bool:
        """Say whether nothing is left to do, as far as anybody told."""
        return self.timesteps is not None and self.steps >= self.timesteps

    def __str__(self) -> str:
        of = "" if self.timesteps is None else f" of {self.timesteps}"
        return f"`{self.path}` ({self.steps}{of} timesteps)"


def latest_unfinished(own: Path, agent: str, timesteps: int | None, *, free: bool = True) -> Progress | None:
    """Return the newest run of an agent that has a checkpoint and did not reach its end.

    Names that begin with a date and time are looked at first, the newest first; a hundred directories at most.

    Args:
        own: the directory of the run that asks, which lies beside the others and is none of them.
        agent: the agent's name.
        timesteps: the length of training of runs that do not tell theirs.
        free: whether to pass over runs that are under way, which have an owner.
    """
    unfinished = (run for run in _beside_with_checkpoints(own, agent, timesteps) if not run.is_complete)
    return next((run for run in unfinished if not (free and (is_owned(run.path) or is_leased(run.path)))), None)


def latest_complete(own: Path, agent: str, timesteps: int | None) -> Progress | None:
    """Return the newest run of an agent that reached its end; see `latest_unfinished`."""
    return next((run for run in _beside_with_checkpoints(own, agent, timesteps) if run.is_complete), None)


def _beside_with_checkpoints(own: Path, agent: str, timesteps: int | None) -> Iterator[Progress]:
    try:
        names = [entry.name for entry in os.scandir(own.parent) if entry.is_dir() and entry.name != own.name]
    except OSError:
        return
    for name in heapq.nlargest(_LOOKED_AT, names, key=lambda name: (bool(_DATED.match(name)), name)):
        with contextlib.suppress(OSError):
            if (found := _progress_of(own.parent / name, agent, timesteps)) is not None:
                yield found


def _progress_of(path: Path, agent: str, timesteps: int | None) -> Progress | None:
    if (path / CONFIG).stat().st_size > _CONFIG_BYTES:
        return None
    document = _document(path)
    if document.get("agent") != agent:
        return None
    length = told if isinstance(told := document["timesteps"], int) else timesteps
    found = CheckpointDirectory(path / CHECKPOINTS).checkpoints()
    steps = max((one.timestep for one in found if one.timestep is not None), default=None)
    return None if steps is None else Progress(path, steps, length)


def _beside(path: Path) -> list[str]:
    """Return the names of the runs in the same directory, as far as they can be read."""
    names = []
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            with contextlib.suppress(OSError):
                if other.is_dir() and is_run(other):
                    names.append(other.name)
    return names


def _document(path: Path) -> dict[str, Any]:
    """Return what ``config.json`` says, nothing where there is none or it is not ours."""
    try:
        if not (path / CONFIG).is_file():  # a pipe would be waited for
            return {}
        document = json.loads(content_of(path / CONFIG).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and document.keys() >= _OF_A_CONFIG else {}


def _settings(document: Mapping[str, Any]) -> ExperimentConfig:
    """Return a run's settings; the defaults where they are not known, or those of another version."""
    config = document.get("config")
    told = config.get(LEVEL) if isinstance(config, Mapping) else None
    if not isinstance(told, Mapping) or _are_many(told):  # a text would be the path of another file
        return ExperimentConfig()
    try:
        return ExperimentConfig(told)
    except (ConfigError, AttributeError, TypeError, ValueError, OverflowError, RecursionError):
        return ExperimentConfig()


def _are_many(settings: Mapping[str, Any]) -> bool:
    return next(islice(values(settings), _MOST_SETTINGS, None), None) is not None


def _leaves(config: Any) -> dict[str, Any]:
    """Return each setting by its path; none where the paths are longer than those of any configuration."""
    try:
        require_short_paths(config, LONGEST_PATHS)
    except ValueError:
        return {}
    return dict(leaves(config))


def _best_score(path: Path, config: ExperimentConfig, metrics: Mapping[str, Series]) -> float | None:
    stored = CheckpointDirectory(path / CHECKPOINTS).best_score(config.best_mode, config.best_metric)
    if stored is not None or config.best_metric not in metrics:
        return stored
    values = [value for value in metrics[config.best_metric].values.tolist() if math.isfinite(value)]
    return (max if config.best_mode == "max" else min)(values, default=None)


def _usage(path: Path) -> tuple[float, int]:
    """Return when a file below a directory was last written, and the bytes of all files."""
    changed, size = 0.0, 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # a run that is going on removes files
            status = file.lstat()
            if not file.is_dir():
                changed = changed if file.name == TAGS else max(changed, status.st_mtime)
                size += status.st_size
    return changed or path.stat().st_mtime, size
