"""Where runs of object stores lie on this machine until they are uploaded, and copies of what was read there.

``KEEPFAST_SPOOL`` names the directory; else it is ``keepfast/spool`` in XDG_STATE_HOME, or in ``~/.local/state``.
``KEEPFAST_SPOOL_BYTES`` says how much may lie there of what the store has too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keepfast._system.disk.directories import make_directory
from keepfast._system.disk.special import require_file
from keepfast._system.remote.addresses import Address, address_of, is_below
from keepfast._system.remote.record import Record, place
from keepfast.errors import RemoteError, shown

_ADDRESS = ".address"
_COPIES = "copies"
_LONGEST_ADDRESS = 1 << 14
_GIGABYTES_16 = 16 << 30
_RESTING_SECONDS = 3600.0
"""What was used so short a time ago is not removed."""


def spool() -> Path:
    """Return the directory of all of it."""
    if told := os.environ.get("KEEPFAST_SPOOL"):
        return Path(told).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  (never raises)
    return Path(state, "keepfast", "spool").absolute()


def directory_of(address: Address, *, copy: bool = False) -> Path:
    """Return the directory that stands for an address on this machine; makes nothing."""
    text = str(address)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[-40:].lstrip("-")
    name = f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return spool() / _COPIES / name if copy else spool() / name


def claim(address: Address) -> Path:
    """Return the directory that stands for an address on this machine, made and marked as that."""
    directory = directory_of(address)
    if not (directory / _ADDRESS).exists():
        make_directory(directory)
        (directory / _ADDRESS).write_text(str(address), encoding="utf-8")
    return directory


def within(path: Path) -> Path:
    """Return a path that something is about to be written at.

    Raises:
        RemoteError: if it leads out of the spool.
    """
    if ".." in path.parts or spool() not in path.parents:
        raise RemoteError(f"{shown(path)} leads out of `{spool()}`; nothing is written there")
    return path


def address_at(path: Path) -> Address | None:
    """Return the address that a directory in the spool stands for, or None for any other."""
    root = spool()
    if root not in path.parents:
        return None
    first, *rest = path.relative_to(root).parts
    with contextlib.suppress(OSError, ValueError):
        require_file(marked := root / first / _ADDRESS)
        with marked.open("rb") as file:
            told = file.read(_LONGEST_ADDRESS).decode()
        if address := address_of(told):
            return address / "/".join(rest) if rest else address
    return None


def kept() -> Iterator[tuple[Path, Record]]:
    """Yield the directories of runs in the spool, and those of copies, with what is known of each."""
    for record in sorted(spool().rglob(".*.remote/record.json")):
        name = record.parent.name.removeprefix(".").removesuffix(".remote")
        if is_below(name):  # of a run, and not what all lie in
            yield (directory := record.parent.with_name(name)), Record.of(directory)


def clean(is_in_use: Callable[[Path], bool]) -> None:
    """Remove what was not used for longest and the store has too, as far as there is more than may lie there.

    Args:
        is_in_use: says of a run's directory whether somebody writes there.
    """
    most = _most()
    found = []
    with contextlib.suppress(OSError):
        for directory, record in kept():
            used = max(_changed(directory), _changed(place(directory)))
            found.append((used, directory, _size(directory), record.is_complete))
    total = sum(size for _, _, size, _ in found)
    for used, directory, size, is_complete in sorted(found):
        if total > most and is_complete and time.time() - used > _RESTING_SECONDS and not is_in_use(directory):
            shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(place(directory), ignore_errors=True)
            total -= size


def _most() -> int:
    told = os.environ.get("KEEPFAST_SPOOL_BYTES", "")
    return int(told) if told.isdecimal() else _GIGABYTES_16


def _changed(directory: Path) -> float:
    with contextlib.suppress(OSError):
        return directory.stat().st_mtime
    return 0.0


def _size(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.lstat().st_size
    return size
