"""The contracts that plugins prove themselves by: pytest classes to inherit, each with one fixture to give."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from holdfast.testing.backend import BackendContract, BackendSubject
    from holdfast.testing.checkpoint_store import CheckpointStoreContract
    from holdfast.testing.memory import MemoryContract
    from holdfast.testing.memory_buffer import MemoryBufferContract
    from holdfast.testing.memory_exporter import MemoryExporterContract
    from holdfast.testing.memory_loading import MemoryLoadingContract
    from holdfast.testing.memory_sampling import MemorySamplingContract
    from holdfast.testing.writer import WriterContract

_HOMES = {
    "BackendContract": "backend",
    "BackendSubject": "backend",
    "CheckpointStoreContract": "checkpoint_store",
    "MemoryBufferContract": "memory_buffer",
    "MemoryContract": "memory",
    "MemoryExporterContract": "memory_exporter",
    "MemoryLoadingContract": "memory_loading",
    "MemorySamplingContract": "memory_sampling",
    "WriterContract": "writer",
}

# Before they are imported, so that a failing contract shows both sides, as the asserts of any test do.
pytest.register_assert_rewrite(*(f"holdfast.testing.{home}" for home in _HOMES.values()))

__all__ = [
    "BackendContract",
    "BackendSubject",
    "CheckpointStoreContract",
    "MemoryBufferContract",
    "MemoryContract",
    "MemoryExporterContract",
    "MemoryLoadingContract",
    "MemorySamplingContract",
    "WriterContract",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `holdfast.testing` has no attribute `{name}`")
    return getattr(importlib.import_module(f"holdfast.testing.{_HOMES[name]}"), name)
