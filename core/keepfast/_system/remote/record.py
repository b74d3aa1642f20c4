"""What is known on this machine of a run on an object store: what is there of it, and what this machine put there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import commit_own
from keepfast._system.disk.directories import make_directory
from keepfast._system.disk.special import content_of, require_file
from keepfast._system.remote.addresses import is_below

_RECORD = "record.json"
_KEPT = ".remote"
_MOST = 1 << 63


@final
@dataclass
class Part:
    """A file of a checkpoint on the store, or the directory that a format has in its place.

    Attributes:
        digest: what the index says of it, "" where it says nothing.
        size: its size in bytes.
        inner: the files in it, where it is a directory.
    """

    digest: str = ""
    size: int = 0
    inner: list[str] | None = None

    def names(self, name: str) -> list[str]:
        """Return its objects, given its name."""
        return [name] if self.inner is None else [f"{name}/{each}" for each in self.inner]


@final
@dataclass
class Record:
    """What is known of a run on a store.

    Attributes:
        address: that of the run.
        parts: what checkpoints are made of, by name from the run's directory on.
        files: size and time of every other file as it was put there, by name.
        tags: what told one state of an object from another when it was fetched, by name.
        index: the digest of the index of checkpoints as it was put there last, "" where none was.
        pending: that of one which was about to be put there.
        token: what this machine signed the lease with.
        is_complete: whether all that the directory holds is there.
        leased_until: until when another machine owns the run, in seconds since the epoch.
    """

    address: str = ""
    parts: dict[str, Part] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    index: str = ""
    pending: str = ""
    token: str = ""
    is_complete: bool = False
    leased_until: float = 0.0

    @classmethod
    def of(cls, directory: Path) -> Record:
        """Return what is kept of a run's directory, nothing where nothing is, or where a name leads out of it."""
        try:
            require_file(path := place(directory) / _RECORD)
            told = json.loads(content_of(path))
            parts = {name: Part(**part) for name, part in told.pop("parts").items()}
            found = cls(**told, parts=parts)
            return found if found._is_sound() and all(map(is_below, found._names())) else cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def _is_sound(self) -> bool:
        """Say whether each thing is of its kind, as whatever lies there may have been written by anybody."""
        parts = self.parts.values()
        texts = [
            self.address,
            self.index,
            self.pending,
            self.token,
            *self.tags.values(),
            *(each.digest for each in parts),
        ]
        lists = [*self.files.values(), *(each.inner for each in parts if each.inner is not None)]
        numbers = [*(each.size for each in parts), *(number for seen in self.files.values() for number in seen)]
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(each, list) for each in lists)
            and all(type(number) is int and abs(number) < _MOST for number in numbers)
            and isinstance(self.is_complete, bool)
            and type(self.leased_until) in (int, float)
            and abs(self.leased_until) < _MOST
        )

    def _names(self) -> list[str]:
        inner = [each for part in self.parts.values() for each in part.inner or []]
        return [*self.parts, *inner, *self.files, *self.tags]

    def store(self, directory: Path) -> None:
        """Keep it.

        Raises:
            WriteFailed: if the operating system refused.
        """
        text = json.dumps(asdict(self))
        make_directory(place(directory))
        commit_own(place(directory) / _RECORD, lambda file: file.write(text.encode()))


def place(directory: Path) -> Path:
    """Return where it is kept of a run's directory what is none of the run's own: beside it."""
    return directory.with_name(f".{directory.name}{_KEPT}")


def run_of(path: Path) -> Path | None:
    """Return the run's directory that a path is, or lies in, where it is one of an object store's."""
    for directory in (path, *islice(path.parents, 3)):
        # Every checkpoint asks, and a path object for each name would take most of the time.
        if directory.name and os.path.exists(f"{directory.parent}/.{directory.name}{_KEPT}/{_RECORD}"):  # noqa: PTH110
            return directory
    return None


def digest_of(content: bytes | None) -> str:
    """Return the digest of an index, "" where there is none."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


def as_seen(path: Path) -> list[int]:
    """Return what tells one state of a local file from another."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def parts_of(listed: Mapping[str, Any], digests: Mapping[str, str], below: str) -> dict[str, Part]:
    """Return the parts that checkpoints are made of, as far as a store has them.

    Args:
        listed: the store's objects, by name from the run on.
        digests: the digest of each part, by name from the run on.
        below: the directory of checkpoints.
    """
    found: dict[str, Part] = {}
    for name, about in listed.items():
        if not name.startswith(f"{below}/"):
            continue
        owner = next((each for each in (name, *_above(name)) if each in digests), None)
        if owner is None:
            continue
        part = found.setdefault(owner, Part(digests[owner], 0, None if owner == name else []))
        part.size += about.size
        if part.inner is not None:
            part.inner.append(name.removeprefix(f"{owner}/"))
    return found


def _above(name: str) -> list[str]:
    pieces = name.split("/")
    return ["/".join(pieces[:count]) for count in range(len(pieces) - 1, 1, -1)]
