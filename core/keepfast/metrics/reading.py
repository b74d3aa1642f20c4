"""Reads back what writers kept of a run: event files, jsonl or csv, without any library for them."""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase, translate
from itertools import chain
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.checks import listed
from keepfast._system.arguments.guarding import guarded
from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.special import is_plain_file
from keepfast._system.warnings import warn
from keepfast.errors import NotFound
from keepfast.metrics.events import has_summaries, read_events
from keepfast.metrics.frames import Metrics, Series
from keepfast.metrics.wanted import Wanted, WantedTags
from keepfast.plugins.locations import located

_Point = tuple[int, float, float]
_Tags = dict[str, Series]

_NEVER = 2**63 - 1
"""A step before which every other one lies."""

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
        run: a run's directory, or one file in it; a file on a hub too, by its address.

    Returns:
        Each tag with its steps, values and wall times, by rising step.

    Raises:
        NotFound: if the run does not exist, or nothing in it was written by a writer that can be read.
        OSError: if a file of it cannot be read.

    Example:
        >>> steps, values, wall_times = keepfast.read_metrics("runs/my_run")["Loss / Policy loss"]  # doctest: +SKIP
    """
    path = located(run)
    if not path.exists():
        raise NotFound(f"there is no run at `{path}`")
    kinds = _sources(path)
    if not kinds:
        raise NotFound(f"`{path}` holds no metrics; looked for {', '.join(pattern for pattern, _ in _READERS)}")
    found: dict[str, list[Series]] = {}
    with within_memory(path):
        for read, files in kinds:
            for tag, series in read(files).items():
                if len(series.steps):
                    found.setdefault(tag, []).append(series)
        return Metrics({tag: _merged(sources) for tag, sources in sorted(found.items())})


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
    text = str(located(pattern))
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


def _sources(path: Path) -> list[tuple[Callable[[list[Path]], _Tags], list[Path]]]:
    inside = path.iterdir() if path.is_dir() else ()  # ten thousand, where runs lie in it
    candidates = [path] if path.is_file() else sorted(each for each in inside if _is_read(each.name))
    found = []
    for pattern, read in _READERS:
        files = [file for file in candidates if fnmatchcase(file.name, pattern) and is_plain_file(file)]
        if files:
            found.append((read, files))
    return found


def _merged(sources: list[Series]) -> Series:
    """Return a tag's points by step: all of the fullest source, and of the others' those at steps still missing."""
    chosen: list[Series] = []
    for source in sorted(sources, key=lambda source: len(source.steps), reverse=True):
        # a stable order: of equals, the more exact stays first
        missing = np.ones(len(source.steps), bool)
        for other in chosen:
            missing &= ~np.isin(source.steps, other.steps)
        chosen.append(_chosen(source, missing))
    joined = Series(*map(np.concatenate, zip(*chosen, strict=True))) if len(chosen) > 1 else chosen[0]
    return _chosen(joined, np.argsort(joined.steps, kind="stable"))


def _chosen(series: Series, which: NDArray[Any]) -> Series:
    return Series(series.steps[which], series.values[which], series.wall_times[which])


@final
class _Points:
    """The points of a tag in the order in which they were written, each 32 bytes."""

    __slots__ = ("sessions", "steps", "values", "wall_times")

    def __init__(self) -> None:
        self.steps, self.values, self.wall_times, self.sessions = array("q"), array("d"), array("d"), array("q")

    def add(self, step: int, value: float, wall_time: float, session: int = 0) -> None:
        self.steps.append(step)
        self.values.append(value)
        self.wall_times.append(wall_time)
        self.sessions.append(session)

    def series(self) -> Series:
        return Series(np.array(self.steps), np.array(self.values), np.array(self.wall_times))


def _read_event_files(files: list[Path]) -> _Tags:
    """Return what event files hold; what a later session begins before is void."""
    points, starts = defaultdict[str, _Points](_Points), list[int]()
    times = {file: event.wall_time for file in files if (event := next(read_events(file), None)) is not None}
    for file in sorted(times, key=times.__getitem__):
        for event in read_events(file):
            if event.starts_session:
                starts.append(event.step)
            for tag, value in event.scalars.items():
                points[tag].add(event.step, value, event.wall_time, len(starts))
    # By the number of a session: the earliest step that it or a later one starts at.
    limits = np.minimum.accumulate(np.array([_NEVER, *reversed(starts)], np.int64))[::-1]
    found = {}
    for tag, each in points.items():
        series = each.series()
        limit = limits[np.array(each.sessions)]
        found[tag] = _chosen(series, (series.steps < limit) | (limit == _NEVER))
    return found


def _read_lines(files: list[Path], parse: Callable[[str], list[tuple[str, _Point]]]) -> _Tags:
    points = defaultdict[str, _Points](_Points)
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
                    points[tag].add(*point)
        if bad:
            warn(f"lines of `{file}` that are no metrics were passed over: {bad}")
    return {tag: each.series() for tag, each in points.items()}


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


def _read_jsonl(files: list[Path]) -> _Tags:
    return _read_lines(files, _parse_jsonl)


def _read_csv(files: list[Path]) -> _Tags:
    return _read_lines(files, _parse_csv)


# From the most to the least exact.
_READERS: tuple[tuple[str, Callable[[list[Path]], _Tags]], ...] = (
    ("metrics*.jsonl", _read_jsonl),
    ("metrics*.csv", _read_csv),
    ("*tfevents*", _read_event_files),
)
"""By the pattern of files' names: what reads them."""

_is_read = re.compile("|".join(translate(pattern) for pattern, _ in _READERS)).match
