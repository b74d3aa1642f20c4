"""Composites: the names of a memory that stand for several tensors, as Dict and Tuple spaces have it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import chain
from typing import Any, final

from keepfast.memories.tensors.spaces import Structure, filled_in, is_structure, names_in, taken_apart
from keepfast.memories.tensors.specs import TensorSpec


@final
class Composites:
    """Takes samples of several values apart, one for each tensor, and puts them together again.

    Attributes:
        structures: by the name of a composite, the names of its tensors, where its samples have their values.
        flattened: by the name of a tensor that all values of a space are flattened into, the structure of its samples,
            and what each value is.
    """

    def __init__(self) -> None:
        self.structures: dict[str, Structure] = {}
        self.flattened: dict[str, tuple[Structure, dict[str, TensorSpec]]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.structures

    def adopt(self, structures: Any, known: Container[str]) -> None:
        """Take the structures that a file tells, as far as they are of known tensors; it may tell anything."""
        for name, structure in structures.items() if isinstance(structures, Mapping) else ():
            if not isinstance(structure, str) and is_structure(structure, known):
                self.structures[str(name)] = structure

    def tensors_of(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names of the tensors that some names stand for; a tensor's own stands for itself."""
        if not self.structures:
            return names
        return [tensor for name in names for tensor in names_in(self.structures.get(name, name))]

    def apart(self, samples: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return samples by the names of tensors, given by those of tensors and of composites.

        Raises:
            InvalidValue: if what is given for a composite is none of its structure.
            ShapeMismatch: if it has other parts.
        """
        parts = (taken_apart(name, self.structures.get(name, name), given) for name, given in samples.items())
        return dict(chain.from_iterable(parts))

    def together(self, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
        """Return what some names stand for, given the values of the tensors that `tensors_of` returned for them."""
        if not self.structures:
            return list(values)
        found = iter(values)
        return [filled_in(self.structures.get(name, name), lambda _: next(found)) for name in names]
