"""The starts of a run, as its configuration file tells of them: each whole, though a file has only what changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PROVENANCE = "provenance"
"""The key of a start that says where it comes from."""

ENDED = "ended"
"""The key of a start that says how it ended, None as long as it did not."""

_MOST_BYTES = 1 << 21
"""How many bytes of differences of code a file keeps of all starts before the latest."""


def shortened(provenance: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a start comes from without what it has in common with the one before; `whole` undoes it."""
    gone = {key: None for key in before if key not in provenance}
    return {**gone, **{key: value for key, value in provenance.items() if before.get(key) != value}}


def whole(starts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each start with all that is known of where it comes from, and with its whole configuration."""
    found: list[dict[str, Any]] = []
    provenance: dict[str, Any] = {}
    config: Any = None
    for start in starts:
        told = start.get(PROVENANCE)
        if isinstance(told, Mapping):
            provenance = {key: value for key, value in {**provenance, **told}.items() if value is not None}
        config = start.get("config", config)
        found.append({**start, PROVENANCE: provenance if isinstance(told, Mapping) else {}, "config": config})
    return found


def bounded(starts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return earlier starts without the oldest differences of code, where they are many."""
    kept, size = [dict(start) for start in starts], 0
    for start in reversed(kept):
        code = (start.get(PROVENANCE) or {}).get("git") if isinstance(start.get(PROVENANCE), Mapping) else None
        if not isinstance(code, Mapping) or "diff" not in code:
            continue
        size += len(json.dumps(code))
        if size > _MOST_BYTES:
            short = {**code, "diff": "", "diff_is_whole": False, "untracked": [], "untracked_is_whole": False}
            start[PROVENANCE] = {**start[PROVENANCE], "git": short}
    return kept


def for_strangers(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration file tells without what is nobody else's business: machine, command, code, paths."""
    own = {PROVENANCE, "process", "resumed", "warnings"}
    starts = document.get("starts")
    if not isinstance(starts, list):
        return dict(document)
    told = [_without(start, own) for start in starts if isinstance(start, Mapping)]
    return {**document, "starts": told}


def _without(start: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in start.items() if key not in keys}
    ended = kept.get(ENDED)
    if isinstance(ended, Mapping):  # an error's text may hold anything
        kept[ENDED] = {key: value for key, value in ended.items() if key != "error"}
    return kept
