"""Checkpoints of Keepfast, and plain ones: state dicts, trees of arrays, safetensors, of whatever program."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of
from keepfast.migration.optimizers.states import is_scheduler, is_state
from keepfast.tree import Tree, is_array, leaves

_WRAPPERS = ("state_dict", "model_state_dict", "model", "agent", "policy_state_dict", "network", "module")
"""Under what name programs put the network into a checkpoint that also holds other things."""


@final
class KeepfastReader(CheckpointReader):
    """Reads checkpoints of this library, of whatever format."""

    library: ClassVar[str] = "keepfast"

    def recognizes(self, path: Path) -> bool:
        """Say whether the file tells that Keepfast wrote it."""
        return bool(state_of(path)) and opened(path).about.written_by_keepfast

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return every module of the file; optimizers among them stay what they are."""
        found = opened(path)
        side = {"torch": "torch", "jax": "flax"}.get(found.about.backend or "")
        modules, optimizers = separated({str(name): tree for name, tree in found.modules.items()})
        library = f"keepfast {found.about.keepfast}"
        names = {name: each for name, each in (found.about.names or {}).items() if name in optimizers}
        return ForeignCheckpoint(modules, side, library, optimizers, parameters=names)  # type: ignore[arg-type]


@final
class PlainReader(CheckpointReader):
    """Reads state dicts and trees of arrays, as single-file programs save them, in any format that is known."""

    library: ClassVar[str] = ""
    general: ClassVar[bool] = True

    def recognizes(self, path: Path) -> bool:
        """Say whether there are arrays in the file."""
        return any(is_array(leaf) for _, leaf in leaves(state_of(path)))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the modules of the file: each state dict in it, or all of it."""
        modules, optimizers = parts_of(opened(path).state)
        return ForeignCheckpoint(modules, optimizers=optimizers)


def parts_of(state: Tree) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """Return the modules in a state, and the optimizers.

    Where a network stands beside numbers of the training under one of the usual names, it is the network.
    """
    if not isinstance(state, dict):
        return {"": state}, {}
    state = {str(key): value for key, value in state.items()}
    modules, optimizers = separated(state)
    nested = {key: tree for key, tree in modules.items() if isinstance(tree, dict | list | tuple) and _has_arrays(tree)}
    single = [key for key in nested if key in _WRAPPERS]
    if nested and len(nested) == len([key for key, tree in modules.items() if _has_arrays(tree)]):
        return ({"": nested[single[0]]} if len(nested) == 1 and single else nested), optimizers
    return {"": modules}, optimizers


def separated(modules: dict[str, Tree]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """Return the networks apart from the optimizers and the schedulers of their rates."""
    optimizers = {name: tree for name, tree in modules.items() if is_state(tree) or is_scheduler(tree)}
    return {name: tree for name, tree in modules.items() if name not in optimizers}, optimizers


def _has_arrays(tree: Tree) -> bool:
    return any(is_array(leaf) for _, leaf in leaves(tree))
