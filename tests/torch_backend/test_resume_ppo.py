"""The demo's PPO on PyTorch, interrupted and resumed."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")

import keepfast_torch  # noqa: E402
from tests.both_backends.resume_ppo import ACTIONS, STATES, ResumePpoSuite  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402


class TestResumePpo(Torch, ResumePpoSuite):
    def ppo(self, cfg: dict[str, Any]) -> tuple[Any, Any]:
        torch.manual_seed(0)
        models = {"policy": self.demo.network(4, 2, 0.01), "value": self.demo.network(4, 1, 1.0)}
        memory = keepfast_torch.RandomMemory(8, self.demo.NUM_ENVS)
        return self.demo.PPO(models, memory, STATES, ACTIONS, None, cfg), memory
