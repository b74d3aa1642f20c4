"""Keeps the metrics of a Keepfast run in an SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, final

import keepfast

SCHEMA = """
create table if not exists scalars (step integer, wall_time real, tag text, value real);
create table if not exists texts (step integer, wall_time real, tag text, text text);
create index if not exists scalars_by_tag on scalars (tag, step);
"""


@final
class SqliteWriter(keepfast.Writer):
    """Writes scalars and texts into two tables; each step is one transaction.

    NaN is stored as NULL, since SQLite knows no NaN; infinities are stored as such.

    Args:
        context: the experiment, which gives the directory and where a resumed run goes on.
        file_name: the database's name in the experiment's directory.
    """

    def __init__(self, context: keepfast.WriterContext, file_name: str = "metrics.db") -> None:
        # Keepfast calls a writer from one thread at a time, but not always from the one that made it.
        self._connection = sqlite3.connect(context.directory / file_name, check_same_thread=False)
        self._connection.executescript(SCHEMA)
        if context.resume_step is not None:
            with self._connection as transaction:
                for table in ("scalars", "texts"):
                    transaction.execute(f"delete from {table} where step > ?", (context.resume_step,))  # noqa: S608

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Insert a row for each value."""
        rows = [(step, wall_time, tag, value) for tag, value in scalars.items()]
        with self._connection as transaction:
            transaction.executemany("insert into scalars values (?, ?, ?, ?)", rows)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Insert a row for the text."""
        with self._connection as transaction:
            transaction.execute("insert into texts values (?, ?, ?, ?)", (step, wall_time, tag, text))

    def close(self) -> None:
        """Close the database; what was written is durable already."""
        self._connection.close()


@keepfast.hookimpl
def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
    """Name the writer, as users do under ``"writers"``."""
    return {"sqlite": SqliteWriter}
