"""Reads back what writers kept of a run: event files, jsonl or csv, without any library for them."""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from keepfast._system.arguments.checks import listed
from keepfast._system.arguments.guarding import guarded
from keepfast._system.disk.directories import path_of
from keepfast._system.warnings import warn
from keepfast.errors import NotFound
from keepfast.metrics.events import has_summaries, read_events
from keepfast.metrics.frames import Metrics, Series
from keepfast.metrics.wanted import Wanted, WantedTags

_Point = tuple[int, float, float]
_Points = dict[str, list[_Point]]

_NO_METRICS = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, csv.Error)
"""What parsing a line raises that is torn, or none of ours."""


@guarded
def read_metrics(run: str | Path) -> Metrics:
    """Return the scalars of a run.

    Where several writers kept the run, in turn or side by side, what they have of a tag is put together by step. A step
    that several have is taken from the one that has most of the tag; of equals, from jsonl, csv and event files in this
    order, since event files hold no more than 32 bits of a value. Lines of jsonl and csv that are no metrics are passed
    over, counted, and told in one warning for each file.

    Args:
        run: a run's directory, or one file in it.

    Returns:
        Each tag with its steps, values and wall times, by rising step.

    Raises:
        NotFound: if the run does not exist, or nothing in it was written by a writer that can be read.
        OSError: if a file of it cannot be read.

    Example:
        >>> steps, values, wall_times = keepfast.read_metrics("runs/my_run")["Loss / Policy loss"]  # doctest: +SKIP
    """
    path = path_of(run)
    if not path.exists():
        raise NotFound(f"there is no run at `{path}`")
    kinds = _sources(path)
    if not kinds:
        raise NotFound(f"`{path}` holds no metrics; looked for {', '.join(pattern for pattern, _ in _READERS)}")
    found: dict[str, list[list[_Point]]] = {}
    for read, files in kinds:
        for tag, points in read(files).items():
            if points:
                found.setdefault(tag, []).append(points)
    return Metrics({tag: _series(_merged(sources)) for tag, sources in sorted(found.items())})


Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A pattern as `glob.glob` takes it, a path, or several of them."""


@guarded
def iter_metrics(pattern: Patterns, tags: Wanted | Iterable[Wanted] | None = None) -> Iterator[tuple[Path, Metrics]]:
    """Yield the scalars of every run that a pattern matches, one run at a time.

    A tag that no run has is told, in a warning, once all were gone through.

    Args:
        pattern: a glob pattern of run directories, ``"runs/*"`` for example, or of files in them,
            ``"runs/*/*tfevents*"``; ``**`` goes down any number of levels. Or a path, or a list of both, which are gone
            through in its order.
        tags: the tags wanted, or the one; all if None. Each may be a regular expression, which need not match the whole
            of a tag: ``"Loss / .*"``. A run that has none of them is passed over.

    Yields:
        Each run's directory, or each file, and what `read_metrics` returns of it.

    Raises:
        NotFound: if the pattern matches no run with metrics.
        OSError: if a file of a run cannot be read.
    """
    is_one = isinstance(pattern, str | bytes | os.PathLike)
    patterns = [pattern] if is_one else listed("pattern", pattern, "text, a path, or a list of these")
    wanted = None if tags is None else WantedTags(_several(tags))
    for path in dict.fromkeys(chain.from_iterable(map(_runs, patterns))):
        found = read_metrics(path)
        chosen = found if wanted is None else Metrics({tag: found[tag] for tag in wanted.among(found)})
        if chosen:
            yield path, chosen
    if wanted is not None:
        wanted.tell()


def _several(tags: Wanted | Iterable[Wanted]) -> list[Wanted]:
    return [tags] if isinstance(tags, str | re.Pattern) else listed("tags", tags, "tags, or None")


def _runs(pattern: str | os.PathLike[str]) -> list[Path]:
    """Return the runs that a pattern matches, and the files of metrics that it matches by themselves."""
    text = str(path_of(pattern))
    found = [text] if Path(text).exists() else glob.glob(text, recursive=True)  # noqa: PTH207  (absolute ones)
    matches = [path for path in sorted(map(Path, found)) if _sources(path)]
    if not matches:
        raise NotFound(f"no run with metrics matches `{pattern}`")
    directories = {path for path in matches if path.is_dir()}
    return [path for path in matches if path in directories or directories.isdisjoint(path.parents)]


def has_metrics(path: Path) -> bool:
    """Say whether a run's directory, or a file, is one that metrics can be read from."""
    return path.exists() and bool(_sources(path))


