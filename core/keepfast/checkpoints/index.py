"""The index of a checkpoint directory: what is there, in a file that can be made again from the others."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

from keepfast._system.commit import Unnamed, Write, commit_own
from keepfast._system.disk.checksum import crc32
from keepfast._system.disk.directories import files_of, names_in, size_of
from keepfast._system.disk.special import content_of, is_plain_file, require_file
from keepfast._system.lock import holding_file
from keepfast.errors import InvalidValue
from keepfast.interfaces.checkpoint_store import CheckpointMetadata
from keepfast.interfaces.loading.memory_log import is_segment, segments_of
from keepfast.interfaces.sharding.seal import SEAL

INDEX = "index.json"
_INDEX_VERSION = 1
GROUPED = "agent"
"""The key in the name of a file that holds all modules."""

BEST = "best_"
"""How the names of the best begin."""

ASIDE = "_previous"
"""How the names of separate files end, before the extension, while others take their place."""

_LINES = ",\n"
"""What stands between two rows, one a line: as good to read as more of them."""

_TAIL = re.compile(rf"(_(?P<timestep>\d{{1,18}})(?P<aside>{ASIDE})?)?\.[^/\\]+")

_T = TypeVar("_T")


@final
@dataclass(frozen=True)
class IndexedFile:
    """One file of a checkpoint, or the directory that a format has in its place.

    Attributes:
        name: its name.
        size: its size in bytes.
        digest: its digest, "" where it is not known.
    """

    name: str
    size: int
    digest: str = ""

    @classmethod
    def of(cls, path: Path) -> IndexedFile:
        """Return what the index says of a file, which is read for it."""
        return cls(path.name, size_of(path), file_digest(path))

    @classmethod
    def written(cls, unnamed: Unnamed, name: str) -> IndexedFile:
        """Return what the index says of what is about to get its name; it is read where nobody summed it."""
        digest = file_digest(unnamed.path) if unnamed.summed is None else _digest_of(unnamed.summed.crc32)
        return cls(name, unnamed.size, digest)


@final
@dataclass(frozen=True)
class IndexedCheckpoint:
    """One checkpoint of a directory.

    Attributes:
        timestep: the completed timesteps it was taken at; None where neither name nor file tells.
        best: whether it is one of the best rather than a periodic one.
        files: each file by its key: ``agent``, or each module's name where they are stored separately.
        modules: the names of its modules, where known.
        metric: tag and value that it was judged by, for the best.
        time: seconds since the epoch.
        versions: what wrote it.
        own: whether Keepfast wrote it, so that retention may remove it.
        superseded: whether training went on from before it, so that it is no longer the latest.
        segments: the files of rows that its memories need, from the directory of the checkpoints on.
        going: whether retention is removing it, so that files of it may be missing.
    """

    timestep: int | None
    best: bool
    files: Mapping[str, IndexedFile]
    modules: tuple[str, ...] = ()
    metric: Mapping[str, Any] | None = None
    time: float = 0.0
    versions: Mapping[str, Any] = field(default_factory=dict)
    own: bool = True
    superseded: bool = False
    segments: tuple[str, ...] = ()
    going: bool = False

    @property
    def names(self) -> set[str]:
        """Return the names of its files."""
        return {file.name for file in self.files.values()}

    @property
    def score(self) -> float | None:
        """Return the value it was judged by."""
        return None if self.metric is None else float(self.metric["value"])

    @property
    def is_aside(self) -> bool:
        """Say whether its files were given other names while new ones of the same timestep are written."""
        starts = {file.name: f"{BEST if self.best else ''}{key}" for key, file in self.files.items()}
        return any(ASIDE in name and self._is_aside(name, start) for name, start in starts.items())

    def _is_aside(self, name: str, start: str) -> bool:
        tail = _TAIL.fullmatch(name[len(start) :]) if name.startswith(start) else None
        return tail is not None and tail["aside"] is not None and int(tail["timestep"]) == self.timestep

    @functools.cached_property
    def line(self) -> str:
        """Return what is listed of it, as JSON; whether it is going is told by where it stands."""
        row = {each.name: getattr(self, each.name) for each in fields(self)}
        row["files"] = {key: vars(file) for key, file in self.files.items()}
        left_out = {"going"} if self.segments else {"going", "segments"}
        return json.dumps({name: value for name, value in row.items() if name not in left_out})

    @classmethod
    def from_json(cls, row: Mapping[str, Any], *, going: bool = False) -> IndexedCheckpoint:
        """Return the checkpoint that a row of the index describes, or of what it lists as going.

        Raises:
            InvalidValue: if the row is not of our making. Retention removes what rows name, so each name must be one
                that a file of this row's key and timestep has.
        """
        try:
            made = _of_row(row, going)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidValue(f"a row of the index makes no sense ({type(error).__name__}: {error})") from error
        wrong = [file.name for key, file in made.files.items() if not _may_have(made, key, file.name)]
        if wrong or not made.files:
            raise InvalidValue(f"a row of the index has the files {wrong}, which are none of a checkpoint's")
        return made

    def described_by(self, metadata: CheckpointMetadata) -> IndexedCheckpoint:
        """Return the same with what a file's own metadata tells.

        Raises:
            InvalidValue: if the file's name speaks of another timestep.
        """
        told = {
            "timestep": self.timestep if metadata.timestep is None else metadata.timestep,
            "modules": metadata.modules or (),
            "metric": metadata.metric,
            "time": metadata.time or 0.0,
            "versions": {"keepfast": metadata.keepfast, "format": metadata.format_version},
            "own": metadata.resume is not None,
            "segments": segments_of(metadata.logs),
        }
        return IndexedCheckpoint.from_json({**asdict(self), **told})


def _may_have(checkpoint: IndexedCheckpoint, key: str, name: str) -> bool:
    """Say whether a file of a checkpoint can have a name; no other may be opened, let alone removed."""
    start = f"{BEST}{key}" if checkpoint.best else key
    tail = _TAIL.fullmatch(name.removeprefix(start)) if name.startswith(start) else None
    if tail is None or not key or key.startswith(".") or Path(name).name != name or "\0" in name:
        return False
    return checkpoint.best if tail["timestep"] is None else int(tail["timestep"]) == checkpoint.timestep


def _of_row(row: Mapping[str, Any], going: bool) -> IndexedCheckpoint:
    told = CheckpointMetadata.of({key: row[key] for key in ("timestep", "modules", "metric", "time")})
    return IndexedCheckpoint(
        timestep=told.timestep,
        best=_checked(row["best"], bool),
        files={_checked(key, str): _file_of_row(file) for key, file in row["files"].items()},
        modules=told.modules or (),
        metric=told.metric,
        time=told.time or 0.0,
        versions={key: version for key, version in row["versions"].items() if isinstance(version, str | int | None)},
        own=_checked(row["own"], bool),
        superseded=_checked(row.get("superseded", False), bool),
        segments=tuple(map(_segment, row.get("segments", ()))),
        going=going,
    )


def _segment(name: Any) -> str:
    if not is_segment(_checked(name, str)):
        raise ValueError(f"{name!r:.100} is no name of a segment")
    return str(name)


def _file_of_row(file: Mapping[str, Any]) -> IndexedFile:
    return IndexedFile(_checked(file["name"], str), _count(file["size"]), _checked(file["digest"], str))


def _checked(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _count(value: Any) -> int:
    count = operator.index(value)
    if isinstance(value, bool) or count < 0:
        raise ValueError(f"{count} where a count belongs")
    return count


def read_index(directory: Path) -> list[IndexedCheckpoint]:
    """Return what the index lists, nothing where there is none or it cannot be read (the files are what counts).

    A row that makes no sense is passed over, as if its files were not listed. What was about to be removed is listed
    for as long as one of its files is there.
    """
    return _read(directory)[0]


def index_problem(directory: Path) -> str | None:
    """Return what is wrong with the index, or None where it is as it should be or there is none."""
    return _read(directory)[1]


def _read(directory: Path) -> tuple[list[IndexedCheckpoint], str | None]:
    path = directory / INDEX
    if path.exists() and not is_plain_file(path):  # a pipe would be waited for
        return [], f"`{path}` is no file; remove it, and `keepfast index --rebuild` makes one"
    try:
        listed, wrong = _parsed(content_of(path))
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return (
            [],
            f"`{path}` cannot be read ({type(error).__name__}: {error}); `keepfast index --rebuild` makes it again",
        )
    there = names_in(directory) if any(each.going for each in listed) else set()
    found = [each for each in listed if not each.going or each.names & there]
    return found, f"`{path}` is damaged: {wrong}; `keepfast index --rebuild` makes it again" if wrong else None


_Listed = tuple[tuple[IndexedCheckpoint, ...], str]
"""What an index lists, and what is wrong with a row of it, "" where nothing is."""

_known: dict[bytes, _Listed] = {}
"""What the last few indexes list, by their text: a run reads its own several times for each checkpoint."""

_MOST_KNOWN = 4


def _parsed(text: bytes) -> _Listed:
    return _known.get(text) or _remembered(text, _listed_in(text))


def _remembered(text: bytes, listed: _Listed) -> _Listed:
    for oldest in list(_known)[: max(0, len(_known) - _MOST_KNOWN + 1)]:
        _known.pop(oldest, None)  # another thread may have been quicker
    _known[text] = listed
    return listed


def _listed_in(text: bytes) -> _Listed:
    document = json.loads(text.decode())
    rows, leaving = _checked(document["checkpoints"], list), _checked(document.get("leaving", []), list)
    found, problem = list[IndexedCheckpoint](), ""
    for index, row in enumerate([*rows, *leaving]):
        try:
            found.append(IndexedCheckpoint.from_json(row, going=index >= len(rows)))
        except InvalidValue as error:
            problem = str(error)
    return tuple(found), problem


def write_index(directory: Path, checkpoints: Iterable[IndexedCheckpoint]) -> None:
    """Commit an index; what is going stays so."""
    listed = list(checkpoints)
    kept, going = ([each for each in listed if each.going is going] for going in (False, True))
    commit_own(directory / INDEX, index_of(kept, going))


def index_of(checkpoints: Iterable[IndexedCheckpoint], leaving: Iterable[IndexedCheckpoint] = ()) -> Write:
    """Return what writes an index.

    Args:
        checkpoints: what it lists.
        leaving: what is removed as soon as it is durable: known for what it is by whoever finds it there after a kill.
    """
    kept, going = (
        sorted(map(partial(_as, going), listed), key=order) for going, listed in ((False, checkpoints), (True, leaving))
    )
    parts = {"checkpoints": kept, "leaving": going} if going else {"checkpoints": kept}
    lists = [f'"{part}": [\n{_LINES.join(each.line for each in listed)}\n]' for part, listed in parts.items()]
    text = ("{" + _LINES.join([f'"version": {_INDEX_VERSION}', *lists]) + "}").encode()
    _remembered(text, ((*kept, *going), ""))
    return lambda file: file.write(text)


def _as(going: bool, checkpoint: IndexedCheckpoint) -> IndexedCheckpoint:
    return checkpoint if checkpoint.going is going else replace(checkpoint, going=going)


def order(checkpoint: IndexedCheckpoint) -> tuple[bool, int, list[str]]:
    """Return the sort key of a checkpoint: by timestep, periodic ones first."""
    return checkpoint.best, -1 if checkpoint.timestep is None else checkpoint.timestep, sorted(checkpoint.names)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes while its index is read, changed and committed.

    What stands for the lock is an empty file beside the directory, which holds checkpoints and nothing else.
    """
    with holding_file(directory.with_name(f".{directory.name}.lock")):
        yield


_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """Return the CRC-32 of a file's bytes as ``crc32:xxxxxxxx``; it tells damage, not malice.

    That of a directory is of the names, sizes and bytes of all files in and below it; of one that is sealed, of the
    seal, which has the digests of all others: to read them all would take one process what many shared to write.

    Raises:
        OSError: if it cannot be read.
        Unreadable: if it is a pipe, a socket or a device.
    """
    if path.is_dir() and (path / SEAL).is_file():
        path = path / SEAL
    value = 0
    for each in files_of(path):
        if each != path:
            value = crc32(f"{each.relative_to(path).as_posix()}\0{each.stat().st_size}\0".encode(), value)
        require_file(each)
        with each.open("rb") as file:
            left = os.fstat(file.fileno()).st_size  # the system's own files say 0, and may have no end
            while chunk := file.read(min(left, _CHUNK)):
                value = crc32(chunk, value)
                left -= len(chunk)
    return _digest_of(value)


def _digest_of(value: int) -> str:
    return f"crc32:{value:08x}"


CHECKPOINTS = "checkpoints"
