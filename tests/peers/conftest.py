"""Tests with other libraries, which a session of its own installs, and the tables of what they found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

KINDS = ("agents", "agents_jax", "attached", "attached_jax", "kinds", "memories", "trained")
SKRL = [f"test_skrl_{each}.py" for each in KINDS]
collect_ignore = [] if importlib.util.find_spec("skrl") else SKRL

_TABLE = "table: "


@pytest.fixture
def tabled(record_property: Callable[[str, object], None]) -> Callable[[str, str, Mapping[str, str]], None]:
    """Return what gives a table, named by its title, a row: of whom, and what was found by the name of a column."""
    return lambda title, subject, found: record_property(f"{_TABLE}{title}", {"": subject, **found})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tables, whichever process the tests ran in."""
    tables: dict[str, list[dict[str, str]]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, row in report.user_properties:
            if name.startswith(_TABLE):
                tables.setdefault(name.removeprefix(_TABLE), []).append(row)
    for title, rows in tables.items():
        terminalreporter.section(title)
        for line in _lines(rows):
            terminalreporter.write_line(line)


def _lines(rows: list[dict[str, str]]) -> Iterator[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
