"""CheckpointStore: a checkpoint format, and the document that it writes and reads."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from keepfast._system.commit import commit
from keepfast.tree import Tree

FORMAT_VERSION = 1
"""The version of what `Checkpoint.metadata` holds; raised when a reader of today could misread it."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint file holds.

    Attributes:
        state: a mapping from module name to that module's tree, or, in a file of one module, that module's own tree.
            Arrays are NumPy arrays on the host.
        metadata: a tree beside the state that readers of the modules alone never meet: ``format_version``,
            ``module`` (the name, in a file of one module, else absent), ``timestep``, ``backend``, ``versions`` and,
            under ``resume``, what an exact resume needs beyond the modules. Empty in files of other tools.
    """

    state: Tree
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, Tree]:
        """Return the state of each module by name, whichever layout the file has."""
        name = self.metadata.get("module")
        return {str(name): self.state} if name is not None else dict(self.state)


class CheckpointStore(abc.ABC):
    """Writes and reads checkpoint files of one format.

    A format is complete with an extension and two methods. Committing (temporary file, fsync, rename), naming,
    indexing and retention are not its business. Whatever it writes it must be able to verify: `read` raises
    `CorruptCheckpoint` for every byte that is not as it was written.

    The smallest complete format (its damage detection left to the reader)::

        class JsonStore(keepfast.CheckpointStore):
            extension = ".json"

            def write(self, checkpoint, file):
                document = {"state": checkpoint.state, "metadata": checkpoint.metadata}
                file.write(keepfast.codec.dumps(document).encode())

            def read(self, path):
                document = keepfast.codec.loads(path.read_bytes())
                return keepfast.Checkpoint(document["state"], document["metadata"])

    Registered by a plugin: ``keepfast_checkpoint_formats`` returns ``{"json": JsonStore}``.
    `keepfast.testing.CheckpointStoreContract` proves it.
    """

    extension: ClassVar[str]
    """How its files' names end, with the dot: ``.pt``."""

    @abc.abstractmethod
    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> None:
        """Write a checkpoint into an open file, without changing or keeping any of its arrays.

        Args:
            checkpoint: what to write.
            file: an empty regular file, readable, writable and seekable.

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

    def save(self, checkpoint: Checkpoint, path: Path) -> int:
        """Write a durable file: when this returns, it is complete on disk. Returns its size in bytes.

        Raises:
            WriteFailed: if the operating system refused; what was at `path` before is untouched.
        """
        return commit(path, lambda file: self.write(checkpoint, file))

    def load(self, path: Path) -> Checkpoint:
        """Read a file; the counterpart of `save`."""
        return self.read(path)
