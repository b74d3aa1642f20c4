"""ShardedFormat: a checkpoint format whose directory all processes of a run write together."""

from __future__ import annotations

import abc
import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.commit import Content, Filling
from keepfast._system.disk.directories import Durable
from keepfast.codec import array_bytes, array_from_bytes, check_shape, decode, dtype_of, encode
from keepfast.errors import CorruptCheckpoint, InvalidValue, NewerFormat, WriteFailed
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.interfaces.format import DirectoryFormat
from keepfast.interfaces.sharding.arrays import ShardedArray
from keepfast.interfaces.sharding.peers import Peers
from keepfast.interfaces.sharding.seal import SEAL, digest_of, is_sealed, names_in, read_seal, settled, write_seal
from keepfast.tree import Tree, map_leaves

T = TypeVar("T")

_VERSION = 1
"""The version of what a seal says."""


@final
@dataclass
class Troubles:
    """What went wrong while several processes stored together.

    Attributes:
        reasons: in words.
        unstored: the timesteps of the best checkpoints that were not stored, and may be later.
    """

    reasons: list[str] = field(default_factory=list)
    unstored: list[int] = field(default_factory=list)


@final
@dataclass(frozen=True)
class Written:
    """What one process wrote of a checkpoint.

    Attributes:
        told: what `ShardedFormat.finish_arrays` is given of it: values as JSON has them, or such as the framework's
            `Peers` can say.
        digests: the size and the CRC-32, as eight digits, of each of its files that is durable, by name. A file of
            which no process tells is read again by the first, and made durable.
    """

    told: Any = None
    digests: Mapping[str, Sequence[Any]] = field(default_factory=dict)


Arrays = Mapping[str, "NDArray[Any] | ShardedArray"]
"""The arrays of a checkpoint, by their paths in it; those that are not sharded are the same in every process."""


