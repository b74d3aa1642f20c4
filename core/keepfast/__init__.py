"""Keepfast keeps what a training run produces: metrics, checkpoints and memories, alike on PyTorch and on JAX.

Names are loaded at their first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keepfast._version import __version__

if TYPE_CHECKING:
    from keepfast import adapters, codec, hub, metrics, plugins, testing, tree
    from keepfast._system.commit import commit
    from keepfast.adapters.attaching import attach
    from keepfast.agent import Agent
    from keepfast.config import ExperimentConfig
    from keepfast.errors import (
        BrokenPlugin,
        ConfigError,
        CorruptCheckpoint,
        CorruptFile,
        CorruptMemory,
        DirectoryError,
        HubError,
        InvalidValue,
        KeepfastError,
        KeepfastWarning,
        LoadFailed,
        LoadMismatch,
        MissingDependency,
        NewerFormat,
        NotFound,
        OutOfMemory,
        PluginConflict,
        RemoteError,
        ShapeMismatch,
        UnknownPlugin,
        UnknownTensor,
        Unreadable,
        UnsupportedModule,
        UsageError,
        WaitedInVain,
        WriteFailed,
        WriterFailed,
    )
    from keepfast.experiment import Experiment
    from keepfast.interfaces.adapter import Adapter
    from keepfast.interfaces.backend import Backend, DemoResult, DemoSettings, Mismatch
    from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
    from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
    from keepfast.interfaces.format import DirectoryFormat
    from keepfast.interfaces.loading.conversion import Conversion, Converted, FileEntries
    from keepfast.interfaces.loading.report import LoadReport
    from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot
    from keepfast.interfaces.ring import Ring
    from keepfast.interfaces.sharding.arrays import ShardedArray
    from keepfast.interfaces.sharding.format import ShardedFormat, Written
    from keepfast.interfaces.sharding.peers import Peers
    from keepfast.interfaces.step_buffer import (
        HostSteps,
        SingleSteps,
        Step,
        StepBuffer,
        Steps,
        device_capacity,
        joined_steps,
    )
    from keepfast.interfaces.writer import Writer, WriterContext
    from keepfast.memories.conversion import convert_memory, merge_memories
    from keepfast.memories.files import iter_memories, read_memory
    from keepfast.memories.memory import Memory
    from keepfast.memories.storage import Storage, checked_places
    from keepfast.metrics.reading import iter_metrics, read_metrics
    from keepfast.migration.calls import migrate
    from keepfast.migration.report import MigratedEntry, MigrationReport
    from keepfast.migration.saving import Saving
    from keepfast.modules.parts import attribute, attributes
    from keepfast.modules.reading import CheckpointContent, read_checkpoint
    from keepfast.modules.single import load, save
    from keepfast.plugins.hookspecs import hookimpl
    from keepfast.plugins.lazy import lazy
    from keepfast.tracking.interval import Aggregate, EpisodeAggregate, Interval
    from keepfast.tracking.multi_writer import MultiWriter

_HOMES = {
    "_system.commit": ["commit"],
    "adapters.attaching": ["attach"],
    "agent": ["Agent"],
    "config": ["ExperimentConfig"],
    "errors": [
        "BrokenPlugin",
        "ConfigError",
        "CorruptCheckpoint",
        "CorruptFile",
        "CorruptMemory",
        "DirectoryError",
        "HubError",
        "InvalidValue",
        "KeepfastError",
        "KeepfastWarning",
        "LoadFailed",
        "LoadMismatch",
        "MissingDependency",
        "NewerFormat",
        "NotFound",
        "OutOfMemory",
        "PluginConflict",
        "RemoteError",
        "ShapeMismatch",
        "UnknownPlugin",
        "UnknownTensor",
        "Unreadable",
        "UnsupportedModule",
        "UsageError",
        "WaitedInVain",
        "WriteFailed",
        "WriterFailed",
    ],
    "experiment": ["Experiment"],
    "interfaces.adapter": ["Adapter"],
    "interfaces.backend": ["Backend", "DemoResult", "DemoSettings", "Mismatch"],
    "interfaces.loading.conversion": ["Conversion", "Converted", "FileEntries"],
    "interfaces.checkpoint_reader": ["CheckpointReader", "ForeignCheckpoint"],
    "interfaces.checkpoint_store": ["Checkpoint", "CheckpointMetadata", "CheckpointStore"],
    "interfaces.format": ["DirectoryFormat"],
    "interfaces.loading.report": ["LoadReport"],
    "interfaces.memory_exporter": ["MemoryExporter", "MemorySnapshot"],
    "interfaces.ring": ["Ring"],
    "interfaces.sharding.arrays": ["ShardedArray"],
    "interfaces.sharding.format": ["ShardedFormat", "Written"],
    "interfaces.sharding.peers": ["Peers"],
    "interfaces.step_buffer": [
        "HostSteps",
        "SingleSteps",
        "Step",
        "StepBuffer",
        "Steps",
        "device_capacity",
        "joined_steps",
    ],
    "interfaces.writer": ["Writer", "WriterContext"],
    "memories.conversion": ["convert_memory", "merge_memories"],
    "memories.files": ["iter_memories", "read_memory"],
    "memories.memory": ["Memory"],
    "memories.storage": ["Storage", "checked_places"],
    "metrics.reading": ["iter_metrics", "read_metrics"],
    "migration.calls": ["migrate"],
    "migration.report": ["MigratedEntry", "MigrationReport"],
    "migration.saving": ["Saving"],
    "modules.parts": ["attribute", "attributes"],
    "modules.reading": ["CheckpointContent", "read_checkpoint"],
    "modules.single": ["load", "save"],
    "plugins.hookspecs": ["hookimpl"],
    "plugins.lazy": ["lazy"],
    "tracking.interval": ["Aggregate", "EpisodeAggregate", "Interval"],
    "tracking.multi_writer": ["MultiWriter"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ENTRIES = frozenset(
    {"convert_memory", "iter_memories", "load", "merge_memories", "migrate", "read_checkpoint", "read_memory", "save"}
)
"""The functions that need no object of ours made before; the frameworks in use are told of them at once."""

_SUBMODULES = ("adapters", "codec", "hub", "metrics", "plugins", "testing", "tree")

__all__ = [
    "Adapter",
    "Agent",
    "Aggregate",
    "Backend",
    "BrokenPlugin",
    "Checkpoint",
    "CheckpointContent",
    "CheckpointMetadata",
    "CheckpointReader",
    "CheckpointStore",
    "ConfigError",
    "Conversion",
    "Converted",
    "CorruptCheckpoint",
    "CorruptFile",
    "CorruptMemory",
    "DemoResult",
    "DemoSettings",
    "DirectoryError",
    "DirectoryFormat",
    "EpisodeAggregate",
    "Experiment",
    "ExperimentConfig",
    "FileEntries",
    "ForeignCheckpoint",
    "HostSteps",
    "HubError",
    "Interval",
    "InvalidValue",
    "KeepfastError",
    "KeepfastWarning",
    "LoadFailed",
    "LoadMismatch",
    "LoadReport",
    "Memory",
    "MemoryExporter",
    "MemorySnapshot",
    "MigratedEntry",
    "MigrationReport",
    "Mismatch",
    "MissingDependency",
    "MultiWriter",
    "NewerFormat",
    "NotFound",
    "OutOfMemory",
    "Peers",
    "PluginConflict",
    "RemoteError",
    "Ring",
    "Saving",
    "ShapeMismatch",
    "ShardedArray",
    "ShardedFormat",
    "SingleSteps",
    "Step",
    "StepBuffer",
    "Steps",
    "Storage",
    "UnknownPlugin",
    "UnknownTensor",
    "Unreadable",
    "UnsupportedModule",
    "UsageError",
    "WaitedInVain",
    "WriteFailed",
    "Writer",
    "WriterContext",
    "WriterFailed",
    "Written",
    "__version__",
    "adapters",
    "attach",
    "attribute",
    "attributes",
    "checked_places",
    "codec",
    "commit",
    "convert_memory",
    "device_capacity",
    "hookimpl",
    "hub",
    "iter_memories",
    "iter_metrics",
    "joined_steps",
    "lazy",
    "load",
    "merge_memories",
    "metrics",
    "migrate",
    "plugins",
    "read_checkpoint",
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
    if name in _ENTRIES:
        importlib.import_module("keepfast.plugins.backends").prepare()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
