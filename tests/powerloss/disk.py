"""What a disk may hold after a power loss, by what was done to it, and what of that was synced.

Nothing but a sync makes anything durable: the bytes of a file and the names in a directory each by their own. What was
not synced may be there or not, each of it by itself: a name, a rename (whole), the bytes of a file up to any of them,
or zeros in their place. That is less than any file system in use promises.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.powerloss.recorder import ROOT, Drop, Event, Move, Put, Sync, SyncDirectory, Told, Truncate, Write

Names = dict[str, int]


@dataclass
class File:
    """A file: what of it is durable, and what was done to it since."""

    durable: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list)

    def now(self) -> bytes:
        """Return its content without a loss."""
        return applied(self.durable, self.pending)


@dataclass
class Directory:
    """A directory: the names in it that are durable, and what was done to them since."""

    durable: Names = field(default_factory=dict)
    pending: list[Put | Drop | Move] = field(default_factory=list)


def applied(content: bytes, changes: Sequence[Write | Truncate]) -> bytes:
    """Return a file's content after some changes."""
    found = bytearray(content)
    for change in changes:
        if isinstance(change, Truncate):
            del found[change.size :]
            found.extend(bytes(change.size - len(found)))
        else:
            found.extend(bytes(max(change.offset - len(found), 0)))
            found[change.offset : change.offset + len(change.data)] = change.data
    return bytes(found)


class Disk:
    """A disk that was empty, after some events.

    Attributes:
        told: what somebody was told to be durable, in this order.
    """

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self._directories = {ROOT: Directory()}
        self.told: list[Any] = []

    def apply(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Told(what):
                self.told.append(what)
            case Write(file) | Truncate(file):
                self._files[file].pending.append(event)
            case Sync(file):
                self._files[file] = File(self._files[file].now())
            case SyncDirectory(directory):
                self._directories[directory] = Directory(self._names(directory))
            case _:
                self._change_names(event)

    def _change_names(self, event: Put | Drop | Move) -> None:
        if isinstance(event, Put) and event.is_directory:
            self._directories[event.file] = Directory()
        elif isinstance(event, Put):
            self._files.setdefault(event.file, File())
        for directory in {event.directory, event.target if isinstance(event, Move) else event.directory}:
            self._directories[directory].pending.append(event)

    def _names(self, directory: int, kept: Sequence[Any] | None = None) -> Names:
        """Return the names in a directory after what was done to it, or after some of it."""
        names = dict(self._directories[directory].durable)
        for change in self._directories[directory].pending if kept is None else kept:
            match change:
                case Put(_, name, file):
                    names[name] = file
                case Drop(_, name, file):
                    if names.get(name) == file:
                        del names[name]
                case Move(source, name, target, new, file):
                    if source == directory and names.get(name) == file:
                        del names[name]
                    if target == directory:
                        names[new] = file
        return names

    def write_whole(self, path: Path) -> None:
        """Write what is there without a loss into an empty directory."""
        self._write(ROOT, path, _Everything())

    def write_lost(self, path: Path, generator: random.Random) -> None:
        """Write one of the states that a loss may leave into an empty directory."""
        self._write(ROOT, path, generator.choice(LOSSES)(generator))

    def _write(self, directory: int, path: Path, loss: Loss) -> None:
        kept = [change for change in self._directories[directory].pending if loss.keeps(change)]
        for name, number in self._names(directory, kept).items():
            if number in self._directories:
                (path / name).mkdir()
                self._write(number, path / name, loss)
            else:
                (path / name).write_bytes(loss.content(self._files[number]))


class Loss:
    """Says what a loss takes of what was not synced: all of it."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self._kept: dict[int, bool] = {}

    def keeps(self, change: Put | Drop | Move) -> bool:
        """Say whether a change of names is there; a rename between two directories is there in both, or in none."""
        return self._kept.setdefault(id(change), self._chance())

    def _chance(self) -> bool:
        return False

    def content(self, file: File) -> bytes:
        """Return what is there of a file."""
        return file.durable


class _Everything(Loss):
    """Nothing is lost."""

    def __init__(self) -> None:
        super().__init__(random.Random())

    def _chance(self) -> bool:
        return True

    def content(self, file: File) -> bytes:
        return file.now()


class _DataLost(Loss):
    """All names are there, and the bytes behind them are not."""

    def _chance(self) -> bool:
        return True


class _NamesLost(Loss):
    """All bytes are there, and the names are not."""

    def content(self, file: File) -> bytes:
        return file.now()


class _SomeLost(Loss):
    """Each is there or not, and bytes up to any one of them, or zeros in their place."""

    def _chance(self) -> bool:
        return self._generator.random() < 0.5

    def content(self, file: File) -> bytes:
        if not file.pending:
            return file.durable
        count = self._generator.randint(0, len(file.pending))
        torn = applied(file.durable, file.pending[:count])
        if count == len(file.pending):
            return torn
        whole = applied(torn, file.pending[count : count + 1])
        if self._generator.random() < 0.3 and len(whole) > len(torn):
            return torn + bytes(len(whole) - len(torn))
        change = file.pending[count]
        if isinstance(change, Truncate):
            return torn
        part = change.data[: self._generator.randint(0, len(change.data))]
        return applied(torn, [Write(change.file, change.offset, part)])


LOSSES = (Loss, _DataLost, _NamesLost, _SomeLost, _SomeLost, _SomeLost)
