"""Parts of checkpoints that are on an object store and not on this machine yet: known by name, brought when needed."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from keepfast._system.commit import commit_directory
from keepfast._system.disk.checksum import crc32
from keepfast._system.disk.directories import make_directory
from keepfast._system.remote.addresses import address_of, is_below
from keepfast._system.remote.record import Part, Record, run_of
from keepfast._system.remote.store import Store, patiently, told_as_it_is, told_by_name
from keepfast.errors import CorruptFile, NotFound, shown

_CHUNK = 1 << 20
_CRC32 = "crc32:"


def names_elsewhere(directory: Path) -> set[str]:
    """Return the names that a directory of checkpoints has on a store and not here; none for a run of this machine."""
    run = run_of(directory)
    if run is None:
        return set()
    below = f"{directory.relative_to(run).as_posix()}/"
    names = {name.removeprefix(below) for name in Record.of(run).parts if name.startswith(below)}
    return {name for name in names if "/" not in name and not _exists(directory / name)}


def is_there(path: Path) -> bool:
    """Say whether a part of a checkpoint exists, here or on the store."""
    return _exists(path) or path.name in names_elsewhere(path.parent)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (False also for a name that no file can have)


def is_leased(directory: Path) -> bool:
    """Say whether the run that a directory is a copy of had an owner when it was copied, who may live still."""
    return run_of(directory) == directory and Record.of(directory).leased_until > time.time()


def bring(path: Path) -> None:
    """Have a part of a checkpoint here, or all parts below a directory; nothing where there is none on a store.

    Raises:
        RemoteError: if the store refuses or cannot be reached.
        NotFound: if it was removed there meanwhile.
        CorruptFile: if it is not what the index says.
    """
    run = run_of(path)
    if run is None:
        return
    record = Record.of(run)
    name = path.relative_to(run).as_posix()
    wanted = [each for each in record.parts if name in (".", each) or each.startswith(f"{name}/")]
    missing = [each for each in wanted if not _exists(run / each)]
    address = address_of(record.address)
    if not missing or address is None:
        return
    store = Store(address)
    for each in missing:
        with told_by_name(store.address / each):
            patiently(partial(_bring, store, record.parts[each], each, run / each))


def _bring(store: Store, part: Part, name: str, path: Path) -> None:
    make_directory(path.parent)
    try:
        if part.inner is None:
            store.fetch(name, path, part.size)
        else:
            with told_as_it_is():
                commit_directory(path, lambda folder: _fill(store, part, name, folder))
    except FileNotFoundError as error:
        raise NotFound(f"`{store.address / name}` is not there any more; try again") from error
    if part.digest.startswith(_CRC32) and part.inner is None and _digest(path) != part.digest:
        path.unlink()
        raise CorruptFile(f"`{store.address / name}` is damaged, or another one: its digest is not that of the index")


def _fill(store: Store, part: Part, name: str, folder: Path) -> None:
    for inner in part.inner or []:
        if not is_below(inner):
            raise CorruptFile(f"`{store.address / name}` has a file of a name that leads out of it: {shown(inner)}")
        target = folder / inner
        make_directory(target.parent)
        store.fetch(f"{name}/{inner}", target)


def _digest(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = crc32(chunk, value)
    return f"{_CRC32}{value:08x}"
