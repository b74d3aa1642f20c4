"""The contracts that plugins prove themselves by: pytest classes to inherit, each with one fixture to give."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from keepfast.testing.adapter import AdapterContract, AdapterSubject
    from keepfast.testing.backend import BackendContract, BackendSubject
    from keepfast.testing.checkpoint_reader import CheckpointReaderContract
    from keepfast.testing.checkpoint_store import CheckpointStoreContract
    from keepfast.testing.kept import KeptContract
    from keepfast.testing.memory.buffer import MemoryBufferContract
    from keepfast.testing.memory.loading import MemoryLoadingContract
    from keepfast.testing.memory.sampling import MemorySamplingContract
    from keepfast.testing.memory.taking import MemoryTakingContract
    from keepfast.testing.memory.validity import MemoryValidityContract
    from keepfast.testing.memory.whole import MemoryContract
    from keepfast.testing.memory_exporter import MemoryExporterContract
    from keepfast.testing.writer import WriterContract

_HOMES = {
    "AdapterContract": "adapter",
    "AdapterSubject": "adapter",
    "BackendContract": "backend",
    "BackendSubject": "backend",
    "CheckpointReaderContract": "checkpoint_reader",
    "CheckpointStoreContract": "checkpoint_store",
    "KeptContract": "kept",
    "MemoryBufferContract": "memory.buffer",
    "MemoryContract": "memory.whole",
    "MemoryExporterContract": "memory_exporter",
    "MemoryLoadingContract": "memory.loading",
    "MemorySamplingContract": "memory.sampling",
    "MemoryTakingContract": "memory.taking",
    "MemoryValidityContract": "memory.validity",
    "WriterContract": "writer",
}

# Before they are imported, so that a failing contract shows both sides, as the asserts of any test do.
pytest.register_assert_rewrite(*(f"keepfast.testing.{home}" for home in _HOMES.values()))

__all__ = [
    "AdapterContract",
    "AdapterSubject",
    "BackendContract",
    "BackendSubject",
    "CheckpointReaderContract",
    "CheckpointStoreContract",
    "KeptContract",
    "MemoryBufferContract",
    "MemoryContract",
    "MemoryExporterContract",
    "MemoryLoadingContract",
    "MemorySamplingContract",
    "MemoryTakingContract",
    "MemoryValidityContract",
    "WriterContract",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `keepfast.testing` has no attribute `{name}`")
    return getattr(importlib.import_module(f"keepfast.testing.{_HOMES[name]}"), name)
