"""Finds the checkpoints of a directory that its index does not list, from the files themselves.

Somebody's own files may lie beside checkpoints, so a name that ends in a number is not enough. What counts is:

- ``agent_2500.pt`` and ``best_agent.pt``, whoever wrote them;
- any file whose metadata has what a resume needs, which no file but an experiment's own has;
- files of single modules that another tool wrote, ``policy_2500.pt``, where nothing of the above is there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._system.disk.directories import files_of, size_of
from keepfast._system.disk.special import is_plain_file
from keepfast._system.remote.elsewhere import names_elsewhere
from keepfast.checkpoints.index import (
    BEST,
    GROUPED,
    INDEX,
    IndexedCheckpoint,
    IndexedFile,
    exclusive,
    order,
    read_index,
    write_index,
)
from keepfast.checkpoints.placing import Form, form_of, key_of
from keepfast.checkpoints.segments import problem_of
from keepfast.checkpoints.sharing.belonging import leading
from keepfast.errors import InvalidValue, KeepfastError
from keepfast.interfaces.checkpoint_store import CheckpointMetadata
from keepfast.interfaces.loading.memory_log import MemoryLog, Segment, path_of_segment, segments_of
from keepfast.plugins.formats import read_checkpoint, stores

_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What the system says where there is nothing to list: the last of a link to itself."""

_NUMBERED = re.compile(r"^(?P<key>.+)_(?P<timestep>\d{1,18})$")


@final
@dataclass(frozen=True)
class _Content:
    """What a file says of itself: its metadata (without what it holds for a resume), or why it cannot be read."""

    metadata: CheckpointMetadata = field(default_factory=CheckpointMetadata)
    problem: str | None = None

    @property
    def own(self) -> bool:
        return self.metadata.resume is not None


_UNREAD = _Content()


@final
@dataclass(frozen=True)
class _Candidate:
    """A file whose name may be a checkpoint's."""

    path: Path
    best: bool
    key: str
    timestep: int | None
    content: _Content
    form: Form

    @property
    def group(self) -> tuple[Any, ...]:
        """Return what it has in common with the other files of its checkpoint."""
        return self.best, self.timestep, self.path.suffix, self.key == GROUPED, self.form


def merged(directory: Path, *, vanished: bool = False) -> list[IndexedCheckpoint]:
    """Return what the index lists and still exists, and what else lies in the directory.

    Args:
        directory: the checkpoint directory.
        vanished: whether to return also what is listed but has no file left.
    """
    present = {path.name for path in directory.glob("*")} if directory.is_dir() else set()
    present |= names_elsewhere(directory)
    indexed = [checkpoint for checkpoint in read_index(directory) if vanished or checkpoint.names & present]
    return sorted([*indexed, *_unlisted(directory, indexed)], key=order)


def adoptable(directory: Path, listed: Sequence[IndexedCheckpoint]) -> list[IndexedCheckpoint]:
    """Return the whole checkpoints of Keepfast's own that are not listed, ready for the index."""
    found = _unlisted(directory, listed, thorough=True)
    return [_with_digests(directory, checkpoint) for checkpoint in found if checkpoint.own]


def rebuild(directory: Path) -> tuple[list[IndexedCheckpoint], dict[Path, str]]:
    """Make the index again from the files themselves.

    Returns:
        What was indexed, and the damaged files with the reason each was left out.
    """
    with exclusive(directory):
        abandoned = {name for listed in read_index(directory) if listed.superseded for name in listed.names}
        found, damaged = [], {}
        for checkpoint in _unlisted(directory, (), thorough=True):
            problems = {path: _content(path).problem for path in (directory / name for name in checkpoint.names)}
            damaged.update({path: problem for path, problem in problems.items() if problem})
            if not any(problems.values()):
                superseded = bool(checkpoint.names & abandoned)
                found.append(_with_digests(directory, replace(checkpoint, superseded=superseded)))
        write_index(directory, found)
    return found, damaged


