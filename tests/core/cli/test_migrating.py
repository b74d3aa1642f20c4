"""`keepfast migrate` and `keepfast convert`: what they print, and what they write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.plugins.formats import read_checkpoint
from tests.both_backends import foreign

Called = tuple[int, str, str]


def save(content: Any, path: Path) -> None:
    PtStore().save(keepfast.Checkpoint(content), path)


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the archive of a PPO of stable-baselines3, and its policy's state dict."""
    return tmp_path / "ppo.zip", foreign.stable_baselines3(save, tmp_path / "ppo.zip")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a checkpoint of Keepfast with networks of Flax, all zeros."""
    modules = {
        "policy": {"params": {**zeros(2)["params"], "log_std": np.zeros(2, "f4")}},
        "value": zeros(1),
        "optimizer": {"0": {"count": 3, "mu": zeros(1), "nu": zeros(1)}},
    }
    about = keepfast.CheckpointMetadata(
        format_version=1, keepfast="0", backend="jax", modules=tuple(modules), timestep=7
    )
    SafetensorsStore().save(keepfast.Checkpoint(modules, about.as_mapping()), tmp_path / "agent_7.safetensors")
    return tmp_path / "agent_7.safetensors"


def zeros(last: int) -> dict[str, Any]:
    sizes = [*foreign.SIZES[:2], (16, last)]
    return {
        "params": {
            f"Dense_{i}": {"kernel": np.zeros(s, "f4"), "bias": np.zeros(s[1], "f4")} for i, s in enumerate(sizes)
        }
    }


def test_migrate_shows_the_mapping_with_a_legend(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path
) -> None:
    """A row for each entry, and what each word means; a dry run writes nothing."""
    before = own.read_bytes()
    code, out, _ = call("migrate", archive[0], own, "--dry-run")
    assert code == 0
    assert "reader stable_baselines3 1, library stable-baselines3 2.9.2" in out
    row = next(line for line in out.splitlines() if line.startswith("policy.params.Dense_0.kernel"))
    assert row.split()[1:5] == ["(4,", "16)", "migrated", "mlp_extractor.policy_net.0.weight"]
    assert "migrated: has a new value" in out
    assert own.read_bytes() == before


def test_migrate_writes_the_networks_and_leaves_the_rest(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path
) -> None:
    """Values are laid out as the checkpoint has them; optimizers of another state stay behind."""
    code, _, err = call("migrate", archive[0], own)
    assert (code, err) == (0, "")
    found = read_checkpoint(own)
    assert sorted(found.modules) == ["policy", "value"]
    assert found.about.backend == "jax"
    kernel = found.modules["policy"]["params"]["Dense_1"]["kernel"]
    np.testing.assert_array_equal(kernel, archive[1]["mlp_extractor.policy_net.2.weight"].T)
    np.testing.assert_array_equal(found.modules["policy"]["params"]["log_std"], archive[1]["log_std"])


def test_migrate_takes_a_map_and_refuses_what_is_ambiguous(
    call: Callable[..., Called], own: Path, tmp_path: Path
) -> None:
    """Without the map the error names the candidates, and nothing is written; with it the layers are exchanged."""
    shapes = {"aleph": (16, 16), "bet": (16, 16)}
    tree = {
        name: {"kernel": foreign.normal(*shape), "bias": foreign.normal(shape[1])} for name, shape in shapes.items()
    }
    SafetensorsStore().save(keepfast.Checkpoint({"params": tree}), tmp_path / "source.safetensors")
    target = {"net": {"0.weight": np.zeros((16, 16), "f4"), "0.bias": np.zeros(16, "f4")}}
    target["net"] |= {"2.weight": np.zeros((16, 16), "f4"), "2.bias": np.zeros(16, "f4")}
    about = keepfast.CheckpointMetadata(format_version=1, keepfast="0", backend="torch", modules=("net",))
    PtStore().save(keepfast.Checkpoint(target, about.as_mapping()), tmp_path / "target.pt")
    before = (tmp_path / "target.pt").read_bytes()
    code, _, err = call("migrate", tmp_path / "source.safetensors", tmp_path / "target.pt")
    assert code == 1
    assert '"params.bet"' in err
    assert (tmp_path / "target.pt").read_bytes() == before
    (tmp_path / "map.json").write_text(json.dumps({"net": {"0": "bet", "2": "aleph"}}))
    code, _, _ = call(
        "migrate", tmp_path / "source.safetensors", tmp_path / "target.pt", "--map", tmp_path / "map.json"
    )
    assert code == 0
    found = read_checkpoint(tmp_path / "target.pt").modules
    np.testing.assert_array_equal(found["net"]["0.weight"], tree["bet"]["kernel"].T)


def test_migrate_prints_json(call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path) -> None:
    """The same for programs."""
    code, out, _ = call("migrate", archive[0], own, "--dry-run", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["complete"] is True
    assert {entry["status"] for entry in told["entries"]} == {"migrated"}


def test_convert_changes_the_format_alone(call: Callable[..., Called], own: Path, tmp_path: Path) -> None:
    """All modules and what the file tells of itself arrive; a file that is there is not replaced without --force."""
    assert call("convert", own, tmp_path / "agent_7.pt")[0] == 0
    one, other = read_checkpoint(own), read_checkpoint(tmp_path / "agent_7.pt")
    assert one.about == other.about
    assert keepfast.tree.flatten(one.state).keys() == keepfast.tree.flatten(other.state).keys()
    code, _, err = call("convert", own, tmp_path / "agent_7.pt")
    assert code != 0
    assert "--force" in err
    assert call("convert", own, tmp_path / "agent_7.pt", "--force")[0] == 0


def test_convert_lays_out_for_the_other_framework_and_back(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A policy alone, for deployment: PyTorch to Flax, and back to the very arrays."""
    there, back = tmp_path / "policy.safetensors", tmp_path / "policy.pt"
    assert call("convert", archive[0], there, "--to", "jax", "--modules", "policy")[0] == 0
    assert call("convert", there, back, "--to", "torch")[0] == 0
    made = read_checkpoint(there).state["params"]
    kernel = made["mlp_extractor"]["policy_net"]["0"]["kernel"]
    np.testing.assert_array_equal(kernel, archive[1]["mlp_extractor.policy_net.0.weight"].T)
    found = read_checkpoint(back).state
    expected = {name: array for name, array in archive[1].items() if "value" not in name}
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_convert_takes_names_from_another_checkpoint(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path, tmp_path: Path
) -> None:
    """`--like` gives names and layouts; the checkpoint that has them is left alone."""
    before = own.read_bytes()
    assert call("convert", archive[0], tmp_path / "made.safetensors", "--like", own)[0] == 0
    found = read_checkpoint(tmp_path / "made.safetensors").modules
    kernel = found["value"]["params"]["Dense_2"]["kernel"]
    np.testing.assert_array_equal(kernel, archive[1]["value_net.weight"].T)
    assert own.read_bytes() == before


def test_a_module_that_is_not_there_is_named(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path, tmp_path: Path
) -> None:
    """The error tells what there is."""
    code, _, err = call("convert", own, tmp_path / "x.pt", "--modules", "polcy")
    assert code == 2
    assert "Did you mean `policy`?" in err
