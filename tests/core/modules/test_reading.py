"""Checkpoints read without anything to load them into, and parts of them loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.modules.reading import part_of
from keepfast.plugins.formats import format_of

Net = Any


def run(net: Callable[..., Net], directory: Path, **settings: Any) -> Path:
    """Train for thirty timesteps, the second of three checkpoints the best; return the run's directory."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "best_metric": "a", **settings}
    with keepfast.Experiment({**cfg, "write_interval": 10, "checkpoint_interval": 10}, timesteps=30) as experiment:
        policy = net(0)
        experiment.register(policy=policy, value=net(1))
        for timestep in range(30):
            policy.arrays["head"]["bias"][:] = timestep + 1
            experiment.track_data("a", [1.0, 5.0, 2.0][timestep // 10])
            experiment.step(timestep)
    return directory / "run"


@pytest.mark.parametrize("store_separately", [False, True])
def test_a_checkpoint_is_read_without_a_target(store_separately: bool, net: Callable[..., Net], tmp_path: Path) -> None:
    """Every module is a tree of NumPy arrays by its name, with what the file tells beside them."""
    checkpoints = run(net, tmp_path, store_separately=store_separately) / "checkpoints"
    read = keepfast.read_checkpoint(checkpoints / f"{'policy' if store_separately else 'agent'}_30.safetensors")
    assert list(read) == (["policy"] if store_separately else ["policy", "value"])
    assert read["policy"]["head"]["bias"].tolist() == [30.0, 30.0]
    assert read.metadata["timestep"] == read.about.timestep == 30
    assert read.about.modules == ("policy", "value")


@pytest.mark.parametrize("store_separately", [False, True])
def test_a_runs_directory_is_its_best_or_else_its_latest(
    store_separately: bool, net: Callable[..., Net], tmp_path: Path
) -> None:
    """Reading, loading one module and loading an agent take the best; where it is damaged, the next that is whole."""
    directory = run(net, tmp_path, store_separately=store_separately)
    assert keepfast.read_checkpoint(directory)["policy"]["head"]["bias"].tolist() == [20.0, 20.0]
    other, agent = net(2), keepfast.Agent({"policy": net(3), "value": net(3)})
    assert keepfast.load(other, directory, modules=["policy"])
    assert agent.load(str(directory))
    assert other.arrays["head"]["bias"].tolist() == [20.0, 20.0]
    for path in (directory / "checkpoints").glob("best_*"):
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(keepfast.KeepfastWarning, match=r"skipped .*best_.*_30"):
        assert keepfast.load(other, directory, modules=["policy"]).timestep == 30
    for path in (directory / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(keepfast.NotFound, match="no checkpoint to load"):
        keepfast.read_checkpoint(directory)


def test_files_of_others_are_read_too(tmp_path: Path) -> None:
    """A state by itself is one module; a dict of several is as many."""
    path = tmp_path / "x.safetensors"
    for state, names in (
        ({"w": np.ones(2)}, ["module"]),
        ({"a": {"w": np.ones(2)}, "b": {"w": np.ones(1)}}, ["a", "b"]),
    ):
        format_of("checkpoint format", path).save(keepfast.Checkpoint(state), path)
        read = keepfast.read_checkpoint(path)
        assert list(read) == names
        assert read.metadata == {}


def test_reading_needs_no_framework(net: Callable[..., Net], tmp_path: Path) -> None:
    """Nothing but NumPy is imported for it."""
    path = run(net, tmp_path) / "checkpoints" / "agent_30.safetensors"
    code = (
        "import sys, keepfast; keepfast.read_checkpoint(sys.argv[1])\n"
        "assert not {'torch', 'jax', 'flax', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_part_is_found_by_its_path() -> None:
    """In nested containers, in states whose keys are paths, and where one is in the other."""
    nested = {"params": {"dense": {"kernel": 1}}, "list": [{"x": 2}]}
    flat = {"actor.0.weight": 1, "actor.0.bias": 2, "critic.0.weight": 3}
    assert part_of(nested, "params.dense") == {"kernel": 1}
    assert part_of(nested, "list.0.x") == 2
    assert part_of(flat, "actor") == {"0.weight": 1, "0.bias": 2}
    assert part_of({"agent": flat}, "agent.actor.0") == {"weight": 1, "bias": 2}
    assert part_of(flat, "act") is None
    assert part_of(nested, "params.other") is None


@pytest.mark.parametrize(
    "how", [{"modules": ["agent.actor"]}, {"rename": {"agent.actor": ""}}, {"modules": ["agent.actor"], "rename": {}}]
)
def test_a_part_of_a_module_is_loaded(how: dict[str, Any], net: Callable[..., Net], tmp_path: Path) -> None:
    """The rest of the file is of no account; the report names the part's entries with their path."""
    saved, other = net(1), net(2)
    whole = net(0)
    whole.arrays = {"actor": saved.arrays, "critic": {"w": np.ones(1)}}
    path = keepfast.Agent({"agent": whole, "value": net(3)}).save(tmp_path / "agent.safetensors")
    report = keepfast.load(other, path, **how)
    assert report
    assert set(report.loaded) >= {"agent.actor.body.weight", "agent.actor.head.bias"}
    assert (other.arrays["body"]["weight"] == saved.arrays["body"]["weight"]).all()


def test_a_file_is_loaded_below_a_name(net: Callable[..., Net], tmp_path: Path) -> None:
    """`{"": "net"}` puts what the file has in the place of what is below `net`."""
    saved, other = net(1), net(0)
    other.arrays = {"net": net(2).arrays}
    path = keepfast.save(saved, tmp_path / "net.safetensors")
    assert keepfast.load(other, path, rename={"": "net"})
    assert (other.arrays["net"]["body"]["weight"] == saved.arrays["body"]["weight"]).all()


def test_a_part_that_is_not_there_is_told(net: Callable[..., Net], tmp_path: Path) -> None:
    """The error names the modules that the file has, and what was asked for."""
    path = keepfast.Agent({"agent": net(0), "value": net(1)}).save(tmp_path / "agent.safetensors")
    with pytest.raises(keepfast.LoadMismatch, match=r"holds the modules agent, value, and nothing at agent\.actr; say"):
        keepfast.load(net(2), path, modules=["agent.actr"])
