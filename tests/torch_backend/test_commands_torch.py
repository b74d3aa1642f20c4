"""Every command, on runs of PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast_torch  # noqa: E402
from tests.both_backends.commands import CommandsSuite  # noqa: E402


class TestTorchCommands(CommandsSuite):
    backend = "torch"
    extension = ".pt"

    @classmethod
    def module(cls) -> Any:
        return torch.nn.Linear(3, 2)

    @classmethod
    def memory(cls, **export: Any) -> Any:
        return keepfast_torch.RandomMemory(4, 2, **export)
