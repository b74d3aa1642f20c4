"""The demo's PPO on JAX, interrupted and resumed."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("gymnasium")

import keepfast_jax  # noqa: E402
from tests.both_backends.resume_ppo import ACTIONS, STATES, ResumePpoSuite  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402


class TestResumePpo(Jax, ResumePpoSuite):
    def ppo(self, cfg: dict[str, Any]) -> tuple[Any, Any]:
        device, network = jax.devices()[0], self.demo.network
        keys = jax.random.split(jax.random.key(0))
        models = {"policy": network(4, 2, 0.01, keys[0], device), "value": network(4, 1, 1.0, keys[1], device)}
        memory = keepfast_jax.RandomMemory(8, self.demo.NUM_ENVS)
        return self.demo.PPO(models, memory, STATES, ACTIONS, device, {"seed": 0, **cfg}), memory
