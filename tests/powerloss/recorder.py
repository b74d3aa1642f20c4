"""Records every call of this process that changes a directory or a file below one directory.

Files have numbers of their own, since a name may lead to one after the other, and the system's number of a file that is
gone is given to another. What goes around these calls, a library's own writes say, shows in `Disk`: played to its end
the record is not what is on the disk then.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import functools
import io
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = 0
"""The number of the directory that is looked at."""


@dataclass(frozen=True)
class Write:
    """Bytes came into a file, from an offset on."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A file got another size."""

    file: int
    size: int


@dataclass(frozen=True)
class Sync:
    """What was written into a file until now is durable."""

    file: int


@dataclass(frozen=True)
class SyncDirectory:
    """The names in a directory are durable, as they are now."""

    directory: int


@dataclass(frozen=True)
class Put:
    """A name in a directory leads to a file or directory; to a new one where that was not there before."""

    directory: int
    name: str
    file: int
    is_directory: bool = False


@dataclass(frozen=True)
class Drop:
    """A name is gone from a directory."""

    directory: int
    name: str
    file: int


@dataclass(frozen=True)
class Move:
    """A name of a directory became another name, in one step."""

    directory: int
    name: str
    target: int
    new: str
    file: int


@dataclass(frozen=True)
class Told:
    """Somebody was told that something is durable."""

    what: Any


Event = Write | Truncate | Sync | SyncDirectory | Put | Drop | Move | Told


