"""Paths that name a place elsewhere, such as ``hf://org/name/agent.pt``, as files on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from keepfast._system.disk.directories import path_of
from keepfast.errors import InvalidValue
from keepfast.plugins.discovery import registry

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)
"""A scheme of at least two letters, so that no drive is taken for one; `pathlib` makes one slash of two."""


def located(path: str | os.PathLike[str]) -> Path:
    """Return a path as it is, or, for an address of a scheme that a plugin knows, the file that it was fetched to.

    Raises:
        InvalidValue: if it is no path, or one that no file can have.
        MissingDependency: if the scheme needs a package that is not installed; says what to run.
        KeepfastError: if it cannot be fetched; says why and what to do.
    """
    file = path_of(path)
    if (found := _address(file)) is None or file.exists():
        return file
    fetched: Path = registry().get("location", found[1])(found[2])
    return fetched


def writable(path: str | os.PathLike[str]) -> Path:
    """Return a path to write to, which is one on this machine.

    Raises:
        InvalidValue: if it is no path, or an address of a scheme that a plugin knows.
    """
    file = path_of(path)
    if (found := _address(file)) is not None:
        raise InvalidValue(
            f"`{found[1]}://{found[2]}` is no place on this machine, and nothing is written there; write to a file, "
            "and push it: `keepfast.hub.push`, `keepfast hub push`"
        )
    return file


def _address(file: Path) -> re.Match[str] | None:
    """Return scheme and place of an address, or None for a path."""
    found = _ADDRESS.fullmatch(os.fspath(file))
    return found if found is not None and found[1] in registry().names("location") else None
