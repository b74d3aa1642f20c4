"""How what a checkpoint holds shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepfast._system.notebook.tables import facts, folded, table
from keepfast.errors import as_given, shown
from keepfast.tree import Tree, is_array, leaves

_TOLD = ("keepfast", "backend", "timestep", "metric", "time")
"""What is told of the metadata."""


def contents_line(modules: Mapping[str, Tree], metadata: Mapping[str, Any]) -> str:
    """Return modules with their numbers of entries and bytes in one line."""
    step = f"timestep {metadata['timestep']}, " if isinstance(metadata.get("timestep"), int) else ""
    return f"{step}{', '.join(f'{shown(name)}: {_size(tree)}' for name, tree in modules.items()) or 'no modules'}"


def contents_page(title: object, modules: Mapping[str, Tree], metadata: Mapping[str, Any]) -> str:
    """Return the same as HTML, each module's entries behind its name."""
    told = [(key, metadata[key]) for key in _TOLD if metadata.get(key) is not None]
    parts = ((f"{shown(name)}: {_size(tree)}", _rows(tree)) for name, tree in modules.items())
    return facts(title, told) + "".join(folded(head, table(("entry", "what"), rows)) for head, rows in parts)


def _size(tree: Tree) -> str:
    entries = [leaf for _, leaf in leaves(tree)]
    size = sum(int(leaf.nbytes) for leaf in entries if is_array(leaf))
    return f"{len(entries)} entries, {size:,} bytes"


def _rows(tree: Tree) -> Iterator[tuple[str, str]]:
    for path, leaf in leaves(tree):
        yield path or "(root)", f"{leaf.dtype}{tuple(leaf.shape)}" if is_array(leaf) else as_given(leaf)
