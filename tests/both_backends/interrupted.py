"""Trainings that are cut off, and what they leave to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TIMESTEPS = 60


class Interrupted(Exception):
    """Stands for whatever ends a training before its last timestep."""


def rows(directory: Path) -> list[tuple[int, dict[str, float]]]:
    """Return what the run in a directory tracked: the steps, each with its values."""
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["scalars"]) for row in map(json.loads, lines) if "scalars" in row]


def assert_same_bits(actual: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Compare two states, flat, bit by bit."""
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(actual[path], value, err_msg=str(path))
