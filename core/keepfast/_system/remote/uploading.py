"""One pass over a run's directory: what is new goes to the store, in an order that shows readers nothing partial.

Files first, then what new checkpoints are made of, then the index of checkpoints, then the removal of what the index no
longer lists. What takes the place of an object that the index lists has that copied to another name before, by which an
index in between lists it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from keepfast._system.disk.directories import files_of, link_or_copy, make_directory
from keepfast._system.remote.record import Part, Record, as_seen, digest_of, place
from keepfast._system.remote.store import TEMPORARY, Store

_BYTES_A_SECOND = 1 << 20
"""A file that grows goes up whole each time, and so no more often than this lets it."""

_OUTGOING = "outgoing"


class Layout(Protocol):
    """What a run's directory holds, as whoever made it knows."""

    checkpoints: str
    """The directory of checkpoints in it."""

    index: str
    """The name of their index, from the run on."""

    def exclusive(self, directory: Path) -> AbstractContextManager[None]:
        """Hold a run's checkpoints against whoever writes them."""

    def is_there(self, directory: Path) -> bool:
        """Say whether a directory is that of a run, and not what somebody left of one."""

    def parts(self, index: bytes) -> dict[str, str]:
        """Return the digest of all that an index lists, "" where it tells none, by name from the run on."""

    def without(self, index: bytes, names: set[str]) -> bytes:
        """Return an index without the checkpoints that have a part of one of these names."""

    def aside(self, index: bytes, names: set[str]) -> tuple[bytes, dict[str, str]]:
        """Return an index that lists parts by other names, and these by the names they had."""


@final
@dataclass(frozen=True)
class _Snapshot:
    """The checkpoints of a run at one moment.

    Attributes:
        index: the content of their index, None where there is none.
        digests: what it lists.
        changed: what the store has not, or otherwise; by name where it is to be read, and what is to be told of it.
    """

    index: bytes | None
    digests: Mapping[str, str]
    changed: Mapping[str, tuple[Path, Part]]


