"""Parts of modules of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import keepfast
from tests.both_backends.parts import PartsSuite
from tests.torch_backend.framework import Torch


class TestParts(Torch, PartsSuite):
    path = "actor"

    def agent(self, seed: int) -> Any:
        return nn.ModuleDict({"actor": self.actor(seed), "critic": nn.Linear(2, 1)})

    def actor(self, seed: int) -> Any:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))

    def actor_of(self, agent: Any) -> Any:
        return agent["actor"]

    def values(self, actor: Any) -> Mapping[str, Any]:
        return {path: tensor.numpy() for path, tensor in actor.state_dict().items()}

    def test_a_plain_file_goes_below_a_name(self, tmp_path: Path) -> None:
        """What `torch.save` wrote of a network, into the agent that has it as `net`."""
        net, agent = self.actor(1), nn.ModuleDict({"net": self.actor(2)})
        torch.save(net.state_dict(), tmp_path / "net.pt")
        assert keepfast.load(agent, tmp_path / "net.pt", rename={"": "net"})
        assert torch.equal(agent["net"][0].weight, net[0].weight)
