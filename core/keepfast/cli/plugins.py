"""``keepfast plugins``: what is installed, where it comes from and whether it is ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.text import Text

from keepfast.cli import console
from keepfast.plugins.discovery import PluginRegistry, Provided, registry

_COLUMNS = ("name", "kind", "distribution", "version", "status")


def plugins(as_json: console.AsJson = False) -> None:
    """List backends, writers and formats, with what each needs."""
    found = rows(registry())
    if as_json:
        listed = [dict(zip(_COLUMNS, row, strict=True)) for row in found]
        console.print_json({"kind": "plugins", "plugins": listed})
        return
    table = console.table(*_COLUMNS)
    for row in found:
        table.add_row(*(Text(cell) for cell in row))
    console.output().print(table)


def rows(known: PluginRegistry) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a row for everything provided, then one for every plugin that is broken."""
    everything = list(known.everything())
    claims = Counter((provided.kind, provided.name) for provided in everything)
    for provided in everything:
        status = _status(provided, claims[provided.kind, provided.name])
        yield provided.name, provided.kind, provided.distribution, provided.version, status
    for broken in known.broken:
        cause = " ".join(f"broken: {type(broken.cause).__name__}: {broken.cause}".split())  # a row is one line
        yield broken.entry_point, "plugin", broken.distribution, broken.version, cause


def _status(provided: Provided, claims: int) -> str:
    if claims > 1:
        return f"conflict: {claims} plugins claim this name; uninstall all but one"
    return provided.status
