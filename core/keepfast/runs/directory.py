"""The directory of one run, and the configuration stored in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import commit
from keepfast._system.disk.directories import make_directory
from keepfast._system.warnings import warn
from keepfast._version import __version__
from keepfast.codec import plain
from keepfast.config import ExperimentConfig
from keepfast.errors import DirectoryError, WriteFailed
from keepfast.runs.processes.ownership import Ownership

CONFIG = "config.json"
DEFAULT_DIRECTORY = "runs"
_TIME_FORMAT = "%y-%m-%d_%H-%M-%S-%f"


def run_directory(config: ExperimentConfig, agent: str) -> Path:
    """Return the directory that a configuration names, by date, time and agent where it names none; makes nothing."""
    name = config.experiment_name or f"{dt.datetime.now().astimezone():{_TIME_FORMAT}}_{agent}"
    return Path(config.directory or DEFAULT_DIRECTORY).absolute() / name


def open_run_directory(directory: Path, agent: str, timesteps: int | None, config: Mapping[str, Any]) -> None:
    """Make a run's directory and store its configuration there.

    Raises:
        DirectoryError: if that cannot be done; names the directory and the cause.
    """
    document = {
        "agent": agent,
        "timesteps": timesteps,
        "config": plain(config),
        "versions": {"keepfast": __version__, "python": platform.python_version(), "platform": sys.platform},
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    try:
        make_directory(directory)
        commit(directory / CONFIG, lambda file: file.write(text.encode()))
    except (OSError, WriteFailed) as error:
        raise _unusable(directory, error) from error


def take_run_directory(ownership: Ownership) -> None:
    """Make a run's directory where it is not there yet, and become its owner.

    Raises:
        DirectoryError: if that cannot be done, or another owns it; names the directory and the cause.
    """
    try:
        ownership.directory.mkdir(parents=True, exist_ok=True)
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

    def remove_unless_used(self) -> None:
        """Remove it, unless it holds a file that its start did not make, or one that has grown."""
        if not _sizes(self._directory).items() <= self._sizes.items():
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
