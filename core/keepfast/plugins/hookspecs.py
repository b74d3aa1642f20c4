"""What a plugin may provide: each hook returns a mapping from a name to what makes the thing of that name.

Returning factories keeps listing cheap: nothing is imported or made before a run asks for it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from keepfast.interfaces.adapter import Adapter
    from keepfast.interfaces.backend import Backend
    from keepfast.interfaces.checkpoint_reader import CheckpointReader
    from keepfast.interfaces.checkpoint_store import CheckpointStore
    from keepfast.interfaces.memory_exporter import MemoryExporter
    from keepfast.interfaces.writer import Writer

PROJECT = "keepfast"

_hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@_hookspec
def keepfast_backends() -> Mapping[str, Callable[[], Backend]]:
    """Return the frameworks this plugin supports, each name with a factory of its `Backend`."""
    raise NotImplementedError


@_hookspec
def keepfast_writers() -> Mapping[str, Callable[..., Writer]]:
    """Return the writers this plugin provides, each name with a ``factory(context, **options)``."""
    raise NotImplementedError


@_hookspec
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], CheckpointStore]]:
    """Return the checkpoint formats this plugin provides, each name with a factory of its `CheckpointStore`."""
    raise NotImplementedError


@_hookspec
def keepfast_memory_formats() -> Mapping[str, Callable[[], MemoryExporter]]:
    """Return the memory formats this plugin provides, each name with a factory of its `MemoryExporter`."""
    raise NotImplementedError


@_hookspec
def keepfast_migrations() -> Mapping[str, Callable[[], CheckpointReader]]:
    """Return the readers of other libraries' checkpoints, each name with a factory of its `CheckpointReader`."""
    raise NotImplementedError


@_hookspec
def keepfast_adapters() -> Mapping[str, Callable[[], Adapter]]:
    """Return the adapters of other libraries' agents, each name with a factory of its `Adapter`."""
    raise NotImplementedError


@_hookspec
def keepfast_agents() -> Mapping[str, Callable[[], Iterable[Any]]]:
    """Return the agents whose metrics the table is to have too, each name with what returns its `CataloguedMetric`s."""
    raise NotImplementedError


@_hookspec
def keepfast_locations() -> Mapping[str, Callable[[str], Path]]:
    """Return what fetches files from elsewhere: by the scheme of an address, what makes a local path of the rest."""
    raise NotImplementedError
