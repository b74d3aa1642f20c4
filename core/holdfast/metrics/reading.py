"""Reads back what writers kept of a run: event files, jsonl or csv, without any library for them."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import NotFound
from holdfast.metrics.events import read_events


@final
class Series(NamedTuple):
    """The values of one tag, by step.

    Attributes:
        steps: int64, of shape (n,).
        values: float64, of shape (n,).
        wall_times: float64 seconds since the epoch, of shape (n,).
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    wall_times: NDArray[np.float64]


Point = tuple[int, float, float]
Points = dict[str, list[Point]]


def read_metrics(run: str | Path) -> dict[str, Series]:
    """Return the scalars of a run.

    Where several writers kept the run, each tag is taken from the one that has most of it; of equals, from jsonl, csv
    and event files in this order, since event files hold no more than 32 bits of a value.

    Args:
        run: a run's directory, or one file in it.

    Returns:
        Each tag with its steps, values and wall times, by rising step.

    Raises:
        NotFound: if the run does not exist, or nothing in it was written by a writer that can be read.

    Example:
        >>> steps, values, wall_times = holdfast.read_metrics("runs/my_run")["Loss / Policy loss"]  # doctest: +SKIP
    """
    path = Path(run)
    if not path.exists():
        raise NotFound(f"there is no run at `{path}`")
    best: Points = {}
    kinds = _sources(path)
    for read, files in kinds:
        for tag, points in read(files).items():
            if len(points) > len(best.get(tag, ())):
                best[tag] = points
    if not kinds:
        raise NotFound(f"`{path}` holds no metrics; looked for {', '.join(pattern for pattern, _ in _READERS)}")
    return {tag: _series(points) for tag, points in sorted(best.items())}


def iter_metrics(pattern: str | Path, tags: Iterable[str] | None = None) -> Iterator[tuple[Path, dict[str, Series]]]:
    """Yield the scalars of every run that a pattern matches, one run at a time.

    Args:
        pattern: a glob pattern of run directories, ``"runs/*"`` for example; ``**`` goes down any number of levels.
        tags: the tags wanted; all if None. A run that has none of them is passed over.

    Yields:
        Each run's directory and what `read_metrics` returns of it.

    Raises:
        NotFound: if the pattern matches no run with metrics.
    """
    wanted = None if tags is None else set(tags)
    matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))  # noqa: PTH207  (absolute ones)
    runs = [path for path in matches if path.is_dir() and _sources(path)]
    if not runs:
        raise NotFound(f"no run with metrics matches `{pattern}`")
    for path in runs:
        found = read_metrics(path)
        chosen = {tag: series for tag, series in found.items() if wanted is None or tag in wanted}
        if chosen:
            yield path, chosen


def has_metrics(path: Path) -> bool:
    """Say whether a run's directory, or a file, is one that metrics can be read from."""
    return path.exists() and bool(_sources(path))


def _sources(path: Path) -> list[tuple[Callable[[list[Path]], Points], list[Path]]]:
    candidates = [path] if path.is_file() else sorted(path.iterdir())
    found = []
    for pattern, read in _READERS:
        files = [file for file in candidates if file.match(pattern) and file.is_file()]
        if files:
            found.append((read, files))
    return found


def _series(points: list[Point]) -> Series:
    ordered = sorted(points, key=lambda point: point[0])
    steps, values, wall_times = zip(*ordered, strict=True)
    return Series(np.array(steps, np.int64), np.array(values, np.float64), np.array(wall_times, np.float64))


def _read_event_files(files: list[Path]) -> Points:
    sessions = [list(read_events(file)) for file in files]
    points: Points = {}
    for events in sorted(filter(None, sessions), key=lambda events: events[0].wall_time):
        for event in events:
            if event.starts_session:
                _purge(points, event.step)
            _add(points, event.scalars, event.step, event.wall_time)
    return points


def _purge(points: Points, step: int) -> None:
    for tag, known in points.items():
        points[tag] = [point for point in known if point[0] < step]


def _add(points: Points, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
    for tag, value in scalars.items():
        points.setdefault(tag, []).append((step, value, wall_time))


def _read_jsonl(files: list[Path]) -> Points:
    points: Points = {}
    for file in files:
        for line in file.read_text("utf-8", "replace").split("\n"):
            try:
                entry = json.loads(line)
                scalars = {tag: float(value) for tag, value in entry.get("scalars", {}).items()}
                step, wall_time = int(entry["step"]), float(entry["wall_time"])
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that a kill tore, or that is not ours
            _add(points, scalars, step, wall_time)
    return points


def _read_csv(files: list[Path]) -> Points:
    points: Points = {}
    for file in files:
        with file.open(encoding="utf-8", errors="replace", newline="") as opened:
            for row in csv.reader(opened):
                try:
                    step, wall_time, tag, value = row
                    point = int(step), float(value), float(wall_time)
                except ValueError:
                    continue  # the header, or a line that a kill tore
                points.setdefault(tag, []).append(point)
    return points


# From the most to the least exact.
_READERS: tuple[tuple[str, Callable[[list[Path]], Points]], ...] = (
    ("metrics*.jsonl", _read_jsonl),
    ("metrics*.csv", _read_csv),
    ("*tfevents*", _read_event_files),
)