def unlisted_segments(directory: Path, listed: Sequence[IndexedCheckpoint]) -> set[str] | None:
    """Return the segments of memories' logs that files need which are not listed; None where one cannot be read."""
    known = {name for checkpoint in listed for name in checkpoint.names}
    contents = [each.content for each in _candidates(directory, known, thorough=True)]
    if any(content.problem for content in contents):
        return None
    return {file for content in contents for file in segments_of(content.metadata.logs)}


def _with_digests(directory: Path, checkpoint: IndexedCheckpoint) -> IndexedCheckpoint:
    files = {key: IndexedFile.of(directory / file.name) for key, file in checkpoint.files.items()}
    return replace(checkpoint, files=files)


def _unlisted(
    directory: Path, listed: Sequence[IndexedCheckpoint], *, thorough: bool = False
) -> list[IndexedCheckpoint]:
    """Return the checkpoints of a directory that are not listed, in the order of `order`.

    Args:
        directory: the checkpoint directory.
        listed: what is known already.
        thorough: whether to read also the periodic files that are recognised by their name alone, which may be many.
    """
    groups: dict[Any, list[_Candidate]] = {}
    known = {name for checkpoint in listed for name in checkpoint.names}
    for candidate in _placed(list(_candidates(directory, known, thorough=thorough))):
        groups.setdefault(candidate.group, []).append(candidate)
    found = [_checkpoint(group) for group in groups.values()]
    ours = [checkpoint for checkpoint, recognised in found if recognised]
    if ours or any(checkpoint.own or GROUPED in checkpoint.files for checkpoint in listed):
        return sorted(ours, key=order)
    return sorted((checkpoint for checkpoint, _ in found), key=order)


def _candidates(directory: Path, known: set[str], *, thorough: bool) -> Iterable[_Candidate]:
    if not _has_others(directory, known):
        return
    paths = sorted(directory.glob("[!.]*"))
    periodic = (_NUMBERED.match(path.stem) for path in paths if not path.name.startswith(BEST))
    keys = {matched["key"] for matched in periodic if matched is not None}
    parsed = {path: _parsed(path.stem, keys) for path in paths if path.name not in known}
    named = {path: said for path, said in parsed.items() if said[0] or said[2] is not None}
    formats = stores() if named else {}  # asking each format takes longer than finding nothing new
    for path, (best, key, timestep) in named.items():
        if path.suffix in formats and (is_plain_file(path) or path.is_dir()) and formats[path.suffix].owns(path):
            by_name_alone = key == GROUPED and not best and not thorough
            yield _candidate(path, best, key, timestep, _UNREAD if by_name_alone else _content(path))


def _placed(candidates: Sequence[_Candidate]) -> Iterable[_Candidate]:
    """Return files, each that was written for an earlier checkpoint at the place of the one that needs it unchanged."""
    places = dict[Path, _Candidate]()
    written = {each.path: each for each in candidates if each.content.own}
    for needing in (each for each in written.values() if each.content.metadata.unchanged):
        needed = {(token, key_of(name)) for name, token in (needing.content.metadata.unchanged or {}).items()}
        for path, each in written.items():
            key = key_of(each.content.metadata.module or GROUPED)
            fits = form_of(path.stem, key, needing.timestep or 0) == needing.form and path.suffix == needing.path.suffix
            if fits and (each.content.metadata.set, key) in needed:
                places[path] = replace(needing, path=path, key=key, content=each.content)
    return [places.get(each.path, each) for each in candidates]


