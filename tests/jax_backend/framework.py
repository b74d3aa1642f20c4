"""JAX, for the suites of both backends."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.numpy import load_file

from tests.both_backends.framework import Framework


class Jax(Framework):
    backend = "jax"
    extension = ".safetensors"

    @property
    def demo(self) -> ModuleType:
        from keepfast_jax import demo

        return demo

    def arrays(self, checkpoint: Path) -> dict[str, Any]:
        return dict(load_file(checkpoint))
