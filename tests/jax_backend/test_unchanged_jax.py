"""Modules that did not change since a checkpoint before, on JAX."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import keepfast  # noqa: E402
from tests.both_backends.unchanged import UnchangedSuite  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402


class TestJaxUnchanged(Jax, UnchangedSuite):
    def make(self) -> dict[str, Any]:
        self.owner = SimpleNamespace(
            trunk={"kernel": jax.numpy.full((200, 100), 0.5)},
            head={"kernel": jax.numpy.zeros((4, 3))},
            target={"kernel": jax.numpy.zeros((40, 30))},
        )
        return {name: keepfast.attribute(self.owner, name) for name in ("trunk", "head", "target")}

    def train(self, number: float) -> None:
        self.owner.head = {"kernel": jax.numpy.full((4, 3), number)}

    def update(self) -> None:
        self.owner.target = {"kernel": jax.numpy.full((40, 30), self.owner.head["kernel"][0, 0])}

    def numbers(self) -> tuple[float, float, float]:
        first, second, third = (
            float(held["kernel"][0, 0]) for held in (self.owner.trunk, self.owner.head, self.owner.target)
        )
        return first, second, third
