"""Format: what the formats of checkpoints and of memories have in common, of files and of directories alike."""

from __future__ import annotations

import abc
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, Generic, TypeVar

from keepfast._system.arguments.guarding import foreign, guarded_calls
from keepfast._system.commit import Content, Filling, commit_together, remove_directory
from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.checksum import Summed
from keepfast._system.disk.directories import file_of, path_of
from keepfast._system.disk.optional import tell_lacking
from keepfast._system.disk.special import require_file
from keepfast.errors import CorruptFile, InvalidValue, KeepfastError, MissingDependency, UsageError, as_given, shown

T = TypeVar("T")


@guarded_calls()
class Format(abc.ABC, Generic[T]):
    """Writes and reads what a file holds; `CheckpointStore` and `MemoryExporter` say what that is."""

    extension: ClassVar[str]
    """How the names of its files end, with the dot: ``.pt``."""

    corrupt: ClassVar[type[CorruptFile]]
    """What a damaged file raises."""

    holds: ClassVar[type]
    """What files are made of."""

    @abc.abstractmethod
    def write(self, content: T, file: BinaryIO) -> Summed | None:
        """Write into an open file, without changing or keeping any of the arrays.

        Args:
            content: what to write.
            file: an empty regular file, readable, writable and seekable.

        Returns:
            The CRC-32 of all the bytes, where it is known; None has them read again for it.

        Raises:
            OSError: if the file cannot be written.
        """

    @abc.abstractmethod
    def read(self, path: Path) -> T:
        """Read a file, verify every byte of it and return what was written, without running code from it.

        Raises:
            CorruptFile: if it is damaged, truncated, or carries code; names the file and the part.
            OSError: if it cannot be opened.
        """

    def owns(self, path: Path) -> bool:
        """Say whether a file is of this format, or is to be; by its name, unless a format knows better."""
        path = path_of(path)
        return path.name.endswith(self.extension) and not path.is_dir()

    def wrote(self, path: Path) -> bool:
        """Say whether Keepfast wrote a file, without reading all of it; what it did not write it never removes.

        By its name, unless a format knows better.
        """
        return self.owns(path)

    def writing(self, content: T) -> Content:
        """Return what writes a file, for whoever commits several together."""
        return partial(self.write, content)

    def save(self, content: T, path: Path) -> int:
        """Write a durable file: when this returns, it is complete on disk. Returns its size in bytes.

        Raises:
            InvalidValue: if the content is of another kind, or there can be no file at the path.
            WriteFailed: if the operating system refused; what was at `path` before is untouched.
        """
        if not isinstance(content, self.holds):
            raise InvalidValue(f"`content` is {as_given(content)}; allowed: a {self.holds.__name__}")
        size = self._commit(content, file_of(path))
        if threading.current_thread() is threading.main_thread():  # behind training nobody hears it
            tell_lacking()
        return size

    def _commit(self, content: T, path: Path) -> int:
        """Write a file, and what belongs beside it, so that under its name it is complete; returns its size."""
        return commit_together({path: self.writing(content)})[path]

    def load(self, path: Path) -> T:
        """Read a file; the counterpart of `save`.

        Whatever `read` raises at content that is not as it should be becomes the error that names the file.

        Raises:
            CorruptFile: `corrupt`, if the file is damaged, truncated, or carries code.
            MissingDependency: if it holds what needs a package that is not installed.
            Unreadable: if it is a pipe, a socket or a device.
            OutOfMemory: if it holds what takes more memory than there is.
            OSError: if it cannot be opened.
        """
        try:
            require_file(path := path_of(path, longest=None))
            with within_memory(path):
                return self.read(path)
        except (OSError, MissingDependency):
            raise
        except ImportError as error:
            raise MissingDependency(f"`{path}` cannot be read: {shown(str(error), 500)}") from error
        except Exception as error:
            found = foreign(error) if isinstance(error, KeepfastError) else error
            if found is None:
                raise
            reason = shown(f"{type(found).__name__}: {found}", 500)
            raise self.corrupt(f"`{path}` is damaged: its content cannot be read ({reason})") from error

    def remove(self, path: Path) -> None:
        """Remove what `save` wrote, where it is still there.

        Raises:
            OSError: if the operating system refused.
        """
        path_of(path, longest=None).unlink(missing_ok=True)


@guarded_calls()
class DirectoryFormat(Format[T]):
    """A format that writes a directory in the place of a file: shards, a file each, or what another library reads.

    It stands before `CheckpointStore` or `MemoryExporter` among the bases, and has `fill` in the place of `write`. A
    directory under its final name is complete, as a file is: it is filled under a temporary name, every file in it made
    durable, and then renamed. `read` must notice a file that is missing, as it notices one that is damaged.

    The smallest complete format (its damage detection left to the reader)::

        class ArraysStore(keepfast.DirectoryFormat, keepfast.CheckpointStore):
            extension = ".arrays"

            def fill(self, checkpoint, directory):
                for name, state in checkpoint.modules.items():
                    numpy.savez(directory / f"{name}.npz", **keepfast.tree.flatten(state))

            def read(self, path):
                return keepfast.Checkpoint({file.stem: dict(numpy.load(file)) for file in path.iterdir()})
    """

    parts: ClassVar[Sequence[str]] = ()
    """Patterns of the names in such a directory: ``("*.shard", "tree.json")``. A directory that is to be replaced may
    hold files of these names, and of those that the new one has; one that holds anything else is not touched."""

    @abc.abstractmethod
    def fill(self, content: T, directory: Path) -> None:
        """Write into a directory, without changing or keeping any of the arrays.

        Args:
            content: what to write.
            directory: empty, and still under a temporary name.

        Raises:
            OSError: if a file cannot be written.
        """

    def write(self, content: T, file: BinaryIO) -> Summed | None:
        """Refuse: one file does not hold it."""
        raise UsageError(f"{type(self).__name__} writes a directory, which no open file can take; call `save`")

    def owns(self, path: Path) -> bool:
        """Say whether a path is such a directory, or is to be; by its name, unless a format knows better."""
        return path_of(path).name.endswith(self.extension)

    def writing(self, content: T) -> Content:
        """Return what fills a directory, for whoever commits several together."""
        return Filling(partial(self.fill, content), self.parts)

    def remove(self, path: Path) -> None:
        """Remove the directory, where it is still there.

        Raises:
            OSError: if the operating system refused.
        """
        remove_directory(path_of(path, longest=None))
