"""Tables of HTML, as notebooks show objects: every text escaped, short, and with no style but the notebook's own."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import islice

from keepfast.errors import shown

_MOST_ROWS = 200


def text(value: object) -> str:
    """Return text that may be anybody's as HTML."""
    return html.escape(shown(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; of many rows the first ones, and how many more there are.

    Args:
        columns: the headers.
        rows: the cells of each row, as text.
    """
    every = iter(rows)
    listed = list(islice(every, _MOST_ROWS))
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in listed)
    more = sum(1 for _ in every)
    return f"<table><tr>{head}</tr>{body}</table>" + (f"<p>and {more:,} more</p>" if more else "")


def facts(title: object, pairs: Iterable[tuple[str, object]]) -> str:
    """Return what is known of something, each fact behind its label."""
    rows = "".join(f"<tr><th>{text(label)}</th><td>{text(value)}</td></tr>" for label, value in pairs)
    return f"<p><b>{text(title)}</b></p><table>{rows}</table>"


def folded(title: str, inner: str) -> str:
    """Return something that is shown once its title is clicked."""
    return f"<details><summary>{text(title)}</summary>{inner}</details>"
