"""CheckpointStore: a checkpoint format, and the document that it writes and reads."""

from __future__ import annotations

import abc
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import numpy as np

from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.disk.checksum import Summed
from keepfast.codec import native
from keepfast.errors import CorruptCheckpoint, CorruptFile, InvalidValue, as_given
from keepfast.interfaces.format import Format
from keepfast.interfaces.loading.contents import contents_line, contents_page
from keepfast.tree import Tree, map_leaves, require_short_paths, values

SINGLE = "module"
"""What a module is called that is saved by itself and has no name."""

LAST_TIMESTEP = 10**18 - 1
"""The last timestep that the name of a file has room for."""

FORMAT_VERSION = 1
"""The version of what `CheckpointMetadata` says; raised when a reader of today could misread it."""


@final
@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """What a checkpoint file tells of itself beside its modules; each is None where it is not told.

    The names of the fields are the keys that stand in files, in this order.

    Attributes:
        format_version: the version of what is told here.
        keepfast: the version of Keepfast that wrote the file.
        backend: the name of the modules' backend.
        modules: the names of all modules of the checkpoint, also of those that have files of their own.
        backends: the name of the backend of each deque, by its name or path: an empty one could not tell it.
        names: what `Backend.names` gave for modules whose state calls something by number alone, by name or path.
        time: when it was taken, in seconds since the epoch.
        timestep: the completed timesteps it was taken at.
        metric: the tag and the value that it was judged by, for one of the best.
        resume: what an exact resume needs beyond the modules; files of an experiment alone have it.
        logs: where the rows of memories lie that the file itself does not hold, by name; see `MemoryLog`.
        set: an id that the files of one checkpoint share, where each module has a file of its own.
        module: the name of the file's module, where it holds one alone.
        unchanged: the id of those files of the checkpoint that were written for an earlier one, as their modules did
            not change since, by module.
    """

    format_version: int | None = None
    keepfast: str | None = None
    backend: str | None = None
    modules: tuple[str, ...] | None = None
    backends: Mapping[str, str] | None = None
    names: Mapping[str, Tree] | None = None
    time: float | None = None
    timestep: int | None = None
    metric: Mapping[str, Any] | None = None
    resume: Mapping[str, Any] | None = None
    logs: Mapping[str, Any] | None = None
    set: str | None = None
    module: str | None = None
    unchanged: Mapping[str, str] | None = None

    @property
    def written_by_keepfast(self) -> bool:
        """Say whether Keepfast wrote the file; one of another tool tells nothing here."""
        return self != CheckpointMetadata()

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> CheckpointMetadata:
        """Return what a file's mapping tells; keys of other names are passed over.

        Raises:
            InvalidValue: if a value is not of the kind that is written there; names the key.
        """
        if not isinstance(mapping, Mapping):
            raise InvalidValue(f"the metadata is {as_given(mapping)} ({type(mapping).__name__}); allowed: a mapping")
        return cls(**{key: _told(key, mapping[key]) for key in _KINDS if mapping.get(key) is not None})

    def as_mapping(self) -> dict[str, Any]:
        """Return what a file holds: a tree of plain values, without what is not told."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: list(value) if key == "modules" else value for key, value in told.items() if value is not None}


def _told(key: str, value: Any) -> Any:
    kind, check = _KINDS[key]
    try:
        return check(value)
    except Exception:  # noqa: BLE001  (whatever it says of that, it is not of the kind)
        raise InvalidValue(f"`{key}` is {as_given(value)} ({type(value).__name__}); allowed: {kind}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or (count := operator.index(value)) < 0:
        raise ValueError
    return count


def _timestep(value: Any) -> int:
    if (timestep := _count(value)) > LAST_TIMESTEP:
        raise ValueError
    return timestep


def _number(value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def _texts(value: Any) -> Mapping[str, str]:
    return {_text(key): _text(each) for key, each in _mapping(value).items()}


def _metric(value: Any) -> Mapping[str, Any]:
    told = _mapping(value)
    return {"tag": _text(told["tag"]), "value": _number(told["value"])}


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(_text(name) for name in value)


_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "format_version": ("a whole number of at least 0", _count),
    "keepfast": ("a text", _text),
    "backend": ("a text", _text),
    "modules": ("a list of texts", _names),
    "backends": ("a mapping of texts", _texts),
    "names": ("a mapping", _mapping),
    "time": ("a number", _number),
    "timestep": ("a whole number of 0 to 10**18 - 1", _timestep),
    "metric": ("a mapping of `tag` to a text and of `value` to a number", _metric),
    "resume": ("a mapping", _mapping),
    "logs": ("a mapping", _mapping),
    "set": ("a text", _text),
    "module": ("a text", _text),
    "unchanged": ("a mapping of texts", _texts),
}
"""What each key of a file's metadata may have for a value, in words, and what checks it."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint file holds.

    Attributes:
        state: a mapping from module name to that module's tree, or, in a file of one module, that module's own tree.
            Arrays are NumPy arrays on the host.
        metadata: a tree beside the state that readers of the modules alone never meet, which formats keep as it is;
            `about` tells what it means. Empty in files of other tools.
        segments: the files, from the folder of the checkpoint on, that `read_checkpoint` had rows of its memories from.
    """

    state: Tree
    metadata: Mapping[str, Any] = field(default_factory=dict)
    segments: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        return f"Checkpoint({contents_line(self.modules, self.metadata)})"

    def _repr_html_(self) -> str:
        return contents_page("Checkpoint", self.modules, self.metadata)

    @cached_property
    def about(self) -> CheckpointMetadata:
        """Return what the metadata tells.

        Raises:
            InvalidValue: if it is not as Keepfast writes it. What `read_checkpoint` returned was checked for that.
        """
        return CheckpointMetadata.of(self.metadata)

    @property
    def modules(self) -> dict[str, Tree]:
        """Return the state of each module by name, whichever layout the file has; none where it is no dict of names."""
        name = self.about.module
        if name is not None:
            return {name: self.state}
        entries = self.state.items() if isinstance(self.state, Mapping) else ()
        return {key: tree for key, tree in entries if isinstance(key, str)}


_PATHS, _PATHS_IN_A_BYTE = 1 << 26, 4
"""How many characters the paths of a file's entries may have together, at the least and by its size."""


