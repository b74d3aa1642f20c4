"""The page of what migrates says what the tests go by, and nothing else."""

from __future__ import annotations

from keepfast.plugins.discovery import registry
from tests.core.migration import tables
from tests.core.migration.library_rows import LIBRARIES


def test_the_page_is_what_the_tests_go_by() -> None:
    """It is written by `python -m tests.core.migration.tables`, and was since a table changed last."""
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()


def test_every_reader_has_a_row() -> None:
    """And every row a reader."""
    built_in = {each.name for each in registry().provided("checkpoint reader") if each.distribution == "keepfast"}
    assert {row.reader for row in LIBRARIES} == built_in


def test_no_table_is_empty_or_ragged() -> None:
    """Each has rows, all of as many cells as there are columns, and no two of one name."""
    for table in tables.TABLES:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert len({row[0] for row in table.rows}) == len(table.rows)
