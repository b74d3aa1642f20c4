"""Minari's ``metadata.json``: what a dataset is called, how much it holds, and the spaces of its values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue
from keepfast.formats.memories.minari.episodes import episodes
from keepfast.formats.memories.minari.values import stored_dtype
from keepfast.formats.memories.minari.writing import is_discrete, observations_of
from keepfast.interfaces.memory_exporter import MemorySnapshot

_MINARI_VERSION = "0.5.0"


def metadata_of(snapshot: MemorySnapshot, name: str) -> bytes:
    """Return what Minari wants to know of a dataset, as JSON.

    Raises:
        InvalidValue: if a tensor that Minari needs is missing, or of a dtype that its spaces do not have.
    """
    observations, actions = snapshot.tensors[observations_of(snapshot.tensors)], snapshot.tensors["actions"]
    return json.dumps(
        {
            "dataset_id": f"keepfast/{name.partition('.')[0]}-v0",
            "minari_version": _MINARI_VERSION,
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "total_episodes": sum(1 for episode in episodes(snapshot) if episode.is_valid),
            "total_steps": sum(episode.steps for episode in episodes(snapshot) if episode.is_valid),
            "observation_space": _box(observations),
            "action_space": _discrete(actions) if is_discrete(actions) else _box(actions),
            "description": "Exported by Keepfast.",
            "code_permalink": "",
            "author": [],
            "author_email": [],
            "algorithm_name": str(snapshot.metadata.get("agent", "")),
            "keepfast": True,
        }
    ).encode()


def _discrete(tensor: NDArray[Any]) -> str:
    count = int(tensor.max(initial=0)) + 1
    return json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": count})


def _box(tensor: NDArray[Any]) -> str:
    """Return the space of all values of a dtype and shape, as Minari writes spaces."""
    dtype, size = stored_dtype(tensor.dtype), tensor.shape[2:]
    limits: tuple[Any, Any] = (-np.inf, np.inf)
    if dtype.kind in "iu":
        limits = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    elif dtype.kind == "b":
        limits = (0, 1)
    elif dtype.kind != "f":
        raise InvalidValue(f"observations and actions of {dtype} have no space in Minari; allowed: real numbers, bool")
    low, high = (np.full(size, limit, dtype).tolist() for limit in limits)
    return json.dumps({"type": "Box", "dtype": str(dtype), "shape": list(size), "low": low, "high": high})
