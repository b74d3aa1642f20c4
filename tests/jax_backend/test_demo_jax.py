"""The demo on JAX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("gymnasium")

from tests.both_backends.demo import DemoSuite, after_the_demo  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402


class TestDemo(Jax, DemoSuite):
    advantages_within = {"rtol": 1e-4, "atol": 1e-5}  # noqa: RUF012
    scaler_within = {"rtol": 1e-5}  # noqa: RUF012

    def advantages(self, agent: Any, stored: dict[str, Any], values: Any) -> tuple[Any, Any]:
        next_values = np.random.default_rng(1).normal(size=values.shape).astype(np.float32)
        return agent._advantages(jax.tree.map(jax.numpy.asarray, stored), values, next_values), next_values

    def scaled(self, parts: list[Any]) -> tuple[float, Any, Any]:
        scaler = self.demo.RunningStandardScaler.of(3)
        for part in parts:
            padded = np.concatenate([part, np.full_like(part[:5], 1e6)]).astype(np.float32)
            scaler = scaler.updated(padded, np.arange(len(padded))[:, None] < len(part))  # which passes the rest over
        return float(scaler.seen), scaler.mean, scaler.variance

    @after_the_demo
    def test_a_checkpoint_of_the_demo_is_a_plain_safetensors_file(self, finished: tuple[Path, str]) -> None:
        """Whoever has only safetensors reads every array, under the name of its module and its path in it."""
        arrays = self.arrays(finished[0] / "checkpoints" / "agent_400.safetensors")
        assert arrays["policy.params.layers_0.kernel"].shape == (4, 64)
        modules = {name.partition(".")[0] for name in arrays}
        assert {"policy", "value", "state_preprocessor", "optimizer", "key"} <= modules
