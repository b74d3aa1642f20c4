"""The built-in checkpoint formats keep the contract of formats."""

from __future__ import annotations

import pytest

from holdfast import testing
from holdfast.checkpoint import CheckpointStore
from holdfast.plugins import registry


class TestPt(testing.CheckpointStoreContract):
    """PyTorch's format, with and without PyTorch."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return registry().get("checkpoint format", "pt")()


class TestSafetensors(testing.CheckpointStoreContract):
    """The format that both frameworks share."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return registry().get("checkpoint format", "safetensors")()


class TestMsgpack(testing.CheckpointStoreContract):
    """Flax's format."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        pytest.importorskip("msgpack")
        return registry().get("checkpoint format", "msgpack")()


class TestPickle(testing.CheckpointStoreContract):
    """The older layout of JAX agents."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        pytest.importorskip("msgpack")
        return registry().get("checkpoint format", "pickle")()
