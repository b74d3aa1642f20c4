"""The directory of one run, and the configuration stored in it."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import commit
from keepfast._system.disk.directories import make_directory, taken
from keepfast._system.warnings import warn
from keepfast._version import __version__
from keepfast.codec import plain
from keepfast.config import ExperimentConfig
from keepfast.errors import DirectoryError, InvalidValue, WriteFailed

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
    name = config.experiment_name or f"{dt.datetime.now().astimezone():{_TIME_FORMAT}}_{agent}"
    if reason := _unfit(name):
        setting = "experiment_name" if config.experiment_name else "name"
        raise InvalidValue(
            f"`{setting}` is {config.experiment_name or agent!r:.100}, which names no directory: {reason}; allowed: "
            f"names of up to {_LONGEST} bytes, with `/` between them"
        )
    if "\0" in config.directory:
        raise InvalidValue(f"`directory` is {config.directory!r:.100}, which names no directory: it holds NUL")
    return taken(config.directory or DEFAULT_DIRECTORY) / name


def _unfit(name: str) -> str:
    """Return why there can be no directory of a name, "" where there can."""
    parts = name.split("/")
    if "\0" in name:
        return "it holds NUL"
    if odd := next((part for part in parts if part in ("", ".", "..")), None):
        return f'a part of it is "{odd}"'
    if "" in parts:
        return "a part of it is empty"
    if long := next((part for part in parts if len(os.fsencode(part)) > _LONGEST), None):
        return f"a part of it has {len(os.fsencode(long))} bytes"
    return ""


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
        cause = error.__cause__ if isinstance(error, WriteFailed) else error
        reason = getattr(cause, "strerror", None) or str(cause)
        raise DirectoryError(
            f"cannot use `{directory}` as the experiment's directory: {reason}; set `directory` and "
            "`experiment_name` to a place that can be written in"
        ) from error


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