@guarded_calls()
class ShardedFormat(DirectoryFormat[Checkpoint], CheckpointStore):
    """A format of directories that all processes of a run write together, each what it has of sharded arrays.

    A framework's own library writes the arrays: `write_arrays` is called in all processes at once. All else, structure
    and metadata, goes into the seal, which the first process writes once it knows the digest of every file. The first
    process commits the directory, as any other checkpoint; meanwhile the others `follow`. Alone, a process does all of
    it by itself.

    Attributes:
        peers: the other processes; None where this one is alone.
    """

    peers: Peers | None = None

    apart: ClassVar[bool] = False
    """Whether `write_arrays` asks no other process, so that each begins as soon as it is told where. Otherwise they
    agree before it, for a library's processes would wait for one that has nothing to write."""

    @abc.abstractmethod
    def write_arrays(self, arrays: Arrays, directory: Path) -> Written:
        """Write what this process has of arrays; all processes call it at once.

        Returns:
            What it wrote; files of which it tells are durable.

        Raises:
            OSError: if a file cannot be written, in this process or another.
        """

    def settled(self, directory: Path) -> Written:
        """Make a share of the files in a directory durable, and return what `write_arrays` tells of it.

        It serves a library that tells no digests, once all processes have written.

        Raises:
            OSError: if a file cannot be read or made durable.
        """
        rank, size = (0, 1) if self.peers is None else (self.peers.rank, self.peers.size)
        return Written(digests=settled(directory, rank, size))

    def finish_arrays(self, directory: Path, told: Sequence[Any]) -> Any:
        """Return what `read_arrays` is told beside the files: values as JSON has them.

        The first process calls it, once all have written; what it writes needs not be durable yet.

        Args:
            directory: where they wrote.
            told: what each process told in its `Written`, by rank.

        Raises:
            OSError: if a file cannot be written.
        """
        return told[0]

    @abc.abstractmethod
    def read_arrays(
        self, directory: Path, told: Any, outlines: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Return whole arrays, in a process that may have no peers at all, without running code from a file.

        Args:
            directory: where they are; every file in it was verified.
            told: what `finish_arrays` returned.
            outlines: the dtype and the shape of each array by its path.
        """

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Say whether the format's library writes arrays of a dtype; others go into the seal."""
        return dtype.kind in "biufc"

    def wrote(self, path: Path) -> bool:
        """Say whether a directory has our seal."""
        return self.owns(path) and is_sealed(path)

    def fill(self, content: Checkpoint, directory: Path) -> None:
        """Write a checkpoint with the peers, which are told where."""
        self._filled(content, directory)

    def writing(self, content: Checkpoint) -> Content:
        """Return what fills a directory with the peers, and tells what they made durable."""
        return Filling(partial(self._filled, content), self.parts)

    def _filled(self, content: Checkpoint, directory: Path) -> Durable | None:
        if self.peers is not None:
            self.peers.share({"write": key_of(content), "to": str(directory.absolute())})
        return self._write(content, directory)

    @contextlib.contextmanager
    def leading(self) -> Iterator[Troubles]:
        """Tell the peers that `follow`, at the end of the block, that it has come, and what went wrong in it.

        Yields:
            What goes wrong, for the caller to add to; an error that leaves the block is told too.
        """
        troubles = Troubles()
        try:
            yield troubles
        except BaseException as error:
            troubles.reasons.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            if self.peers is not None:
                with contextlib.suppress(WriteFailed):  # whoever is gone need not be told, and all is on disk
                    self.peers.share({"troubles": asdict(troubles)})

    def follow(self, contents: Mapping[str, Checkpoint]) -> Troubles:
        """Write this process's part of whatever the first process commits, until that says that it is through.

        Args:
            contents: each checkpoint as this process has it, by its `key_of`.

        Returns:
            What went wrong in the first process.

        Raises:
            WriteFailed: if the first is gone.
        """
        assert self.peers is not None  # noqa: S101  (whoever follows has somebody to follow)
        while "troubles" not in (said := self.peers.share(None)):
            with contextlib.suppress(WriteFailed):  # the first knows of it, and says so in the end
                self._write(contents.get(said["write"]), Path(said["to"]))
        return Troubles(**said["troubles"])

    def _write(self, content: Checkpoint | None, directory: Path) -> Durable | None:
        """Write this process's part, and in the first all else; return, in that, which files are durable."""
        parted, failure = self._tried(lambda: self._parted(content))
        if not self.apart:
            _require_none(self._share(_failures(self._gather([failure]))))
        written: Written | None = None
        if parted is not None:
            written, failure = self._tried(lambda: self.write_arrays(parted[0], directory))
        said = self._gather([failure, *((written.told, written.digests) if written else (None, {}))])
        if said is None:  # what the first makes of it, it says at the end
            return None
        _require_none(_failures(said))
        known = {name: digest for each in said for name, digest in each[2].items()}
        finished, failure = self._tried(lambda: self._finished(directory, [each[1] for each in said], known))
        _require_none(_failures([[failure]]))
        assert parted is not None  # noqa: S101  (or it would have failed)
        assert finished is not None  # noqa: S101
        told, digests = finished
        write_seal(directory, {**parted[1], "arrays": told, "files": digests})
        return Durable(frozenset(known))

    def _finished(
        self, directory: Path, told: Sequence[Any], known: Mapping[str, Sequence[Any]]
    ) -> tuple[Any, dict[str, Sequence[Any]]]:
        """Finish the arrays, and return what `finish_arrays` did and the digest of each file; what is unknown is read.

        Raises:
            WriteFailed: if what another process wrote is not to be seen.
        """
        finished = self.finish_arrays(directory, told)
        names = names_in(directory)
        if unseen := sorted(known.keys() - set(names)):
            raise WriteFailed(f"`{unseen[0]}` was written, and is not in `{directory}` as the first process sees it")
        return finished, {name: known[name] if name in known else digest_of(directory / name) for name in names}

    def _tried(self, act: Callable[[], T]) -> tuple[T | None, str | None]:
        """Return what an act returns, or else how it failed, which becomes the error of all processes."""
        if self.peers is None:
            return act(), None
        try:
            return act(), None
        except Exception as error:  # noqa: BLE001
            return None, f"{type(error).__name__}: {error}"

    def _share(self, value: Any) -> Any:
        return value if self.peers is None else self.peers.share(value)

    def _gather(self, value: Any) -> list[Any] | None:
        return [value] if self.peers is None else self.peers.gather(value)

    def _parted(self, content: Checkpoint | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arrays of a checkpoint by path, and what its seal says of the rest."""
        if content is None:
            raise InvalidValue("it has no such checkpoint to write")
        arrays: dict[str, Any] = {}
        spread: dict[int, ShardedArray] = {}
        outlines: list[NDArray[Any]] = []

        def outlined(_path: str, leaf: Any) -> Any:
            if not isinstance(leaf, ShardedArray):
                return leaf
            outlines.append(outline := np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape))
            spread[id(outline)] = leaf
            return outline

        def put(path: str, array: NDArray[Any]) -> list[Any]:
            while path in arrays:  # two entries may have one path, where they are by themselves
                path += "~"
            outline = [path, str(array.dtype), list(array.shape)]
            held = spread.get(id(array), array)
            if held is array and (array.size == 0 or not self.takes(array.dtype)):
                return [*outline, base64.b64encode(array_bytes(array)).decode("ascii")]
            arrays[path] = held
            return outline

        state: Tree = encode(map_leaves(outlined, content.state), put)
        return arrays, {"version": _VERSION, "state": state, "metadata": encode(dict(content.metadata))}

    def read(self, path: Path) -> Checkpoint:
        """Read a checkpoint of any number of processes; every byte is verified, and its arrays are whole.

        Raises:
            CorruptCheckpoint: if it was never sealed, or a file is not as it was sealed; names the file.
        """
        path.stat()
        if not path.is_dir():
            raise CorruptCheckpoint(f"`{path}` is damaged: it is a file, and such a checkpoint is a directory")
        document = read_seal(path)
        if document["version"] > _VERSION:
            raise NewerFormat(f"`{path / SEAL}` is of the version {document['version']}; known: up to {_VERSION}")
        outlines: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        decode(document["state"], lambda stored: _noted(stored, outlines))
        try:
            arrays = self.read_arrays(path, document["arrays"], outlines)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:  # all that was sealed is there
            raise CorruptCheckpoint(f"`{path}` is damaged: a part that its seal tells of is not there") from error
        state = decode(document["state"], lambda stored: arrays[stored[0]] if len(stored) == 3 else _inlined(stored))
        return Checkpoint(state, decode(document["metadata"]))


def _failures(said: Sequence[Sequence[Any]] | None) -> list[str]:
    """Return how processes failed, each of which says that first; nothing where this one was told of none."""
    return [f"process {rank}: {failure}" for rank, (failure, *_) in enumerate(said or ()) if failure is not None]


def _require_none(failures: Sequence[str]) -> None:
    if failures:
        raise WriteFailed(f"cannot write a checkpoint together: {'; '.join(failures)}")


def save_together(store: CheckpointStore, content: Checkpoint, path: Path, peers: Peers | None) -> None:
    """Save, durable in all processes when it returns, what is spread over them; each calls it.

    Raises:
        InvalidValue: if the format's files are written by one process.
        WriteFailed: if it cannot be written.
    """
    if not isinstance(store, ShardedFormat):
        raise InvalidValue(
            f"`{path}` is to hold what is spread over processes, and one of them writes such a file; allowed: a name "
            "that ends in .dcp (PyTorch) or .orbax (JAX), saved by all processes"
        )
    store.peers = peers
    if peers is None or peers.first:
        with store.leading():
            store.save(content, path)
    elif reasons := store.follow({key_of(content): content}).reasons:
        raise WriteFailed(of_the_first(reasons))
    if peers is not None:
        peers.close()


def of_the_first(reasons: Sequence[str]) -> str:
    """Return what those who follow tell of what went wrong in the first process."""
    return f"the first process could not store a checkpoint: {reasons[-1]}"


def key_of(content: Checkpoint) -> str:
    """Return what tells a checkpoint from the others that are written at the same time."""
    about = content.about
    return f"{about.timestep} {about.metric is not None} {about.module or ''}"


def _noted(stored: Any, outlines: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> NDArray[Any]:
    path, dtype, shape, *inline = stored
    check_shape(shape)
    if not inline:
        if path in outlines:
            raise CorruptCheckpoint(f"the seal is damaged: `{path}` is in it twice")
        outlines[path] = dtype_of(dtype), tuple(shape)
    return np.zeros(0)


def _inlined(stored: Any) -> NDArray[Any]:
    _, dtype, shape, data = stored
    return array_from_bytes(bytearray(base64.b64decode(data)), dtype, tuple(shape))
