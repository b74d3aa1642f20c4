"""PyTorch, for the suites of both backends."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from keepfast.tree import flatten
from tests.both_backends.framework import Framework


class Torch(Framework):
    backend = "torch"
    extension = ".pt"

    @property
    def demo(self) -> ModuleType:
        from keepfast_torch import demo

        return demo

    def arrays(self, checkpoint: Path) -> dict[str, Any]:
        state = flatten(torch.load(checkpoint, weights_only=True))
        return {path: leaf.numpy() if isinstance(leaf, torch.Tensor) else leaf for path, leaf in state.items()}