@guarded_calls()
class CheckpointStore(Format[Checkpoint]):
    """Writes and reads checkpoint files of one format.

    A format is complete with an extension and two methods. Committing (temporary file, fsync, rename), naming,
    indexing and retention are not its business. Whatever it writes it must be able to verify: `load` raises
    `CorruptCheckpoint` for every byte that is not as it was written, whatever `read` raises at it. `keepfast.codec`
    turns trees and their arrays into what files hold.

    The smallest complete format (its damage detection left to the reader)::

        class JsonStore(keepfast.CheckpointStore):
            extension = ".json"

            def write(self, checkpoint, file):
                document = {"state": checkpoint.state, "metadata": checkpoint.metadata}
                file.write(keepfast.codec.dumps(document).encode())

            def read(self, path):
                document = keepfast.codec.loads(path.read_bytes())
                return keepfast.Checkpoint(document["state"], document["metadata"])

    A format whose checkpoints are directories is a `DirectoryFormat` too. Registered by a plugin:
    ``keepfast_checkpoint_formats`` returns ``{"json": JsonStore}``. `keepfast.testing.CheckpointStoreContract` proves
    it.
    """

    corrupt: ClassVar[type[CorruptFile]] = CorruptCheckpoint
    holds: ClassVar[type] = Checkpoint

    @abc.abstractmethod
    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
        """Write a checkpoint into an open file, without changing or keeping any of its arrays.

        Args:
            checkpoint: what to write.
            file: an empty regular file, readable, writable and seekable.

        Returns:
            The CRC-32 of all the bytes, where it is known; None has them read again for it.

        Raises:
            InvalidValue: if the state has a leaf that the format cannot hold; names its path.
            OSError: if the file cannot be written.
        """

    @abc.abstractmethod
    def read(self, path: Path) -> Checkpoint:
        """Read a file, verify every byte of it and return what was written, without running code from it.

        Raises:
            CorruptCheckpoint: if the file is damaged, truncated, or carries code; names the file and the part.
            OSError: if the file cannot be opened.
        """

    def check(self, state: Tree) -> None:
        """Check that a state can be written: asked as modules are registered. A format may leave it to `write`.

        Args:
            state: a mapping from module name to tree, its arrays empty: it is their dtypes that count.

        Raises:
            InvalidValue: if it has a leaf that the format cannot hold; names its path.
        """
        return

    def load(self, path: Path) -> Checkpoint:
        """Read a file as `Format.load` does; arrays are in the machine's byte order, which frameworks need.

        Raises:
            CorruptCheckpoint: if the file is damaged, truncated, or carries code.
            MissingDependency: if it holds what needs a package that is not installed.
            OSError: if it cannot be opened.
        """
        checkpoint = super().load(path)
        try:
            require_short_paths(checkpoint.state, _PATHS + _PATHS_IN_A_BYTE * _size(path))
        except ValueError as error:
            raise self.corrupt(f"`{path}` is refused: {error}") from error
        foreign = any(isinstance(leaf, np.ndarray) and not leaf.dtype.isnative for leaf in values(checkpoint.state))
        return replace(checkpoint, state=map_leaves(_in_machines_order, checkpoint.state)) if foreign else checkpoint


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def _in_machines_order(path: str, leaf: Any) -> Any:
    return native(leaf, path) if isinstance(leaf, np.ndarray) else leaf
