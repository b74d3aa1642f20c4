"""Paths that name a place elsewhere, such as ``hf://org/name/agent.pt``, as files on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from keepfast.plugins.discovery import registry

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)
"""A scheme of at least two letters, so that no drive is taken for one; `pathlib` makes one slash of two."""


def located(path: str | os.PathLike[str]) -> Path:
    """Return a path as it is, or, for an address of a scheme that a plugin knows, the file that it was fetched to.

    Raises:
        MissingDependency: if the scheme needs a package that is not installed; says what to run.
        KeepfastError: if it cannot be fetched; says why and what to do.
    """
    text = os.fspath(path)
    found = _ADDRESS.fullmatch(text)
    if found is None or Path(text).exists() or found[1] not in registry().names("location"):
        return Path(path)
    fetched: Path = registry().get("location", found[1])(found[2])
    return fetched
