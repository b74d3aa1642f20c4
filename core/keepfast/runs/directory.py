"""The directory of one run, and the configuration stored in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import commit_own
from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.directories import make_directory
from keepfast._system.disk.special import content_of
from keepfast._system.lifetimes import in_child
from keepfast._system.warnings import warn
from keepfast._version import __version__
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.codec import plain
from keepfast.config import ExperimentConfig, masked
from keepfast.errors import DirectoryError, InvalidValue, WriteFailed, as_given
from keepfast.plugins.locations import kept_in
from keepfast.provenance.ending import killed
from keepfast.provenance.starts import ENDED, PROVENANCE, bounded, shortened, whole
from keepfast.runs.processes.origin import this_process
from keepfast.runs.processes.ownership import LOCK, Ownership
from keepfast.tree import require_short_paths

CONFIG = "config.json"
DEFAULT_DIRECTORY = "runs"
_LONGEST = 255
"""How many bytes the name of a directory may have."""

_TIME_FORMAT = "%y-%m-%d_%H-%M-%S-%f"


def run_directory(config: ExperimentConfig, agent: str) -> Path:
    """Return the directory that a configuration names, by date, time and agent where it names none; makes nothing.

    Raises:
        InvalidValue: if there can be no directory of that name; says why.
    """
    if not isinstance(agent, str):
        raise InvalidValue(f"`name` is {as_given(agent)} ({type(agent).__qualname__}); allowed: text")
    name = config.experiment_name or f"{dt.datetime.now().astimezone():{_TIME_FORMAT}}_{agent}"
    if reason := _unfit(name):
        setting = "experiment_name" if config.experiment_name else "name"
        raise InvalidValue(
            f"`{setting}` is {config.experiment_name or agent!r:.100}, which names no directory: {reason}; allowed: "
            f"names of up to {_LONGEST} bytes, with `/` between them"
        )
    if "\0" in config.directory:
        raise InvalidValue(f"`directory` is {config.directory!r:.100}, which names no directory: it holds NUL")
    return kept_in(config.directory or DEFAULT_DIRECTORY) / name


def _unfit(name: str) -> str:
    """Return why there can be no directory of a name, "" where there can."""
    parts = name.split("/")
    if "\0" in name:
        return "it holds NUL"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "it holds half of a character, which no file system can name"
    if odd := next((part for part in parts if part in ("", ".", "..")), None):
        return f'a part of it is "{odd}"'
    if "" in parts:
        return "a part of it is empty"
    if long := next((part for part in parts if len(os.fsencode(part)) > _LONGEST), None):
        return f"a part of it has {len(os.fsencode(long))} bytes"
    return ""


@final
class ConfigFile:
    """The ``config.json`` of a run's directory: the configuration of the latest start, and what each start changed.

    ``"starts"`` lists the starts, the first one first: when it was, with which versions and length, and, where it was
    not that of the start before, its configuration and each value that changed, as before and after.

    A start says of itself also where it comes from and how it ended (see `keepfast.provenance`). The start that follows
    one which left without a word tells of it that it was killed.

    Args:
        directory: the run's directory.
        about: returns what else there is to tell of this start, as it is known then.
    """

    def __init__(self, directory: Path, about: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._directory, self._about = directory, about
        self._time = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._earlier: list[dict[str, Any]] | None = None
        self._before: dict[str, Any] = {}
        self._document: dict[str, Any] = {}
        self._text = ""
        self._told: Mapping[str, Any] | None = None
        self._renew_lock()
        in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def store(self, agent: str, timesteps: int | None, config: Mapping[str, Any]) -> None:
        """Make the directory and store the configuration of this start there, its secrets masked.

        Raises:
            DirectoryError: if that cannot be done; names the directory and the cause.
            ConfigError: if the configuration contains itself; names the path of the key.
        """
        with self._lock:
            self._document = {
                "agent": agent,
                "timesteps": timesteps,
                "config": plain(masked(config)),
                "versions": {"keepfast": __version__, "python": platform.python_version(), "platform": sys.platform},
            }
            with within_memory(self._directory / CONFIG):
                if self._earlier is None:
                    starts, self._before = _starts(self._directory / CONFIG)
                    self._earlier = bounded([*starts[:-1], *(_noticed(last, self._directory) for last in starts[-1:])])
                self._told = self._about()
                self._text = self._written()
            self.restore()

    def _written(self) -> str:
        earlier = self._earlier or []
        known = whole(earlier)[-1][PROVENANCE] if earlier else {}
        start = {**_start(self._time, self._document, self._before), **plain(self._told or {})}
        if PROVENANCE in start:
            start[PROVENANCE] = shortened(start[PROVENANCE], known)
        return json.dumps({**self._document, "starts": [*earlier, start]}, indent=2, allow_nan=False)

    def refresh(self) -> None:
        """Write the file again where there is something new to tell of this start, and the file is there.

        Where the system refuses that, the file stays as it is until the next time.
        """
        with self._lock, contextlib.suppress(OSError, WriteFailed):
            if not self._text or not (self._directory / CONFIG).exists() or (told := self._about()) == self._told:
                return
            before, self._told = self._told, told
            try:
                text = self._written()
                if text != self._text:
                    commit_own(self._directory / CONFIG, lambda file: file.write(text.encode()))
                self._text = text
            except BaseException:
                self._told = before  # so that it is tried the next time
                raise

    def forget(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self._text = ""

    def mend(self) -> bool:
        """Write what was stored last once more where it is gone, and say whether it was.

        Raises:
            DirectoryError: as `store`.
        """
        with self._lock:
            if not self._text or (self._directory / CONFIG).exists():
                return False
            self.restore()
            return True

    def restore(self) -> None:
        """Write what was stored last once more.

        Raises:
            DirectoryError: as `store`.
        """
        try:
            make_directory(self._directory)
            commit_own(self._directory / CONFIG, lambda file: file.write(self._text.encode()))
        except (OSError, WriteFailed) as error:
            raise _unusable(self._directory, error) from error


def _noticed(start: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return an earlier start with how it ended, where it left without a word."""
    if ENDED not in start or start[ENDED] is not None:  # one of a version that kept no end says nothing
        return dict(start)
    own = start.get("process") == this_process()
    return {**start, ENDED: killed(last_sign(directory), in_own_process=own)}


