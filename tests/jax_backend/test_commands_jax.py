"""Every command, on runs of JAX."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import keepfast_jax  # noqa: E402
from tests.both_backends.commands import CommandsSuite  # noqa: E402


class TestJaxCommands(CommandsSuite):
    backend = "jax"
    extension = ".safetensors"

    @classmethod
    def module(cls) -> Any:
        return {"kernel": jax.numpy.ones((3, 2)), "bias": jax.numpy.ones(2)}

    @classmethod
    def memory(cls, **export: Any) -> Any:
        return keepfast_jax.RandomMemory(4, 2, **export)
