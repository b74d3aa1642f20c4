"""Modules that did not change since a checkpoint before, on PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.both_backends.unchanged import UnchangedSuite  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402


class TestTorchUnchanged(Torch, UnchangedSuite):
    def make(self) -> dict[str, Any]:
        self.trunk, self.head, self.target = torch.nn.Linear(200, 100), torch.nn.Linear(4, 3), torch.nn.Linear(40, 30)
        for net, number in ((self.trunk, 0.5), (self.head, 0.0), (self.target, 0.0)):
            self._fill(net, number)
        return {"trunk": self.trunk, "head": self.head, "target": self.target}

    def _fill(self, net: Any, number: float) -> None:
        for parameter in net.parameters():
            parameter.data.fill_(number)

    def train(self, number: float) -> None:
        self._fill(self.head, number)

    def update(self) -> None:
        self._fill(self.target, float(self.head.bias[0].detach()))

    def numbers(self) -> tuple[float, float, float]:
        first, second, third = (float(net.bias[0].detach()) for net in (self.trunk, self.head, self.target))
        return first, second, third
