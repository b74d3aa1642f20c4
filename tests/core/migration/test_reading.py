"""What needs no framework to be read: networks that nothing names, and normalisers that are kept otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.migration.readers.torchrl import TorchRlReader
from tests.both_backends import foreign

SIZES = {"policy": [(3, 8), (8, 8), (8, 2)], "value": [(3, 8), (8, 8), (8, 1)]}


def test_unnamed_networks_are_told_apart_by_where_they_stand(tmp_path: Path) -> None:
    """Of two that are alike but for the last layer, each goes where all of it has a place."""
    tree: dict[str, Any] = {}
    modules: dict[str, Any] = {}
    for at, (name, sizes) in enumerate(SIZES.items()):
        layers = enumerate(sizes)
        tree[str(at)] = {f"Dense_{i}": {"kernel": foreign.normal(*s), "bias": foreign.normal(s[1])} for i, s in layers}
        modules[name] = {f"{i}.weight": np.zeros((s[1], s[0]), "f4") for i, s in enumerate(sizes)}
        modules[name] |= {f"{i}.bias": np.zeros(s[1], "f4") for i, s in enumerate(sizes)}
    SafetensorsStore().save(keepfast.Checkpoint(tree), tmp_path / "flax.safetensors")
    assert keepfast.Agent(modules).migrate(tmp_path / "flax.safetensors")
    for at, name in enumerate(SIZES):
        for number in range(3):
            np.testing.assert_array_equal(
                modules[name][f"{number}.weight"], tree[str(at)][f"Dense_{number}"]["kernel"].T
            )


NORMS = {
    "standard": {"standard_normal": np.array(True), "loc": np.array([1.0, 2, 3, 4]), "scale": np.array([2.0, 4, 5, 8])},
    "affine": {
        "standard_normal": np.array(False),
        "loc": -np.array([1.0, 2, 3, 4]) / np.array([2.0, 4, 5, 8]),
        "scale": 1 / np.array([2.0, 4, 5, 8]),
    },
}


@pytest.mark.parametrize("kind", NORMS)
def test_torchrl_brings_the_normalisers_of_its_environment(kind: str, tmp_path: Path) -> None:
    """Of an ObservationNorm that multiplies, and of one that divides, the mean and the variance are the same."""
    env = {f"transforms.0.{name}": array for name, array in NORMS[kind].items()}
    actor = foreign.weights(tuple(f"module.0.module.0.{number}" for number in (0, 2, 4)))
    PtStore().save(keepfast.Checkpoint({"policy": actor, "env": env}), tmp_path / "agent.pt")
    assert TorchRlReader().recognizes(tmp_path / "agent.pt")
    found = TorchRlReader().read(tmp_path / "agent.pt")
    np.testing.assert_allclose(found.modules["env"]["transforms.0.normalizer.mean"], [1, 2, 3, 4])
    np.testing.assert_allclose(found.modules["env"]["transforms.0.normalizer.var"], [4, 16, 25, 64])
    assert found.notes == ("its observations are (x - mean) / sqrt(var)",)
