"""The runs below a directory, from an index that is made again wherever a run's files changed.

The index is a file of lines, each of one run: what is listed, then its settings and its latest values, which are read
only where somebody asks for them. Nothing depends on it: it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import commit_own
from keepfast._system.disk.special import content_of
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.codec import plain
from keepfast.errors import KeepfastError
from keepfast.runs.directory import CONFIG
from keepfast.runs.listing.tagging import Label
from keepfast.runs.reading import Latest, Run, is_run, read_run, status_of

INDEX = ".keepfast.runs"
"""The name of the index, in the directory that the runs lie in."""

_HEAD = '{"keepfast.runs": 1}'
"""The first line, with the version of the layout."""

_FEWEST = 20
"""So many runs are read as quickly without an index."""

_LARGEST = 1 << 30
"""A longer index is not looked at."""

_SETTLED_SECONDS = 2.0
"""A file that was written so short a time before it was read may have changed within the resolution of its time."""

_DIGITS = re.compile(r"([0-9]{1,18})")
"""What names are sorted by as numbers; at odd places of what it splits."""

_LOOKED_AT = 1000
"""How many files of a run are looked at for a change."""

Problem = Callable[[Path, Exception], None]


@final
class _Later(Mapping[str, Any]):
    """A mapping that is read from JSON once somebody asks.

    Args:
        text: the JSON.
        of: makes each value.
    """

    def __init__(self, text: str, of: Callable[[Any], Any]) -> None:
        self._text, self._of = text, of
        self._read: dict[str, Any] | None = None

    def _known(self) -> dict[str, Any]:
        if self._read is None:
            try:
                self._read = {key: self._of(value) for key, value in json.loads(self._text).items()}
            except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
                self._read = {}
        return self._read

    def __getitem__(self, key: str) -> Any:
        return self._known()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())


def list_runs(directory: Path, on_problem: Problem, *, rebuild: bool = False) -> list[Run]:
    """Return the runs at and below a directory, by name; those that did not change come from the index.

    Args:
        directory: the directory.
        on_problem: called with the path and the error of each directory that cannot be read, which is passed over.
        rebuild: whether to read every run, and make the index again.
    """
    known = {} if rebuild else _read_index(directory)
    lines: dict[str, str] = {}
    runs: list[Run] = []
    for path, name in _places(directory, known, on_problem):
        try:
            run, line = _known_or_read(path, name, known)
        except Exception as error:  # noqa: BLE001  (whatever a folder holds, the others are listed; this is told)
            on_problem(path, error)
            continue
        runs.append(run)
        lines[name] = line
    if len(lines) >= _FEWEST and lines != {name: line for name, (line, _) in known.items()}:
        _write_index(directory, lines)
    return runs


def _places(root: Path, known: Mapping[str, Any], on_problem: Problem) -> Iterator[tuple[Path, str]]:
    """Yield the path and the name below the root of every run, in the order of their names."""
    waiting = [""]
    while waiting:
        name = waiting.pop()
        path = root / name if name else root
        is_above = not name and bool(known) and name not in known and not (path / CONFIG).exists()
        if (name and name in known) or (not is_above and _is_run(path, on_problem)):
            yield path, name
        else:
            below = _directories(path, on_problem)
            waiting += [os.path.join(name, each) for each in reversed(below)]  # noqa: PTH118  (ten thousand times)


def _is_run(path: Path, on_problem: Problem) -> bool:
    try:
        return is_run(path)
    except OSError as error:
        on_problem(path, error)
        return False


def _directories(path: Path, on_problem: Problem) -> list[str]:
    try:
        with os.scandir(path) as entries:
            found = [each.name for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."]
    except OSError as error:
        on_problem(path, error)
        return []
    return sorted(found, key=name_order)


def name_order(name: str) -> list[int | str]:
    """Return what names are sorted by, numbers in them as numbers."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)]


def _known_or_read(path: Path, name: str, known: Mapping[str, tuple[str, Callable[[Path], Run]]]) -> tuple[Run, str]:
    """Return a run and its line, from the index where no file of it changed."""
    began = time.time()
    signature, newest = _signature(path)
    if name in known:
        line, make = known[name]
        if line[1:17] == signature:
            return make(path), line
    run = read_run(path)
    settled = newest < began - _SETTLED_SECONDS
    return run, line_of(name, run, signature if settled else "-" * 16)


