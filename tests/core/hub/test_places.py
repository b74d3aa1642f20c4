"""Every place that takes a path takes an address of the Hub; every place that writes refuses one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.plugins.formats import format_of
from tests.core.hub.hub_server import COMMIT, Hub

pytestmark = pytest.mark.needs("huggingface_hub")

Called = tuple[int, str, str]
CHECKPOINT, MEMORY = "hf://org/kept/agent.safetensors", "hf://org/kept/memory.npz"
REVISED = f"hf://org/kept@{COMMIT}/agent.safetensors"
METRICS = "hf://org/kept/metrics.jsonl"
ELSEWHERE = "hf://org/kept/written"


def module() -> dict[str, Any]:
    return {"w": np.zeros(3)}


def agent() -> keepfast.Agent:
    return keepfast.Agent({"policy": module()}, cfg={"experiment": {"writers": []}})


def resumed(where: str) -> int:
    with keepfast.Experiment({"experiment_name": "resumed", "writers": []}, name="PPO", timesteps=4) as experiment:
        experiment.register(policy=module())
        return experiment.resume(where)


@pytest.fixture(autouse=True)
def _kept(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a checkpoint, a memory and metrics on the hub, and on this machine."""
    monkeypatch.chdir(tmp_path)
    keepfast.Agent({"policy": {"w": np.arange(3.0)}}).save("agent.safetensors")
    states = np.arange(24, dtype="float32").reshape(4, 2, 3)
    snapshot = keepfast.MemorySnapshot({"states": states}, memory_index=0, env_index=0, filled=True, metadata={})
    format_of("memory format", Path("memory.npz")).save(snapshot, Path("memory.npz"))
    Path("metrics.jsonl").write_text('{"step": 1, "wall_time": 2.0, "scalars": {"Loss / Policy loss": 0.5}}\n')
    names = ("agent.safetensors", "memory.npz", "metrics.jsonl")
    hub.files["org/kept"] = {path.name: path.read_bytes() for path in map(Path, names)}


READS: dict[str, Callable[[], Any]] = {
    "load": lambda: keepfast.load(module(), CHECKPOINT, modules=["policy"]),
    "load of a revision": lambda: keepfast.load(module(), REVISED, modules=["policy"]),
    "agent.load": lambda: agent().load(CHECKPOINT),
    "agent.migrate": lambda: agent().migrate(CHECKPOINT),
    "agent.resume": lambda: agent().resume(CHECKPOINT) + 1,
    "migrate": lambda: keepfast.migrate(module(), CHECKPOINT),
    "resume": lambda: resumed(CHECKPOINT) + 1,
    "read_checkpoint": lambda: keepfast.read_checkpoint(CHECKPOINT),
    "read_memory": lambda: len(keepfast.read_memory(MEMORY)) == 8,
    "iter_memories": lambda: len(list(keepfast.iter_memories(MEMORY))) == 1,
    "convert_memory": lambda: keepfast.convert_memory(MEMORY, "converted.npz"),
    "merge_memories": lambda: keepfast.merge_memories(MEMORY, "merged.npz"),
    "read_metrics": lambda: keepfast.read_metrics(METRICS)["Loss / Policy loss"].steps.tolist() == [1],
    "iter_metrics": lambda: len(list(keepfast.iter_metrics(METRICS))) == 1,
    "push": lambda: keepfast.hub.push(CHECKPOINT, "org/again"),
}


@pytest.mark.parametrize("place", READS)
def test_an_address_is_read(place: str) -> None:
    """What stands at the address is what is read."""
    assert READS[place]()


COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", CHECKPOINT),
    "verify": ("verify", CHECKPOINT),
    "migrate from": ("migrate", CHECKPOINT, "agent.safetensors", "--dry-run"),
    "migrate into": ("migrate", "agent.safetensors", CHECKPOINT, "--output", "migrated.safetensors"),
    "convert": ("convert", CHECKPOINT, "converted.safetensors"),
    "convert like": ("convert", "agent.safetensors", "converted.safetensors", "--like", CHECKPOINT),
    "memory inspect": ("memory", "inspect", MEMORY),
    "memory verify": ("memory", "verify", MEMORY),
    "memory convert": ("memory", "convert", MEMORY, "converted.npz"),
    "memory merge": ("memory", "merge", MEMORY, "merged.npz"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_an_address(command: str, call: Callable[..., Called]) -> None:
    """It ends as with a file of this machine."""
    code, _, told = call(*COMMANDS[command])
    assert (code, told) == (0, "")


WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: keepfast.save(module(), f"{ELSEWHERE}.safetensors"),
    "save to a Path": lambda: keepfast.save(module(), Path(f"{ELSEWHERE}.safetensors")),
    "agent.save": lambda: agent().save(f"{ELSEWHERE}.safetensors"),
    "experiment": lambda: keepfast.Experiment({"directory": ELSEWHERE, "writers": []}, name="PPO", timesteps=4),
    "convert_memory": lambda: keepfast.convert_memory("memory.npz", f"{ELSEWHERE}.npz"),
    "merge_memories": lambda: keepfast.merge_memories("memory.npz", f"{ELSEWHERE}.npz"),
    "pull": lambda: keepfast.hub.pull("org/kept", ELSEWHERE),
}


@pytest.mark.parametrize("place", WRITES)
def test_an_address_is_not_written_to(place: str, hub: Hub, tmp_path: Path) -> None:
    """It says how to get there; no directory of that name is made, and nothing is changed on the hub."""
    before = {name: set(files) for name, files in hub.files.items()}
    with pytest.raises(keepfast.InvalidValue, match=r"hf://org/kept/written.*no place on this machine.*hub\.push"):
        WRITES[place]()
    assert not (tmp_path / "hf:").exists()
    assert {name: set(files) for name, files in hub.files.items()} == before


@pytest.mark.parametrize("revision", ["feature%2Fnew", "refs/pr/3", "refs%2Fpr%2F3"])
def test_a_revision_may_have_slashes(revision: str) -> None:
    """Written as the client writes them; that there is none is told by its name."""
    told = revision.replace("%2F", "/")
    with pytest.raises(keepfast.NotFound, match=f"no revision `{told}`"):
        keepfast.load(module(), f"hf://org/kept@{revision}/agent.safetensors")