class Recorder:
    """Records, in a ``with`` statement, what is done below a directory, which is empty at first.

    Attributes:
        events: what was done, in this order.
        counts: how often each call of the system was made that changes or syncs something there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.counts: dict[str, int] = {}
        self._numbers = {self._inode(root.stat()): ROOT}
        self._lock = threading.RLock()
        self._patches = contextlib.ExitStack()

    @staticmethod
    def _inode(status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino

    def __enter__(self) -> Recorder:
        for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "open"):
            self._patch(os, name, getattr(self, f"_{name}"))
        for name in ("write", "fsync", "fdatasync", "ftruncate", "truncate"):
            self._patch(os, name, getattr(self, f"_{name}"))
        for module in (builtins, io):
            self._patches.enter_context(mock.patch.object(module, "open", functools.partial(_open_file, self)))
        self._patches.enter_context(mock.patch.object(shutil, "_USE_CP_SENDFILE", False))
        return self

    def __exit__(self, *_error: object) -> None:
        self._patches.close()

    def _patch(self, module: Any, name: str, recording: Callable[..., Any]) -> None:
        original = getattr(module, name)

        @functools.wraps(original)
        def patched(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                return recording(original, *arguments, **named)

        self._patches.enter_context(mock.patch.object(module, name, patched))

    def tell(self, what: Any) -> None:
        """Record that somebody was told that something is durable."""
        with self._lock:
            self.events.append(Told(what))

    def _add(self, call: str, event: Event) -> None:
        self.counts[call] = self.counts.get(call, 0) + 1
        self.events.append(event)

    def _absolute(self, path: Any, folder: int | None = None) -> Path:
        above = Path(f"/proc/self/fd/{folder}").resolve() if folder is not None else Path.cwd()
        return Path(os.path.normpath(above / os.fspath(path)))

    def _place(self, path: Path) -> tuple[int, str] | None:
        """Return the number of the directory that a path lies in, and its name there; None for one elsewhere."""
        if self.root not in path.parents:
            return None
        number = self._numbers.get(self._inode(path.parent.stat()))
        return None if number is None else (number, path.name)

    def _number(self, path: Path) -> int:
        return self._numbers[self._inode(path.lstat())]

    def _new(self, status: os.stat_result) -> int:
        self._numbers[self._inode(status)] = number = max(self._numbers.values()) + 1
        return number

    def _of(self, descriptor: int) -> int | None:
        """Return the number of an open file, or None where it lies elsewhere."""
        return self._numbers.get(self._inode(os.fstat(descriptor)))

    def _mkdir(self, original: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        original(path, mode, dir_fd=dir_fd)
        whole = self._absolute(path, dir_fd)
        if place := self._place(whole):
            self._add("mkdir", Put(*place, self._new(whole.stat()), is_directory=True))

    def _gone(self, original: Any, call: str, path: Any, dir_fd: int | None) -> None:
        whole = self._absolute(path, dir_fd)
        place = self._place(whole) if os.path.lexists(whole) else None
        number = self._number(whole) if place else ROOT
        original(path, dir_fd=dir_fd)
        if place:
            self._add(call, Drop(*place, number))

    def _unlink(self, original: Any, path: Any, *, dir_fd: int | None = None) -> None:
        self._gone(original, "unlink", path, dir_fd)

    _remove = _unlink

    def _rmdir(self, original: Any, path: Any, *, dir_fd: int | None = None) -> None:
        self._gone(original, "rmdir", path, dir_fd)

    def _replace(self, original: Any, source: Any, target: Any, **folders: Any) -> None:
        assert not folders
        old, new = self._absolute(source), self._absolute(target)
        places = self._place(old) if os.path.lexists(old) else None, self._place(new)
        number = self._number(old) if places[0] else ROOT
        original(source, target)
        assert (places[0] is None) == (places[1] is None), "moved into the directory, or out of it"
        if places[0] and places[1]:
            self._add("rename", Move(*places[0], *places[1], number))

    _rename = _replace

    def _link(self, original: Any, source: Any, target: Any, **others: Any) -> None:
        original(source, target, **others)
        whole = self._absolute(target)
        if place := self._place(whole):
            self._add("link", Put(*place, self._number(self._absolute(source))))

    def _open(self, original: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self.opening(self._absolute(path, dir_fd), flags):
            descriptor: int = original(path, flags, mode, dir_fd=dir_fd)
            return descriptor

    @contextlib.contextmanager
    def opening(self, path: Path, flags: int) -> Iterator[None]:
        """Record what it does to a file that it is opened."""
        with self._lock:
            was_there = path.exists()
            yield
            if (place := self._place(path)) is None:
                return
            if not was_there:
                self._add("create", Put(*place, self._new(path.stat())))
            elif flags & os.O_TRUNC:
                self._add("truncate", Truncate(self._number(path), 0))

    def _write(self, original: Any, descriptor: int, data: Any) -> int:
        number = self._of(descriptor)
        if number is None:
            return int(original(descriptor, data))
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        offset = os.fstat(descriptor).st_size if appends else os.lseek(descriptor, 0, os.SEEK_CUR)
        count = int(original(descriptor, data))
        self._add("write", Write(number, offset, bytes(data)[:count]))
        return count

    def wrote(self, descriptor: int, end: int, data: bytes) -> None:
        """Record what a file object wrote."""
        with self._lock:
            number = self._of(descriptor)
            if number is not None:
                self._add("write", Write(number, end - len(data), data))

    def _fsync(self, original: Any, descriptor: Any) -> None:
        original(descriptor)
        descriptor = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        number = self._of(descriptor)
        if number is not None:
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self._add("fsync", SyncDirectory(number) if is_directory else Sync(number))

    _fdatasync = _fsync

    def _ftruncate(self, original: Any, descriptor: int, size: int) -> None:
        original(descriptor, size)
        self.resized(descriptor, size)

    def _truncate(self, original: Any, path: Any, size: int) -> None:
        original(path, size)
        if isinstance(path, int):
            self.resized(path, size)
        elif self._place(self._absolute(path)):
            self._add("truncate", Truncate(self._number(self._absolute(path)), size))

    def resized(self, descriptor: int, size: int) -> None:
        """Record that an open file got another size."""
        with self._lock:
            number = self._of(descriptor)
            if number is not None:
                self._add("truncate", Truncate(number, size))


class _Raw(io.FileIO):
    """A file whose writes are recorded."""

    recorder: Recorder

    def write(self, data: Any) -> int:
        with self.recorder._lock:
            count = int(super().write(data) or 0)
            self.recorder.wrote(self.fileno(), self.tell(), bytes(data)[:count])
            return count

    def truncate(self, size: int | None = None) -> int:
        size = super().truncate(size)
        self.recorder.resized(self.fileno(), size)
        return size


_open = builtins.open
_FLAGS = {"w": os.O_TRUNC, "x": 0, "a": 0, "r": 0}


def _open_file(
    recorder: Recorder,
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """Open a file as ``open`` does, its writes recorded."""
    if not set(mode) & set("wax+") or opener is not None:
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    kind = next(letter for letter in mode if letter in "rwax")
    raw_mode = kind + "+" * ("+" in mode)
    if isinstance(file, int):
        raw = _Raw(file, raw_mode, closefd)
    else:
        with recorder.opening(recorder._absolute(file), _FLAGS[kind]):
            raw = _Raw(file, raw_mode, closefd)
    raw.recorder = recorder
    if buffering == 0:
        return raw
    size = io.DEFAULT_BUFFER_SIZE if buffering < 2 else buffering
    buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
    if "b" in mode:
        return buffered
    return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
