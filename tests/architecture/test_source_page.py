"""The page that goes through the source page names tests that exist, and leaves no number out."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_test_that_is_named_exists(project: Path) -> None:
    """By its file and its name."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (project / "docs" / "source-page.md").read_text("utf-8"))
    assert len(named) > 40
    texts = {path: (project / path).read_text("utf-8") for path, _ in named}
    assert [(path, name) for path, name in named if f"def {name}(" not in texts[path]] == []


def test_every_statement_has_its_number_and_its_test(project: Path) -> None:
    """Only what is not there yet has none."""
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (project / "docs" / "source-page.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert [number for number, row in rows if "tests/" not in row] == []
