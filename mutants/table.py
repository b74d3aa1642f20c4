"""The table of faults: a TOML file for each room, with the faults that tests must notice and those that none can.

A row of ``[[fault]]`` says what goes wrong, in which file, the text that is there (once), what stands there instead,
and the tests that must notice, all of the room that the file is in. A row of ``[[equivalent]]`` is a change that nobody
can see from outside, with the reason; it is here so that nobody looks for its test again.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = Path(__file__).with_name("rooms")


@final
class TableError(Exception):
    """A row of the table does not fit the code that it is about."""


@final
@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        number: its place in the whole table, from 1 on.
        says: what goes wrong, in a few words.
        file: the file, from the root of the project on.
        old: the text that is there, once.
        new: what stands there instead.
        tests: what must notice, as pytest names it.
    """

    number: int
    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number}: {self.file}: {self.says}"

    def change(self) -> str:
        """Return the two texts below each other."""
        return "\n".join(
            f"  {sign} {line}" for sign, text in (("-", self.old), ("+", self.new)) for line in text.splitlines()
        )


@final
@dataclass(frozen=True)
class Equivalent:
    """A change that no test can notice, and why."""

    file: str
    old: str
    new: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def replaced(row: Mutant | Equivalent, source: str) -> str:
    """Return a file's text with a row's change in it.

    Raises:
        TableError: if the old text is not there once, or what comes out is no Python, or the same.
    """
    count = source.count(row.old)
    if count != 1:
        raise TableError(f"{row}\n  the old text is there {count} times, where once is allowed:\n{row.old}")
    changed = source.replace(row.old, row.new)
    if changed == source:
        raise TableError(f"{row}\n  the new text is the old one")
    try:
        compile(changed, row.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise TableError(f"{row}\n  what comes out is no Python: {error}") from error
    return changed


def mutants(rooms: Path = ROOMS) -> list[Mutant]:
    """Return every fault, room by room.

    Raises:
        TableError: if a row lacks something.
    """
    return [Mutant(number, **row) for number, row in enumerate(_rows(rooms, "fault", Mutant), start=1)]


def equivalents(rooms: Path = ROOMS) -> list[Equivalent]:
    """Return every change that was left out."""
    return [Equivalent(**row) for row in _rows(rooms, "equivalent", Equivalent)]


def _rows(rooms: Path, kind: str, made: type[Any]) -> Iterator[dict[str, Any]]:
    wanted = set(made.__dataclass_fields__) - {"number"}
    for path in sorted(rooms.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get(kind, ()):
            if row.keys() != wanted:
                raise TableError(f"{path.name}: a row has {sorted(row)}, where {sorted(wanted)} belong: {row}")
            yield {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
