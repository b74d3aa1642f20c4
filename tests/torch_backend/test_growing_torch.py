"""State that grows, on PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.both_backends.growing import GrowingSuite  # noqa: E402


class TestTorchGrowing(GrowingSuite):
    def array(self, values: Any) -> Any:
        return torch.tensor(values)
