"""Agents of PyTorch are on the device that their constructor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from keepfast_torch import RandomMemory  # noqa: E402


def cfg_in(directory: Path) -> dict[str, Any]:
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"]}}


@pytest.mark.parametrize("device", ["cud:7", "cuda:99", "cpu:x", torch.float32, object()])
def test_a_device_that_is_none_is_told(device: Any, tmp_path: Path) -> None:
    """At construction, with the devices that there are."""
    with pytest.raises(keepfast.InvalidValue, match=r"there is no device .*; known: cpu"):
        keepfast.Agent({"policy": torch.nn.Linear(2, 1)}, device=device, cfg=cfg_in(tmp_path))
    with pytest.raises(keepfast.InvalidValue, match="there is no device"):
        RandomMemory(2, device=device)


class Policy(torch.nn.Linear):
    """Tells where it is moved."""

    def to(self, *where: Any) -> Any:
        self.moved_to = where
        return super().to(*where)


def test_a_load_moves_modules_to_the_agents_device(tmp_path: Path) -> None:
    """As a resume does, whatever the framework takes for a device; the agent's memory stays on its own."""
    first = keepfast.Agent({"policy": Policy(2, 1)}, cfg=cfg_in(tmp_path))
    path = first.save(tmp_path / "agent.pt")
    for device in ("cpu", torch.device("cpu")):
        agent = keepfast.Agent({"policy": Policy(2, 1)}, device=device, cfg=cfg_in(tmp_path))
        agent.load(path)
        assert agent.models["policy"].moved_to == (torch.device("cpu"),)
        assert torch.equal(agent.models["policy"].weight, first.models["policy"].weight)
        agent.models["policy"].moved_to = None
        agent.resume(path)
        assert agent.models["policy"].moved_to == (torch.device("cpu"),)
        agent.close()
