"""Memories of PyTorch know what their environments do."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")

import keepfast_torch  # noqa: E402
from tests.both_backends.environments import EnvironmentSuite  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402


class TestEnvironments(Torch, EnvironmentSuite):
    def memory(self, memory_size: int, num_envs: int) -> Any:
        return keepfast_torch.RandomMemory(memory_size, num_envs, "cpu")

    def array(self, values: Any) -> Any:
        return torch.as_tensor(values)
