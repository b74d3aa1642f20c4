"""PlainBackend: Python and NumPy as Keepfast sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np

from keepfast._system.arguments.guarding import guarded_calls_outside
from keepfast.interfaces.backend import Backend, Mismatch
from keepfast.plain.state import find_kind, kind_of, recognizes
from keepfast.tree import Tree, is_array, map_leaves


@final
@guarded_calls_outside()
class PlainBackend(Backend):
    """Captures and restores what needs no framework.

    That is: numbers, text, NumPy arrays and scalars, random generators of NumPy and Python, deques, containers of all
    these, and objects with ``state_dict`` and ``load_state_dict`` that nobody else knows. Arrays, generators, deques,
    sets, dictionaries and lists are changed in place; what is immutable is registered as `keepfast.attribute`.
    """

    name: ClassVar[str] = "plain"
    checkpoint_format: ClassVar[str] = "safetensors"

    def recognizes(self, module: object) -> bool:
        """Say whether a module, with all that is in it, is surely of no framework."""
        return recognizes(module)

    def includes(self, module: object) -> bool:
        """Say whether a module can be captured, though it may be another's too."""
        return find_kind(module) is not None

    def capture(self, module: Any) -> Tree:
        """Return the state of a module without copying its arrays.

        Raises:
            UnsupportedModule: if a part of it is nothing that a file can hold; names the part.
        """
        return kind_of(module).capture(module, "")

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        """Put a state into a module, or return a new one like it where it is immutable.

        Args:
            module: decides the types.
            state: a tree as `capture` gives, with NumPy arrays, which are copied.
            device: of no meaning here.

        Raises:
            LoadMismatch: if a generator of another kind has such a state, or an object refuses it.
        """
        return kind_of(module).restore(module, state)

    def host_view(self, tree: Tree) -> Tree:
        """Return the same with the module's own arrays, where they are in C order."""
        return map_leaves(lambda _path, leaf: np.asarray(leaf, order="C") if is_array(leaf) else leaf, tree)

    def replaces(self, module: Any) -> bool:
        """Say whether a module is immutable, so that `restore` returns a new one."""
        return kind_of(module).replaces(module)

    def is_open(self, module: Any) -> bool:
        """Say whether a module takes or refuses a state as a whole, as a random generator does."""
        return kind_of(module).is_open

    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        """Return in what way a file's state is not that of such a random generator."""
        return kind_of(module).mismatches(module, state)
