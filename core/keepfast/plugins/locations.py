"""Paths that name a place elsewhere, such as ``hf://org/name/agent.pt``, as files on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from keepfast._system.disk.directories import path_of, taken
from keepfast._system.remote.addresses import address_of
from keepfast._system.remote.spool import claim
from keepfast.errors import InvalidValue
from keepfast.plugins.discovery import registry
from keepfast.plugins.lazy import lazy

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)
"""A scheme of at least two letters, so that no drive is taken for one; `pathlib` makes one slash of two."""

_copy_at = lazy("keepfast.runs.uploading.layout:copy_at")


def located(path: str | os.PathLike[str], *, metrics: bool = True) -> Path:
    """Return a path as it is, or, for an address, the file that it was fetched to, or the directory that is a copy.

    Args:
        path: a path, an address of a scheme that a plugin knows, or one on an object store.
        metrics: whether of a run also what is of no checkpoint is wanted.

    Raises:
        InvalidValue: if it is no path, or one that no file can have.
        MissingDependency: if the scheme needs a package that is not installed; says what to run.
        KeepfastError: if it cannot be fetched; says why and what to do.
    """
    file = path_of(path)
    if (address := address_of(file)) is not None:
        copy: Path = _copy_at(address, metrics=metrics)
        return copy
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
    if (address := address_of(file)) is not None:
        raise InvalidValue(
            f"`{address}` is on an object store, where runs are kept (`directory` of an experiment); write to a file "
            "on this machine, and copy it there"
        )
    if (found := _address(file)) is not None:
        raise InvalidValue(
            f"`{found[1]}://{found[2]}` is no place on this machine, and nothing is written there; write to a file, "
            "and push it: `keepfast.hub.push`, `keepfast hub push`"
        )
    return file


def kept_in(path: str | os.PathLike[str]) -> Path:
    """Return the directory on this machine that runs are written in, which for one of an object store is its spool.

    Raises:
        InvalidValue: if it is no path, or an address that nothing can be written to.
    """
    address = address_of(path_of(path))
    return taken(writable(path)) if address is None else claim(address)


def _address(file: Path) -> re.Match[str] | None:
    """Return scheme and place of an address, or None for a path."""
    found = _ADDRESS.fullmatch(os.fspath(file))
    return found if found is not None and found[1] in registry().names("location") else None