def _has_others(directory: Path, known: set[str]) -> bool:
    """Say whether there is anything beside what is known and the index, as there seldom is at a checkpoint."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  (a path for each name would cost more than all of this)
    except OSError as error:
        if error.errno in _NO_DIRECTORY:
            return False
        raise
    return any(not name.startswith(".") and name != INDEX and name not in known for name in names)


def _candidate(path: Path, best: bool, key: str, timestep: int | None, content: _Content) -> _Candidate:
    """Return a file with what its name says of it, and, for one of our own, with what it says itself."""
    told, module = content.metadata.timestep, content.metadata.module
    own = GROUPED if module is None else key_of(module)
    form: Form | None = None
    if content.own and told is not None and (form := form_of(path.stem, own, told)) is not None:
        best, key, timestep = path.name.startswith(BEST), own, told
    by_name: Form = "periodic" if not best else "first" if timestep is None else "best"
    return _Candidate(path, best, key, timestep, content, form or by_name)


def _parsed(stem: str, keys: set[str]) -> tuple[bool, str, int | None]:
    """Return whether a name is one of the best, its key, and its timestep if it has one.

    Args:
        stem: the file's name without its extension.
        keys: the keys of the periodic checkpoints, among which those of the best are: ``best_critic_1`` is the best of
            a module `critic_1`, if there is such a module, and else that of `critic` at timestep 1.
    """
    best, rest = stem.startswith(BEST), stem.removeprefix(BEST)
    matched = _NUMBERED.match(rest)
    if matched is None or (best and rest in keys):
        return best, rest, None
    return best, matched["key"], int(matched["timestep"])


def _checkpoint(group: list[_Candidate]) -> tuple[IndexedCheckpoint, bool]:
    """Return the checkpoint of some files, and whether it is certainly one."""
    own = [candidate for candidate in group if candidate.content.own]
    names = {key_of(name) for candidate in own for name in candidate.content.metadata.modules or ()}
    lost = [candidate for candidate in group if candidate.content.problem and candidate.key in names]
    files = {
        candidate.key: IndexedFile(candidate.path.name, size_of(candidate.path))
        for candidate in ([*own, *lost] if own else group)
    }
    checkpoint = IndexedCheckpoint(group[0].timestep, group[0].best, files, own=False)
    if own and not lost and _is_whole(own, names):
        about = leading(each.content.metadata for each in own) or own[0].content.metadata
        with contextlib.suppress(InvalidValue):  # it tells of another timestep than its name: somebody renamed it
            told = dict.fromkeys(file for each in own for file in segments_of(each.content.metadata.logs))
            checkpoint = replace(checkpoint.described_by(about), segments=tuple(told))
    return checkpoint, bool(own) or GROUPED in files


def _is_whole(own: Sequence[_Candidate], modules: set[str]) -> bool:
    keys = {candidate.key for candidate in own}
    return leading(each.content.metadata for each in own) is not None and (GROUPED in keys or modules <= keys)


def _content(path: Path) -> _Content:
    """Return what a file says of itself, read once for as long as it does not change."""
    found = _read_content(path, _states(path))
    problem = next(filter(None, map(partial(_problem_of_log, path.parent), (found.metadata.logs or {}).values())), None)
    return found if problem is None else _Content(problem=problem)


def _problem_of_log(directory: Path, told: Any) -> str | None:
    try:
        segments = MemoryLog.of(told).segments
    except InvalidValue as error:
        return str(error)
    return next(filter(None, (_segment_problem(directory, segment) for segment in segments)), None)


def _segment_problem(directory: Path, segment: Segment) -> str | None:
    path = path_of_segment(directory, segment.file)
    return _checked_segment(directory, segment.file, segment.size, segment.digest, _states(path))


@functools.lru_cache(maxsize=4096)
def _checked_segment(
    directory: Path, file: str, size: int, digest: str, _states: tuple[tuple[Path, int, int], ...]
) -> str | None:
    return problem_of(directory, Segment(file, size, digest, {}))


def _states(path: Path) -> tuple[tuple[Path, int, int], ...]:
    states = ((file, file.stat()) for file in files_of(path) if file.exists())
    return tuple((file, state.st_size, state.st_mtime_ns) for file, state in states)


@functools.lru_cache(maxsize=1024)
def _read_content(path: Path, _states: tuple[tuple[Path, int, int], ...]) -> _Content:
    try:
        metadata = read_checkpoint(path, wanted=()).about
    except (KeepfastError, OSError) as error:
        return _Content(problem=str(error))
    return _Content(metadata if metadata.resume is None else replace(metadata, resume={}))
