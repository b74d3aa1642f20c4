"""How two runs differ: in what was set, in where they come from, and in what came out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

from keepfast.errors import shown
from keepfast.provenance.starts import ENDED, PROVENANCE
from keepfast.runs.directory import leaves
from keepfast.runs.reading import Run

PARTS = ("settings", "provenance", "metrics")
"""What runs are compared in."""

_ITS_OWN = ("experiment.experiment_name", "experiment.directory")
"""Settings in which no two runs are the same."""

Pairs = dict[str, tuple[Any, Any]]
"""What differs, by name: of the one run and of the other, None where it has none."""


def compare(one: Run, other: Run) -> dict[str, Pairs]:
    """Return what differs between two runs, in each of `PARTS`."""
    settings = _pairs(one.settings, other.settings)
    return {
        "settings": {key: pair for key, pair in settings.items() if key not in _ITS_OWN},
        "provenance": _packages_in_sum(_pairs(_origin(one), _origin(other))),
        "metrics": _pairs(_results(one), _results(other)),
    }


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Pairs:
    pairs = {key: (one.get(key), other.get(key)) for key in {**one, **other}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _origin(run: Run) -> dict[str, Any]:
    """Return where the latest start of a run comes from, each fact by its dotted path; lists as text."""
    if not run.starts:
        return {}
    start = run.starts[-1]
    ended = start.get(ENDED) if isinstance(start.get(ENDED), Mapping) else {}
    told = {**start[PROVENANCE], "versions": start.get("versions"), "resumed": start.get("resumed"), "ended": ended}
    found = {path: value for path, value in leaves(told) if value is not None and value != {}}
    if diff := found.pop("git.diff", None):
        found["git.changes"] = f"{str(diff).count(chr(10))} lines (CRC-32 {_checksum(str(diff))})"
    return {path: _text(value) for path, value in found.items() if not path.endswith("_is_whole")}


def _packages_in_sum(pairs: Pairs) -> Pairs:
    """Return what differs with one row for all packages where one of the runs keeps none."""
    ours = {key: pair for key, pair in pairs.items() if key.startswith("packages.")}
    columns = list(zip(*ours.values(), strict=True))
    if not any(set(column) == {None} for column in columns):
        return pairs
    counts = [sum(version is not None for version in column) or None for column in columns]
    return {**{key: pair for key, pair in pairs.items() if key not in ours}, "packages": (counts[0], counts[1])}


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def _text(value: Any) -> Any:
    return " ".join(map(shown, value)) if isinstance(value, list) else value


def _results(run: Run) -> dict[str, Any]:
    found = {tag: each.value for tag, each in run.latest.items() if not math.isnan(each.value)}
    return {"steps": run.steps, "best score": run.best_score, **found}
