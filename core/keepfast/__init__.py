"""Keepfast keeps what a training run produces: metrics, checkpoints and memories, alike on PyTorch and on JAX.

Names are loaded at their first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keepfast._version import __version__

if TYPE_CHECKING:
    from keepfast import codec, metrics, plugins, testing, tree
    from keepfast.agent import Agent
    from keepfast.backend import Backend
    from keepfast.checkpoint import Checkpoint, CheckpointStore
    from keepfast.config import ExperimentConfig
    from keepfast.demo import DemoResult, DemoSettings
    from keepfast.errors import (
        BrokenPlugin,
        ConfigError,
        CorruptCheckpoint,
        CorruptFile,
        CorruptMemory,
        DirectoryError,
        InvalidValue,
        KeepfastError,
        KeepfastWarning,
        LoadMismatch,
        MissingDependency,
        NotFound,
        PluginConflict,
        ShapeMismatch,
        UnknownPlugin,
        UnknownTensor,
        UnsupportedModule,
        UsageError,
        WriteFailed,
        WriterFailed,
    )
    from keepfast.experiment import Experiment
    from keepfast.hookspecs import hookimpl
    from keepfast.loading import LoadReport, Mismatch
    from keepfast.memory import MemoryExporter, MemorySnapshot
    from keepfast.memory_conversion import convert_memory, merge_memories
    from keepfast.memory_files import iter_memories, read_memory
    from keepfast.memory_live import Memory
    from keepfast.metrics.reading import iter_metrics, read_metrics
    from keepfast.modules import attribute, load, save
    from keepfast.multi_writer import MultiWriter
    from keepfast.plugins import lazy
    from keepfast.writer import Writer, WriterContext

_HOMES = {
    "agent": ["Agent"],
    "backend": ["Backend"],
    "checkpoint": ["Checkpoint", "CheckpointStore"],
    "config": ["ExperimentConfig"],
    "demo": ["DemoResult", "DemoSettings"],
    "errors": [
        "BrokenPlugin",
        "ConfigError",
        "CorruptCheckpoint",
        "CorruptFile",
        "CorruptMemory",
        "DirectoryError",
        "InvalidValue",
        "KeepfastError",
        "KeepfastWarning",
        "LoadMismatch",
        "MissingDependency",
        "NotFound",
        "PluginConflict",
        "ShapeMismatch",
        "UnknownPlugin",
        "UnknownTensor",
        "UnsupportedModule",
        "UsageError",
        "WriteFailed",
        "WriterFailed",
    ],
    "experiment": ["Experiment"],
    "hookspecs": ["hookimpl"],
    "loading": ["LoadReport", "Mismatch"],
    "memory": ["MemoryExporter", "MemorySnapshot"],
    "memory_conversion": ["convert_memory", "merge_memories"],
    "memory_files": ["iter_memories", "read_memory"],
    "memory_live": ["Memory"],
    "metrics.reading": ["iter_metrics", "read_metrics"],
    "modules": ["attribute", "load", "save"],
    "multi_writer": ["MultiWriter"],
    "plugins": ["lazy"],
    "writer": ["Writer", "WriterContext"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_SUBMODULES = ("codec", "metrics", "plugins", "testing", "tree")

__all__ = [
    "Agent",
    "Backend",
    "BrokenPlugin",
    "Checkpoint",
    "CheckpointStore",
    "ConfigError",
    "CorruptCheckpoint",
    "CorruptFile",
    "CorruptMemory",
    "DemoResult",
    "DemoSettings",
    "DirectoryError",
    "Experiment",
    "ExperimentConfig",
    "InvalidValue",
    "KeepfastError",
    "KeepfastWarning",
    "LoadMismatch",
    "LoadReport",
    "Memory",
    "MemoryExporter",
    "MemorySnapshot",
    "Mismatch",
    "MissingDependency",
    "MultiWriter",
    "NotFound",
    "PluginConflict",
    "ShapeMismatch",
    "UnknownPlugin",
    "UnknownTensor",
    "UnsupportedModule",
    "UsageError",
    "WriteFailed",
    "Writer",
    "WriterContext",
    "WriterFailed",
    "__version__",
    "attribute",
    "codec",
    "convert_memory",
    "hookimpl",
    "iter_memories",
    "iter_metrics",
    "lazy",
    "load",
    "merge_memories",
    "metrics",
    "plugins",
    "read_memory",
    "read_metrics",
    "save",
    "testing",
    "tree",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"keepfast.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module `keepfast` has no attribute `{name}`")
    value = getattr(importlib.import_module(f"keepfast.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
