"""Directories that are sealed as those which several processes wrote, and mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keepfast.interfaces.sharding.seal import SEAL, digest_of, names_in, write_seal

DOORS = ("checkpoint", "load", "inspect")
"""Where such a directory is brought to, by names of `tests.hostile.doors`."""

Change = Callable[[Path, dict[str, Any]], None]


def resealed(directory: Path, change: Change, shape: tuple[int, ...]) -> Path:
    """Return a directory once it is changed, sealed by whoever did that.

    Args:
        directory: an honest one, of an array.
        change: changes files in it, and what its seal says, which it is given.
        shape: what the seal says of the array's shape.
    """
    document = json.loads((directory / SEAL).read_bytes()[:-10])
    document["state"] = {"dict": [["weight", {"array": ["weight", "float32", list(shape)]}]]}
    document["metadata"] = {"dict": [["timestep", 5], ["module", "policy"]]}
    change(directory, document)
    names = [name for name in names_in(directory) if not (directory / name).is_fifo()]
    write_seal(directory, {**document, "files": {name: digest_of(directory / name) for name in names}})
    return directory


def wrong(became: dict[str, str]) -> dict[str, str]:
    """Return what became of those that are not refused in our words, by name."""
    fine = ("CorruptCheckpoint", "OutOfMemory")
    return {
        name: what
        for name, what in became.items()
        if not (what.startswith(fine) or (name.endswith(": inspect") and what == "value"))
    }
