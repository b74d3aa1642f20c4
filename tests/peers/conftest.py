"""Tests with other libraries, which a session of its own installs, and the tables of what they found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.peers import tables

KINDS = ("agents", "agents_jax", "attached", "attached_jax", "kinds", "memories", "trained")
SKRL = [f"test_skrl_{each}.py" for each in KINDS]
collect_ignore = [] if importlib.util.find_spec("skrl") else SKRL


@pytest.fixture
def tabled(record_property: Callable[[str, object], None]) -> Callable[[str, str, Mapping[str, str]], None]:
    """Return what gives a table, named by its title, a row: of whom, and what was found by the name of a column."""
    return lambda title, subject, found: record_property(f"{tables.MARK}{title}", {"": subject, **found})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tables, whichever process the tests ran in."""
    properties = [each for report in terminalreporter.getreports("passed") for each in report.user_properties]
    for title, rows in tables.tables(properties).items():
        terminalreporter.section(title)
        for line in tables.lines(rows):
            terminalreporter.write_line(line)
