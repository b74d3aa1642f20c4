"""How a memory shows itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keepfast._system.notebook.tables import facts, table
from keepfast.errors import shown
from keepfast.memories.tensors.additions import only_read

if TYPE_CHECKING:
    from keepfast.memories.memory import Memory


def line(memory: Memory) -> str:
    """Return what a memory holds in one line."""
    tensors = ", ".join(f"{shown(name)}: {dtype}{shape}" for name, dtype, shape in _tensors(memory))
    at = f"{len(memory)} samples of {memory.memory_size} x {memory.num_envs}"
    return f"{type(memory).__name__}({at} on {memory.device}: {tensors or 'no tensors'})"


def page(memory: Memory) -> str:
    """Return what a memory holds as HTML."""
    about = [
        ("samples", f"{len(memory):,} of {memory.memory_size} rows and {memory.num_envs} environments"),
        ("next one", f"row {memory.memory_index}, environment {memory.env_index}"),
        ("device", memory.device),
        ("export", f"{memory.export_format} into {memory.export_directory}" if memory.export else "none"),
    ]
    return facts(type(memory).__name__, about) + table(("tensor", "dtype", "shape"), _tensors(memory))


def _tensors(memory: Memory) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for name in memory.get_tensor_names():
        with only_read(memory):
            tensor = memory.get_tensor_by_name(name, keepdim=False)
        yield name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
