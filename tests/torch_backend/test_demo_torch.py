"""The demo on PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")

from tests.both_backends.demo import DemoSuite, after_the_demo  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402


class TestDemo(Torch, DemoSuite):
    advantages_within = {"rtol": 1.3e-6, "atol": 1e-5}  # noqa: RUF012
    scaler_within = {"rtol": 1e-7, "atol": 1e-7}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        yield
        torch.set_num_threads(before)

    def advantages(self, agent: Any, stored: dict[str, Any], values: Any) -> tuple[Any, Any]:
        tensors = {name: torch.from_numpy(array) for name, array in stored.items()}
        with torch.no_grad():
            next_values = agent.value(agent.state_preprocessor(tensors["next_states"]))
            return agent._advantages(tensors, torch.from_numpy(values)).numpy(), next_values.numpy()

    def scaled(self, parts: list[Any]) -> tuple[float, Any, Any]:
        scaler = self.demo.RunningStandardScaler(3).double()
        for part in parts:
            scaler.update(torch.from_numpy(part))
        return float(scaler.seen), scaler.mean.numpy(), scaler.variance.numpy()

    @after_the_demo
    def test_a_checkpoint_of_the_demo_is_a_plain_dict_of_state_dicts(self, finished: tuple[Path, str]) -> None:
        """Whoever has only PyTorch reads every module, keyed as the agent keys it."""
        state = torch.load(finished[0] / "checkpoints" / "agent_400.pt", weights_only=True)
        assert {"policy", "value", "state_preprocessor", "optimizer", "scheduler"} <= set(state)
        policy = self.demo.network(4, 2, 0.01)
        policy.load_state_dict(state["policy"])
