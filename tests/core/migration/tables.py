"""Writes the page of what migrates, ``docs/migration-tables.md``, from the tables that the tests themselves go by.

``python -m tests.core.migration.tables`` writes it; `tests/architecture/test_migration_tables.py` holds it to them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.core.migration.layer_rows import LAYERS
from tests.core.migration.library_rows import LIBRARIES
from tests.core.migration.optimizer_rows import OPTIMIZERS

PAGE = Path(__file__).parents[3] / "docs" / "migration-tables.md"

_HEAD = """# What migrates: the tables

This page is generated from the tables that the tests go by, with `python -m tests.core.migration.tables`: each row is
tested as it stands here. How to use it is told in [Checkpoints from elsewhere](migrating.md).
"""


@dataclass(frozen=True)
class Table:
    """One table of the page.

    Attributes:
        title: its headline.
        tested_by: the test that goes by its rows, as a path, and what it shows of each, in a sentence.
        columns: the headers.
        rows: the cells, as Markdown.
    """

    title: str
    tested_by: tuple[str, str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        path, shown = self.tested_by
        told = textwrap.fill(f"`{path}`: {shown}", 120, break_on_hyphens=False)
        lines = [f"## {self.title}", "", told, "", _line(self.columns), _line(["---"] * len(self.columns))]
        return "\n".join([*lines, *map(_line, self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _layers() -> Table:
    rows = [
        (row.kind, _code(row.torch), _code(row.flax), "equal bits" if row.is_unique else "equal outputs, see the note")
        for row in LAYERS
    ]
    shown = (
        "outputs agree to 1e-12 in float64 (1e-5 in float32) each way. Where PyTorch keeps two biases for each gate "
        "and Flax their sum, the way back is not unique, which the report tells. What an optimizer keeps for the layer "
        "goes the same way."
    )
    return Table(
        "Layers",
        ("tests/core/migration/test_layouts.py", shown),
        ("kind", "PyTorch", "Flax", "weights after the way there and back"),
        rows,
    )


def _optimizers() -> Table:
    rows = [
        (
            row.kind,
            f"`torch.optim.{row.torch}`",
            f"`{row.optax}`",
            "equal bits" if row.is_exact else "to one rounding",
            "counted" if row.is_counted else "not counted by optax",
        )
        for row in OPTIMIZERS
    ]
    shown = (
        "a network with a convolution, a dense layer behind a flatten, and a GRU takes some steps in PyTorch and goes "
        "to Flax with its optimizer; the next 100 steps on equal gradients agree within 1e-5 in float64 (two rows: in "
        "float32), and so they do after the way back. `kernels` are the parameters of more than one axis, `biases` the "
        "others, `axes` says which is which."
    )
    return Table(
        "Optimizers",
        ("tests/core/migration/test_optimizers.py", shown),
        ("kind", "PyTorch", "optax", "what is kept, after the way there and back", "its steps"),
        rows,
    )


def _libraries() -> Table:
    shown = (
        "each algorithm is trained for some steps with the library itself, and its checkpoint migrated into PyTorch "
        "and into Flax; both give the library's own deterministic actions on 100 raw observations, to 1e-5, normalised "
        "by the statistics that came with it."
    )
    rows = [
        (row.library, ", ".join(row.algorithms), row.versions, row.files, row.brings, f"`{row.reader}`")
        for row in LIBRARIES
    ]
    return Table(
        "Libraries and algorithms",
        ("tests/peers", shown),
        ("library", "algorithms", "versions", "files", "brings", "reader"),
        rows,
    )


TABLES = (_libraries(), _layers(), _optimizers())
"""Every table of the page, in its order. Another is a row here, made of what its tests go by."""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(f"{table}\n" for table in TABLES)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
