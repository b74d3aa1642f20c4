"""The format of a file, by its name."""

from __future__ import annotations

from pathlib import Path

from keepfast.plugins.formats import numeric_order


def test_numbers_in_names_sort_as_numbers() -> None:
    """2 comes before 10, wherever in the name it stands."""
    names = ["m_10_a.pt", "m_9_b.pt", "m_9_a.pt", "m.pt", "a_100.pt"]
    assert sorted(names, key=lambda name: numeric_order(Path(name))) == [
        "a_100.pt",
        "m.pt",
        "m_9_a.pt",
        "m_9_b.pt",
        "m_10_a.pt",
    ]
