"""Minari's ``metadata.json``: what a dataset is called, how much it holds, and the spaces of its values."""

from __future__ import annotations

import json

from keepfast.formats.memories.minari.episodes import episodes
from keepfast.formats.memories.minari.spaces import place_of_actions, place_of_observations
from keepfast.interfaces.memory_exporter import MemorySnapshot

ENDING = b"\n\n"
"""How the file ends where we wrote it; Minari writes none of the two."""

_MINARI_VERSION = "0.5.0"


def metadata_of(snapshot: MemorySnapshot, name: str) -> bytes:
    """Return what Minari wants to know of a dataset, as JSON.

    Raises:
        InvalidValue: if a tensor that Minari needs is missing, or of a dtype that its spaces do not have.
    """
    observations, actions = place_of_observations(snapshot), place_of_actions(snapshot)
    return (
        json.dumps(
            {
                "dataset_id": f"keepfast/{name.partition('.')[0]}-v0",
                "minari_version": _MINARI_VERSION,
                "data_format": "hdf5",
                "jpeg_encoding": False,
                "total_episodes": sum(1 for episode in episodes(snapshot) if episode.is_valid),
                "total_steps": sum(episode.steps for episode in episodes(snapshot) if episode.is_valid),
                "observation_space": json.dumps(observations.space),
                "action_space": json.dumps(actions.space),
                "description": "Exported by Keepfast.",
                "code_permalink": "",
                "author": [],
                "author_email": [],
                "algorithm_name": str(snapshot.metadata.get("agent", "")),
            }
        ).encode()
        + ENDING
    )


def is_changed_by_others(content: bytes) -> bool:
    """Say whether another tool has written such a file anew, as Minari does to change a word in it."""
    if b"\n" in content[content.rfind(b"}") + 1 :]:
        return False
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False
