"""Holdfast keeps what a training run produces: metrics, checkpoints and memories, alike on PyTorch and on JAX.

Names are loaded at their first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from holdfast._version import __version__

if TYPE_CHECKING:
    from holdfast import codec, metrics, plugins, testing, tree
    from holdfast.agent import Agent
    from holdfast.backend import Backend
    from holdfast.checkpoint import Checkpoint, CheckpointStore
    from holdfast.config import ExperimentConfig
    from holdfast.demo import DemoResult, DemoSettings
    from holdfast.errors import (
        BrokenPlugin,
        ConfigError,
        CorruptCheckpoint,
        CorruptFile,
        CorruptMemory,
        DirectoryError,
        HoldfastError,
        HoldfastWarning,
        InvalidValue,
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
    from holdfast.experiment import Experiment
    from holdfast.hookspecs import hookimpl
    from holdfast.loading import LoadReport, Mismatch
    from holdfast.memory import MemoryExporter, MemorySnapshot
    from holdfast.memory_conversion import convert_memory, merge_memories
    from holdfast.memory_files import iter_memories, read_memory
    from holdfast.memory_live import Memory
    from holdfast.metrics.reading import iter_metrics, read_metrics
    from holdfast.modules import attribute, load, save
    from holdfast.multi_writer import MultiWriter
    from holdfast.plugins import lazy
    from holdfast.writer import Writer, WriterContext

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
        "HoldfastError",
        "HoldfastWarning",
        "InvalidValue",
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
    "HoldfastError",
    "HoldfastWarning",
    "InvalidValue",
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
        return importlib.import_module(f"holdfast.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module `holdfast` has no attribute `{name}`")
    value = getattr(importlib.import_module(f"holdfast.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
