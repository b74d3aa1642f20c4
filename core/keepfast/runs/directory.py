"""The directory of one run, and the configuration stored in it."""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keepfast._system.commit import commit
from keepfast._version import __version__
from keepfast.codec import plain
from keepfast.config import ExperimentConfig
from keepfast.errors import DirectoryError, WriteFailed

CONFIG = "config.json"
DEFAULT_DIRECTORY = "runs"
TIME_FORMAT = "%y-%m-%d_%H-%M-%S-%f"


def run_directory(config: ExperimentConfig, agent: str) -> Path:
    """Return the directory that a configuration names, by date, time and agent where it names none; makes nothing."""
    name = config.experiment_name or f"{dt.datetime.now().astimezone():{TIME_FORMAT}}_{agent}"
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
        directory.mkdir(parents=True, exist_ok=True)
        commit(directory / CONFIG, lambda file: file.write(text.encode()))
    except (OSError, WriteFailed) as error:
        cause = error.__cause__ if isinstance(error, WriteFailed) else error
        reason = getattr(cause, "strerror", None) or str(cause)
        raise DirectoryError(
            f"cannot use `{directory}` as the experiment's directory: {reason}; set `directory` and "
            "`experiment_name` to a place that can be written in"
        ) from error