def _signature(path: Path) -> tuple[str, float]:
    """Return what tells of a change of any file of a run, and when the latest was.

    The files of checkpoints are not looked at: each comes and goes by a renaming, which changes the directory.
    """
    found: list[tuple[str, int, int]] = []
    root = str(path)
    waiting = [root]
    while waiting and len(found) < _LOOKED_AT:
        place = waiting.pop()
        status = os.stat(place)  # noqa: PTH116  (ten thousand times)
        found.append((place[len(root) :], status.st_mtime_ns, status.st_size))
        if place.endswith(CHECKPOINTS):
            continue
        try:
            entries = os.scandir(place)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name[0] != ".":
                    about = entry.stat(follow_symlinks=False)
                    found.append((entry.name, about.st_mtime_ns, about.st_size))
    found.sort()
    told = repr(found).encode("utf-8", "surrogateescape")
    newest = max(changed for _, changed, _ in found) / 1e9
    return f"{zlib.crc32(told):08x}{zlib.adler32(told):08x}", newest


def line_of(name: str, run: Run, signature: str) -> str:
    """Return the line of a run, by its name and what tells of a change of its files, 16 characters."""
    label = [run.label.name, list(run.label.tags)]
    about = [run.agent, run.steps, run.timesteps, run.best_metric, run.best_score, run.best_mode, run.changed, run.size]
    status = [run.status, run.error, run.began, run.seconds]
    latest = {tag: [each.step, each.value] for tag, each in run.latest.items()}
    parts = [name, *about, *status, *label], run.settings, latest
    return f'"{signature}"\t' + "\t".join(json.dumps(plain(part), separators=(",", ":")) for part in parts)


def _read_index(directory: Path) -> dict[str, tuple[str, Callable[[Path], Run]]]:
    """Return the line of each run and what makes the run of it; lines that make no sense are passed over."""
    path = directory / INDEX
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        head, *lines = content_of(path).decode("ascii").splitlines()
    except (OSError, ValueError):
        return {}
    return dict(entries_of(lines)) if head == _HEAD else {}


def entries_of(lines: list[str]) -> Iterator[tuple[str, tuple[str, Callable[[Path], Run]]]]:
    """Yield the name of each run, its line and what makes the run of it; lines that make no sense are passed over."""
    for line in lines:
        parts = line.split("\t")
        try:
            if len(parts) == 4 and _makes_sense(about := json.loads(parts[1])):
                yield about[0], (line, _maker(about, parts[2], parts[3]))
        except (ValueError, RecursionError):
            continue


_KINDS: tuple[Any, ...] = (
    str, str | None, int | None, int | None, str, float | int | None, str, float | int, int,
    str, str | None, float | int | None, float | int | None, str, list,
)  # fmt: skip
"""What stands in a line, one after the other."""


_MOST = 1 << 63
"""No whole number in a line is beyond."""


def _makes_sense(about: Any) -> bool:
    if not isinstance(about, list) or len(about) != len(_KINDS):
        return False
    if not all(isinstance(each, kind) for each, kind in zip(about, _KINDS, strict=True)):
        return False
    if any(isinstance(each, int) and not -_MOST <= each <= _MOST for each in about):
        return False
    return all(map(isfinite, filter(None, (about[7], *about[11:13]))))


def _maker(about: list[Any], settings: str, latest: str) -> Callable[[Path], Run]:
    def make(path: Path) -> Run:
        _, agent, steps, timesteps, metric, score, mode, changed, size, status, error, began, seconds, name, tags = (
            about
        )
        if status in ("running", "killed"):
            status = status_of(path, is_told=True)
        return Run(
            path, agent, steps, timesteps, metric, score, _Later(latest, _latest), [], changed, size, mode,
            _Later(settings, lambda value: value), status, error, Label(name, tuple(map(str, tags))), began, seconds,
        )  # fmt: skip

    return make


def _latest(told: Any) -> Latest:
    step, value = told
    return Latest(int(step), float(value))


def _write_index(directory: Path, lines: Mapping[str, str]) -> None:
    """Write the index, which costs nothing but time where it cannot be written."""
    with contextlib.suppress(OSError, KeepfastError):
        commit_own(directory / INDEX, lambda file: file.write(index_text(lines.values())))


def index_text(lines: Iterable[str]) -> bytes:
    """Return the content of an index."""
    return "\n".join([_HEAD, *lines, ""]).encode("ascii")