def has_entries(path: Path) -> bool:
    """Say whether what writers keep in a run's directory is more than what their files begin with.

    A file that cannot be read is taken to be.
    """
    return any(_is_begun(file) for _, files in _sources(path) for file in files)


def _is_begun(file: Path) -> bool:
    try:
        if "tfevents" in file.name:
            return has_summaries(file)
        with file.open("rb") as opened:
            return any(not line.startswith(b"step,wall_time,") for line in opened)
    except OSError:
        return True


def _sources(path: Path) -> list[tuple[Callable[[list[Path]], _Points], list[Path]]]:
    candidates = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    found = []
    for pattern, read in _READERS:
        files = [file for file in candidates if file.match(pattern) and file.is_file()]
        if files:
            found.append((read, files))
    return found


def _merged(sources: list[list[_Point]]) -> list[_Point]:
    """Return a tag's points: all of the fullest source's, and of the others' those at steps that are still missing."""
    if len(sources) == 1:
        return sources[0]
    merged: list[_Point] = []
    known: set[int] = set()
    for points in sorted(sources, key=len, reverse=True):  # a stable order: of equals, the more exact stays first
        merged += [point for point in points if point[0] not in known]
        known.update(step for step, _, _ in points)
    return merged


def _series(points: list[_Point]) -> Series:
    ordered = sorted(points, key=lambda point: point[0])
    steps, values, wall_times = zip(*ordered, strict=True)
    return Series(np.array(steps, np.int64), np.array(values, np.float64), np.array(wall_times, np.float64))


def _read_event_files(files: list[Path]) -> _Points:
    sessions = [list(read_events(file)) for file in files]
    points: _Points = {}
    for events in sorted(filter(None, sessions), key=lambda events: events[0].wall_time):
        for event in events:
            if event.starts_session:
                _purge(points, event.step)
            _add(points, event.scalars, event.step, event.wall_time)
    return points


def _purge(points: _Points, step: int) -> None:
    for tag, known in points.items():
        points[tag] = [point for point in known if point[0] < step]


def _add(points: _Points, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
    for tag, value in scalars.items():
        points.setdefault(tag, []).append((step, value, wall_time))


def _read_lines(files: list[Path], parse: Callable[[str], list[tuple[str, _Point]]]) -> _Points:
    points: _Points = {}
    for file in files:
        bad = 0
        with file.open(encoding="utf-8", errors="replace", newline="\n") as opened:
            for line in opened:
                try:
                    parsed = parse(line)
                except _NO_METRICS:
                    bad += line.endswith("\n")  # a last line that a kill tore, or that is being written, is no news
                    continue
                for tag, point in parsed:
                    points.setdefault(tag, []).append(point)
        if bad:
            warn(f"lines of `{file}` that are no metrics were passed over: {bad}")
    return points


def _parse_jsonl(line: str) -> list[tuple[str, _Point]]:
    if line.isspace():
        return []
    entry = json.loads(line)
    step, wall_time = _step(entry["step"]), float(entry["wall_time"])
    return [(tag, (step, float(value), wall_time)) for tag, value in entry.get("scalars", {}).items()]


def _parse_csv(line: str) -> list[tuple[str, _Point]]:
    if not line.endswith("\n") or line.isspace() or line.startswith("step,wall_time,"):
        return []  # without its end, the number at the end of a row may lack digits
    step, wall_time, tag, value = next(csv.reader([line]))
    return [(tag, (_step(step), float(value), float(wall_time)))]


def _step(value: str | float) -> int:
    step = int(value)
    if not -(2**63) <= step < 2**63:
        raise OverflowError(f"{step} is no step of 64 bits")
    return step


def _read_jsonl(files: list[Path]) -> _Points:
    return _read_lines(files, _parse_jsonl)


def _read_csv(files: list[Path]) -> _Points:
    return _read_lines(files, _parse_csv)


# From the most to the least exact.
_READERS: tuple[tuple[str, Callable[[list[Path]], _Points]], ...] = (
    ("metrics*.jsonl", _read_jsonl),
    ("metrics*.csv", _read_csv),
    ("*tfevents*", _read_event_files),
)
