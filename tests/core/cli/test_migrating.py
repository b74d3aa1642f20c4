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
    """Values are laid out as the checkpoint has them; an optimizer that gets no state is not written."""
    code, _, err = call("migrate", archive[0], own, "--force")
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
    code, _, err = call("migrate", tmp_path / "source.safetensors", tmp_path / "target.pt", "--force")
    assert code == 1
    assert '"params.bet"' in err
    assert (tmp_path / "target.pt").read_bytes() == before
    (tmp_path / "map.json").write_text(json.dumps({"net": {"0": "bet", "2": "aleph"}}))
    code, _, _ = call(
        "migrate", tmp_path / "source.safetensors", tmp_path / "target.pt", "--map", tmp_path / "map.json", "--force"
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


def test_migrate_replaces_nothing_that_it_was_not_told_to(
    call: Callable[..., Called], archive: tuple[Path, dict[str, Any]], own: Path, tmp_path: Path
) -> None:
    """Neither the checkpoint nor what is at --output, without --force; the error says what to do."""
    before = own.read_bytes()
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    for output in ([], ["--output", tmp_path / "there.safetensors"]):
        code, out, err = call("migrate", archive[0], own, *output)
        assert (code, out) == (1, "")
        assert "is there already" in err
        assert all(option in err for option in ("--output", "--force", "--dry-run"))
    assert call("migrate", archive[0], own, "--output", tmp_path / "made.safetensors")[0] == 0
    assert own.read_bytes() == before
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    assert call("migrate", archive[0], own, "--output", tmp_path / "there.safetensors", "--force")[0] == 0
    assert read_checkpoint(tmp_path / "there.safetensors").modules.keys() == {"policy", "value"}
    code, _, err = call("migrate", archive[0], "hf://org/name/agent.pt")
    assert code == 1
    assert "`--output FILE`" in err


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Return a checkpoint of PyTorch with a policy and its AdamW, made of arrays."""
    policy = foreign.weights(("0", "2", "4"))
    state = {
        number: {"step": np.float32(9), "exp_avg": foreign.normal(*array.shape), "exp_avg_sq": array * array}
        for number, array in enumerate(policy.values())
    }
    group = {"lr": 3e-4, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": False}
    group |= {"decoupled_weight_decay": True, "maximize": False, "params": list(range(6))}
    names = {"optimizer": [[f"policy.{name}" for name in policy]]}
    about = keepfast.CheckpointMetadata(
        format_version=1, keepfast="0", backend="torch", modules=("policy", "optimizer"), names=names
    )
    modules = {"policy": policy, "optimizer": {"state": state, "param_groups": [group]}}
    PtStore().save(keepfast.Checkpoint(modules, about.as_mapping()), tmp_path / "agent_9.pt")
    return tmp_path / "agent_9.pt"


def test_convert_takes_optimizers_along(call: Callable[..., Called], trained: Path, tmp_path: Path) -> None:
    """Into the state that optax begins with, of which the call is told; the rate, which no such state has, stays."""
    there = tmp_path / "agent_9.safetensors"
    code, _, err = call("convert", trained, there, "--to", "jax")
    assert code == 0
    assert "optax.adamw(0.0003, b1=0.9, b2=0.99, eps=1e-08, weight_decay=0.1)" in err
    own, found = read_checkpoint(trained).modules["optimizer"]["state"], read_checkpoint(there).modules["optimizer"]
    assert (int(found[0]["count"]), len(found)) == (9, 3)
    np.testing.assert_array_equal(found[0]["mu"]["params"]["2"]["kernel"], own[2]["exp_avg"].T)
    np.testing.assert_array_equal(found[0]["nu"]["params"]["4"]["bias"], own[5]["exp_avg_sq"])
    code, _, err = call("convert", there, tmp_path / "back.pt", "--to", "torch")
    assert code == 0
    assert "optimizer: left" in err
    assert "--like" in err
    code, _, err = call("convert", there, tmp_path / "back.pt", "--like", trained, "--force")
    assert code == 0
    back = read_checkpoint(tmp_path / "back.pt").modules["optimizer"]
    assert back["param_groups"][0]["lr"] == 3e-4
    for number, entry in own.items():
        for name, array in entry.items():
            np.testing.assert_array_equal(back["state"][number][name], array)


def test_convert_takes_the_rate_where_it_was_injected(
    call: Callable[..., Called], trained: Path, tmp_path: Path
) -> None:
    """A state of `optax.inject_hyperparams` becomes a whole optimizer of PyTorch, its parameters with their names."""
    call("convert", trained, tmp_path / "there.safetensors", "--to", "jax")
    found = read_checkpoint(tmp_path / "there.safetensors")
    hyperparameters = {"learning_rate": 2e-3, "b1": 0.8, "b2": 0.9, "eps": 1e-8, "weight_decay": 0.2}
    state = {"count": np.int32(9), "hyperparams": {n: np.float64(v) for n, v in hyperparameters.items()}}
    state |= {"hyperparams_states": {}, "inner_state": found.modules["optimizer"]}
    modules = {"policy": found.modules["policy"], "optimizer": state}
    SafetensorsStore().save(keepfast.Checkpoint(modules, found.metadata), tmp_path / "injected.safetensors")
    assert call("convert", tmp_path / "injected.safetensors", tmp_path / "back.pt", "--to", "torch")[0] == 0
    made = read_checkpoint(tmp_path / "back.pt").modules["optimizer"]
    (group,) = made["param_groups"]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-3, (0.8, 0.9), 0.2)
    assert group["decoupled_weight_decay"] is True
    assert group["param_names"][2] == "policy.2.weight"
    expected = read_checkpoint(trained).modules["optimizer"]["state"][2]
    np.testing.assert_array_equal(made["state"][2]["exp_avg"], expected["exp_avg"])


def test_a_part_is_taken_without_its_optimizer(call: Callable[..., Called], trained: Path, tmp_path: Path) -> None:
    """Unless it is named too: a policy alone is for deployment."""
    for chosen, modules in (("policy", None), ("policy,optimizer", {"policy", "optimizer"})):
        assert call("convert", trained, tmp_path / "part.pt", "--modules", chosen, "--force")[0] == 0
        made = read_checkpoint(tmp_path / "part.pt")
        assert set(made.modules) == (modules or {"policy"})


def test_migrate_carries_the_optimizer(call: Callable[..., Called], trained: Path, tmp_path: Path) -> None:
    """Its row says what it is and how many steps it has made; in JSON too."""
    call("convert", trained, tmp_path / "other.safetensors", "--to", "jax")
    found = read_checkpoint(tmp_path / "other.safetensors")
    empty = keepfast.tree.map_leaves(lambda _, leaf: np.zeros_like(leaf), found.state)
    SafetensorsStore().save(keepfast.Checkpoint(empty, found.metadata), tmp_path / "own.safetensors")
    code, out, _ = call("migrate", trained, tmp_path / "own.safetensors", "--force")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("optimizer"))
    assert row.split() == ["optimizer", "optimizer", "migrated", "optimizer", "Adam,", "9", "steps"]
    one, other = read_checkpoint(tmp_path / "own.safetensors"), found
    for path, leaf in keepfast.tree.flatten(other.state).items():
        np.testing.assert_array_equal(keepfast.tree.flatten(one.state)[path], leaf)
    _, out, _ = call("migrate", trained, tmp_path / "own.safetensors", "--dry-run", "--json")
    (told,) = json.loads(out)["optimizers"]
    assert (told["status"], told["steps"], told["kind"]) == ("migrated", 9, "Adam")
