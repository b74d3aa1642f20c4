"""The sqlite writer fulfils Keepfast's contract for writers."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from keepfast_sqlite import SqliteWriter

import keepfast
from keepfast.testing import WriterContract


class TestSqliteWriter(WriterContract):
    """Inherits every test of the contract; two overrides say what is particular to this writer."""

    precision = 0.0

    @pytest.fixture
    def factory(self) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
        return SqliteWriter

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        with closing(sqlite3.connect(directory / "metrics.db")) as connection:
            for tag, step, value in connection.execute("select tag, step, value from scalars order by rowid"):
                found.setdefault(tag, []).append((step, math.nan if value is None else value))
        return found


def test_texts_are_kept(tmp_path: Path) -> None:
    """A text is kept with its tag and step."""
    with SqliteWriter(keepfast.WriterContext(tmp_path, "run"), file_name="texts.db") as writer:
        writer.add_text("Notes", "Größe", 3)
    with closing(sqlite3.connect(tmp_path / "texts.db")) as connection:
        assert connection.execute("select step, tag, text from texts").fetchall() == [(3, "Notes", "Größe")]
