"""From the store to this machine: what a run goes on with, and copies of what somebody wants to read."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from keepfast._system.commit import commit_own
from keepfast._system.disk.directories import make_directory
from keepfast._system.lock import holding_file
from keepfast._system.remote.addresses import Address
from keepfast._system.remote.elsewhere import bring
from keepfast._system.remote.lease import LEASE, leased_until
from keepfast._system.remote.record import Record, as_seen, digest_of, parts_of, place
from keepfast._system.remote.spool import clean, directory_of, within
from keepfast._system.remote.store import Object, Store, patiently, told_by_name
from keepfast._system.remote.uploading import Layout, Uploading
from keepfast._system.warnings import warn
from keepfast.errors import NotFound, RemoteError

_MOST_BYTES, _MOST_FILES = 4 << 30, 10_000
"""A directory that is none of a run's is copied up to here."""


def pull(directory: Path, store: Store, record: Record, layout: Layout) -> None:
    """Have here what a run goes on with: all its files but those of checkpoints, of which the index is enough.

    What lies here and was not uploaded yet stays, unless another machine went on with the run meanwhile: then it is
    put aside, which is told.

    Raises:
        RemoteError: if the store refuses or cannot be reached, or has names that cannot be on this machine.
    """
    with told_by_name(store.address):
        _pull(within(directory), store, record, layout)


def _pull(directory: Path, store: Store, record: Record, layout: Layout) -> None:
    make_directory(directory)
    listing = store.listed()
    index = store.read(layout.index) if layout.index in listing else None
    if digest_of(index) not in (record.index, record.pending):
        _part(directory, store, record, layout)
        record.pending = digest_of(index)  # what is fetched from here on is of this index, also when it is tried again
    for name, about in listing.items():
        if _is_file(name, layout) and not _is_here(directory / name, store, name):
            _fetch(store, name, directory / name, about)
            record.files[name] = as_seen(directory / name)
    if index is not None:
        known = parts_of(listing, layout.parts(index), layout.checkpoints)
        record.parts = {**known, **record.parts}
        if not (directory / layout.index).exists():
            make_directory((directory / layout.index).parent)
            commit_own(directory / layout.index, lambda file: file.write(index))
    record.index, record.pending = digest_of(index), ""
    record.store(directory)


