"""Memories of JAX know what their environments do."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("gymnasium")

import keepfast_jax  # noqa: E402
from tests.both_backends.environments import EnvironmentSuite  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402


class TestEnvironments(Jax, EnvironmentSuite):
    def memory(self, memory_size: int, num_envs: int) -> Any:
        return keepfast_jax.RandomMemory(memory_size, num_envs)

    def array(self, values: Any) -> Any:
        return jax.numpy.asarray(values)