@final
class Uploading:
    """Has a store hold what a run's directory holds.

    Args:
        directory: the run's directory.
        store: the run's objects.
        record: what is known of them.
        layout: what the directory holds.
        proceed: called between objects; raises where no more are to follow.
    """

    def __init__(
        self, directory: Path, store: Store, record: Record, layout: Layout, proceed: Callable[[], object]
    ) -> None:
        self._directory, self._store, self._record, self._layout = directory, store, record, layout
        self._proceed = proceed
        self._times: dict[str, float] = {}

    def once(self, *, everything: bool) -> None:
        """Upload what is new.

        Args:
            everything: whether also files that grow, and went up a short time ago.

        Raises:
            OSError: if the store, or the system, refuses; what went up till then is known.
        """
        if not self._layout.is_there(self._directory):
            return
        with self._snapshot() as taken:
            self._upload_files(everything=everything)
            if taken.index is not None and digest_of(taken.index) != self._record.index:
                self._upload_checkpoints(taken)
            if taken.index is not None:
                self._remove_unlisted(taken.digests)

    def unsent(self) -> list[str]:
        """Return the names of what the store has not, or otherwise."""
        with self._snapshot() as taken:
            index = [self._layout.index] * (taken.index is not None and digest_of(taken.index) != self._record.index)
            return [*self._new_files(), *taken.changed, *index]

    def _new_files(self) -> dict[str, list[int]]:
        found = {}
        for name, path in _files(self._directory, self._layout.checkpoints):
            with contextlib.suppress(FileNotFoundError):
                if (seen := as_seen(path)) != self._record.files.get(name):
                    found[name] = seen
        return found

    def _upload_files(self, *, everything: bool) -> None:
        for name, seen in self._new_files().items():
            if not everything and time.monotonic() - self._times.get(name, -1e9) < seen[0] / _BYTES_A_SECOND:
                continue
            self._proceed()
            if (self._directory / name).exists():
                self._store.put(name, self._directory / name)
                self._record.files[name] = seen
                self._times[name] = time.monotonic()
        gone = [name for name in self._record.files if not (self._directory / name).exists()]
        self._store.remove(gone)
        for name in gone:
            del self._record.files[name]
        self._keep()

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[_Snapshot]:
        """Yield the checkpoints as they are now, by names of their own, which stay when retention removes others."""
        outgoing = place(self._directory) / _OUTGOING
        shutil.rmtree(outgoing, ignore_errors=True)
        try:
            with self._layout.exclusive(self._directory):
                taken = self._pinned(outgoing)
            yield taken
        finally:
            shutil.rmtree(outgoing, ignore_errors=True)

    def _pinned(self, outgoing: Path) -> _Snapshot:
        try:
            index = (self._directory / self._layout.index).read_bytes()
        except FileNotFoundError:
            return _Snapshot(None, {}, {})
        digests, changed, absent = self._layout.parts(index), dict[str, tuple[Path, Part]](), set[str]()
        for number, (name, digest) in enumerate(digests.items()):
            known, path = self._record.parts.get(name), self._directory / name
            if known is not None and known.digest == digest:
                continue
            if path.exists():
                changed[name] = _linked(path, outgoing / str(number), digest)
            elif known is None:
                absent.add(name)
        if absent:
            index = self._layout.without(index, absent)
            digests = self._layout.parts(index)
        return _Snapshot(index, digests, {name: each for name, each in changed.items() if name in digests})

    def _upload_checkpoints(self, taken: _Snapshot) -> None:
        if replaced := {name for name in taken.changed if name in self._record.parts}:
            self._set_aside(replaced)
        for name, (path, part) in taken.changed.items():
            former = self._record.parts.get(name)
            for inner in part.names(name):
                self._proceed()
                self._store.put(inner, path / inner.removeprefix(f"{name}/") if part.inner is not None else path)
            self._record.parts[name] = part
            if former is not None:
                self._store.remove(set(former.names(name)) - set(part.names(name)))
            self._keep()
        assert taken.index is not None  # noqa: S101  (the caller's duty)
        self._put_index(taken.index)

    def _set_aside(self, names: set[str]) -> None:
        """Have the index list by other names what is about to be replaced under its own."""
        try:
            listed = self._store.read(self._layout.index)
        except FileNotFoundError:
            return
        index, others = self._layout.aside(listed, names)
        if not others:
            return
        for name, other in others.items():
            part = self._record.parts.get(name, Part())
            for own, its in zip(part.names(name), part.names(other), strict=True):
                self._proceed()
                self._store.copy(own, its)
            self._record.parts[other] = part
        self._put_index(index)

    def _put_index(self, index: bytes) -> None:
        self._record.pending = digest_of(index)
        self._keep()
        self._proceed()
        self._store.write(self._layout.index, index)
        self._record.index, self._record.pending = self._record.pending, ""
        self._keep()

    def _remove_unlisted(self, digests: Mapping[str, str]) -> None:
        """Remove what the index on the store lists no longer."""
        for name in [name for name in self._record.parts if name not in digests]:
            self._proceed()
            self._store.remove(self._record.parts[name].names(name))
            del self._record.parts[name]
            self._keep()

    def _keep(self) -> None:
        self._record.store(self._directory)


def _linked(path: Path, outgoing: Path, digest: str) -> tuple[Path, Part]:
    files = files_of(path)
    inner = [file.relative_to(path).as_posix() for file in files] if path.is_dir() else None
    size = 0
    for file in files:
        target = outgoing if inner is None else outgoing / file.relative_to(path)
        make_directory(target.parent)
        link_or_copy(file, target)
        size += target.stat().st_size
    return outgoing, Part(digest, size, inner)


def _files(directory: Path, checkpoints: str) -> Iterator[tuple[str, Path]]:
    """Yield name and path of all files of a run that are of no checkpoint, hidden ones left out."""
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != checkpoints)
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(TEMPORARY):
                path = Path(folder, name)
                if path.is_file():
                    yield path.relative_to(directory).as_posix(), path