def last_sign(directory: Path) -> float | None:
    """Return when a run last wrote anything, in seconds since the epoch."""
    times = []
    for place in (directory, directory / CHECKPOINTS):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.name != LOCK:  # which this start has signed
                        times.append(entry.stat(follow_symlinks=False).st_mtime)
    return max(times, default=None)


def _start(time: str, document: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a start, given its document and the configuration of the one before."""
    start = {"time": time, "timesteps": document["timesteps"], "versions": document["versions"]}
    if not before:
        return {**start, "config": document["config"]}
    then, now = dict(leaves(before)), dict(leaves(document["config"]))
    changed = {path: [then.get(path), now.get(path)] for path in {**then, **now} if then.get(path) != now.get(path)}
    return {**start, "config": document["config"], "changed": changed} if changed else start


LONGEST_PATHS = 1 << 24
"""How many characters the paths of all settings may have together; a key in a key in a key makes any number of them."""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of all that is no mapping."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, child in value.items():
        yield from leaves(child, f"{path}.{key}" if path else str(key))


def _starts(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the starts that a file tells of, with the last configuration; none where it is not there or not ours."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return [], {}
        document = json.loads(content_of(path).decode())
        config = dict(document["config"])
        require_short_paths(config, LONGEST_PATHS)
        starts = document.get("starts")
        if starts is None:  # of a version that kept the latest alone
            time = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
            starts = [_start(time, {"versions": {}, "timesteps": None, **document}, {})]
        kept = plain([dict(start) for start in starts])
        json.dumps([[[kept]]], indent=2)  # refuses what is in itself too deep to be written again
        return kept, plain(config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [], {}


def take_run_directory(ownership: Ownership) -> None:
    """Make a run's directory where it is not there yet, and become its owner.

    Raises:
        DirectoryError: if that cannot be done, or another owns it; names the directory and the cause.
    """
    try:
        make_directory(ownership.directory)
        ownership.take()
    except DirectoryError:
        raise
    except OSError as error:
        raise _unusable(ownership.directory, error) from error


def leave_run_directory(ownership: Ownership, *, begun: bool) -> None:
    """Give up a run's directory, and remove what was made there for a run that another process writes.

    Args:
        ownership: the lock of the directory.
        begun: whether there was a run before, whose configuration stays.
    """
    directory = ownership.directory
    if not begun:
        (directory / CONFIG).unlink(missing_ok=True)
    ownership.release()
    with contextlib.suppress(OSError):  # it holds something, or is not there
        directory.rmdir()


def _unusable(directory: Path, error: OSError) -> DirectoryError:
    cause = error.__cause__ if isinstance(error, WriteFailed) else error
    reason = getattr(cause, "strerror", None) or str(cause)
    return DirectoryError(
        f"cannot use `{directory}` as the experiment's directory: {reason}; set `directory` and "
        "`experiment_name` to a place that can be written in"
    )


@final
class NewDirectory:
    """A run's directory as its start made it, which can be removed again as long as nothing came into it since.

    Args:
        directory: the run's directory, which was not there before.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes = _sizes(directory)

    @property
    def is_unused(self) -> bool:
        """Say whether it holds no file that its start did not make, and none that has grown."""
        return _sizes(self._directory).items() <= self._sizes.items()

    def remove_unless_used(self) -> None:
        """Remove it, unless it is used."""
        if not self.is_unused:
            return
        try:
            shutil.rmtree(self._directory)
        except OSError as error:
            warn(f"`{self._directory}`, in which nothing was kept, could not be removed: {error.strerror}")


def _sizes(directory: Path) -> dict[Path, int]:
    """Return the size of every file below a directory; the configuration's is none, since a start may tell it twice."""
    files = [path for path in directory.rglob("*") if not path.is_dir()]
    return {path: 0 if path.name == CONFIG else path.lstat().st_size for path in files}


@final
class EarlierRun:
    """What an earlier run left in a run's directory, until the run goes on from it or starts among it.

    Args:
        directory: the run's directory.
        begun: whether a run began there before.
        left: the kinds of what it left: ``"checkpoints"``, ``"metrics"``.
    """

    def __init__(self, directory: Path, *, begun: bool = False, left: Sequence[str] = ()) -> None:
        self.begun = begun
        self._directory, self._left = directory, tuple(left)

    @property
    def is_nothing(self) -> bool:
        """Say whether no run was there before, so that there is nothing to resume."""
        return not self.begun and not self._left

    def taken_over(self) -> None:
        """Be told that the run went on from it, so that what it left is the run's own."""
        self._left = ()

    def warn(self) -> None:
        """Warn, once, that a run that was not resumed starts among what it left."""
        left, self._left = self._left, ()
        if left:
            warn(
                f"`{self._directory}` holds the {' and '.join(left)} of an earlier run, which was not resumed; this "
                "run adds its own to them, in the same files. `resume()` goes on from the latest checkpoint, or anew "
                "where there is none; another `experiment_name` starts apart"
            )