def _part(directory: Path, store: Store, record: Record, layout: Layout) -> None:
    """Put aside what another machine has gone on from, where it was not uploaded, or nobody knows whether it was."""
    is_known = bool(record.address)
    unsent = Uploading(directory, store, record, layout, lambda: None).unsent() if is_known else []
    aside = directory.with_name(f"{directory.name}.not-uploaded-{time.time_ns()}")
    for path in list(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if unsent or not is_known:
            make_directory(aside)
            path.rename(aside / path.name)
        else:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    record.parts, record.files = {}, {}
    if unsent:
        warn(
            f"another machine went on with `{store.address}`, from before what this one kept last: {len(unsent)} "
            f"file(s) that were never uploaded lie in `{aside}`"
        )
    elif aside.exists():
        warn(
            f"`{directory}` held files that nothing here says were ever uploaded to `{store.address}`, which has "
            f"another state of that run: they lie in `{aside}`"
        )


def copy_of(address: Address, layout: Layout, *, metrics: bool = True) -> Path:
    """Return a copy of what is at an address, as it is now; what checkpoints are made of comes when it is read.

    Args:
        address: a run, or a file or a directory in one, or any other file or small directory.
        layout: what a run's directory holds.
        metrics: whether also what is of no checkpoint is wanted.

    Raises:
        NotFound: if there is nothing.
        RemoteError: if the store refuses or cannot be reached.
    """

    def copied() -> Path:
        with told_by_name(address):
            return _copy_of(address, layout, metrics=metrics)

    return patiently(copied)


def _copy_of(address: Address, layout: Layout, *, metrics: bool) -> Path:
    store = Store(address)
    above, inside = _run_above(address, layout)
    if above is not None:
        path = _refreshed(above, layout, metrics=False) / inside
        if inside != layout.checkpoints:
            bring(path)
        return path
    try:
        children = store.children()
    except FileNotFoundError:
        raise NotFound(f"there is nothing at `{address}`") from None
    if "" in children:
        path = _place_of(address)
        _fetch_newer(Store(address.parent), {address.name: children[""] or Object(0, "")}, path.parent)
        return path
    if not children:
        raise NotFound(f"there is nothing at `{address}`")
    if layout.checkpoints in children or "config.json" in children:
        return _refreshed(address, layout, metrics=metrics)
    path = _place_of(address)
    listing = store.listed()
    if len(listing) > _MOST_FILES or sum(each.size for each in listing.values()) > _MOST_BYTES:
        raise RemoteError(
            f"`{address}` holds {len(listing):,} objects and is no run; give the address of one run, or file"
        )
    _fetch_newer(store, listing, path)
    return path


def _place_of(address: Address) -> Path:
    """Return where the copy of what is at an address lies."""
    return within(directory_of(address.parent, copy=True) / address.name)


def _run_above(address: Address, layout: Layout) -> tuple[Address | None, str]:
    """Return the run whose checkpoints an address is of, or is in, and the rest of the address."""
    parts = address.place.split("/")
    for number in range(len(parts) - 1, max(0, len(parts) - 4), -1):
        if parts[number] == layout.checkpoints:
            return Address(address.scheme, "/".join(parts[:number])), "/".join(parts[number:])
    return None, ""


def _refreshed(address: Address, layout: Layout, *, metrics: bool) -> Path:
    """Return the copy of a run, as the store has it now."""
    directory = _place_of(address)
    make_directory(place(directory))
    with holding_file(place(directory) / "lock"):
        store, record = Store(address), Record.of(directory)
        listing = store.listed()
        if not listing:
            raise NotFound(f"there is nothing at `{address}`")
        make_directory(directory)
        record.address, record.is_complete = str(address), True
        files = {name: about for name, about in listing.items() if _is_file(name, layout)}
        if not metrics:
            files = {name: about for name, about in files.items() if name == "config.json"}
        for name in [name for name in record.tags if name not in listing]:
            (directory / name).unlink(missing_ok=True)
            del record.tags[name]
        _fetch_files(store, files, directory, record)
        _take_index(store, listing, directory, record, layout)
        with contextlib.suppress(FileNotFoundError):
            record.leased_until = leased_until(store.read(LEASE)) if LEASE in listing else 0.0
        record.store(directory)
    clean(lambda _: False)
    return directory


def _take_index(store: Store, listing: Mapping[str, Object], directory: Path, record: Record, layout: Layout) -> None:
    """Have the index of checkpoints here, and know of what it lists; what is here of others goes."""
    checkpoints = directory / layout.checkpoints
    names = [name for name in listing if name.startswith(f"{layout.checkpoints}/")]
    if not names:
        return
    make_directory(checkpoints)
    digests: dict[str, str] = {}
    if layout.index in listing:
        index = store.read(layout.index)
        digests = layout.parts(index)
        commit_own(directory / layout.index, lambda file: file.write(index))
    loose = {name: "" for name in names if name.count("/") == 1 and name != layout.index and not _is_hidden(name)}
    former, record.parts = record.parts, parts_of(listing, {**loose, **digests}, layout.checkpoints)
    for name, part in former.items():
        path = directory / name
        if record.parts.get(name) != part and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fetch_newer(store: Store, listing: Mapping[str, Object], directory: Path) -> None:
    make_directory(place(directory))
    with holding_file(place(directory) / "lock"):
        record = Record.of(directory)
        record.address, record.is_complete = str(store.address), True
        make_directory(directory)
        _fetch_files(store, listing, directory, record)
        record.store(directory)


def _fetch_files(store: Store, listing: Mapping[str, Object], directory: Path, record: Record) -> None:
    for name, about in listing.items():
        if record.tags.get(name) != about.tag or not _is_here(directory / name, store, name):
            _fetch(store, name, directory / name, about)
            record.tags[name] = about.tag


def _fetch(store: Store, name: str, path: Path, about: Object) -> None:
    try:
        with told_by_name(store.address / name):
            make_directory(path.parent)
            store.fetch(name, path, about.size)
    except FileNotFoundError as error:
        raise RemoteError(f"`{store.address / name}` is not there any more; try again") from error


def _is_here(path: Path, store: Store, name: str) -> bool:
    with told_by_name(store.address / name):
        return path.exists()


def _is_file(name: str, layout: Layout) -> bool:
    """Say whether an object is a file of a run that is of no checkpoint."""
    return name.split("/")[0] != layout.checkpoints and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
