"""What checkpoints hold of a loop: its carry, as the module `carry`, and where it stands, as the module `scan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any, final

import jax
import numpy as np

import keepfast
from keepfast import Experiment
from keepfast_jax.arrays import is_key
from keepfast_jax.scanning.pieces import State

CARRY, SCAN = "carry", "scan"


@final
@dataclass(frozen=True)
class Position:
    """Where a loop stands.

    Attributes:
        number: which of the run's loops it is, counted from 0.
        step: how many of its steps are done.
        length: how many it has.
        axes: the sizes of the axes, of seeds or devices, that come before those of every array of its state.
    """

    number: int
    step: int
    length: int
    axes: tuple[int, ...] = ()

    @classmethod
    def of(cls, late: Mapping[str, Any]) -> Position | None:
        """Return the position that a checkpoint tells, or None."""
        scan = late.get(SCAN)
        if scan is None:
            return None
        axes = tuple(map(int, scan["axes"]))
        return cls(int(scan["number"]), int(scan["step"]), int(scan["length"]), axes)


@final
class Kept:
    """What checkpoints hold of the loop that an experiment runs, as it was at the last visit to the host.

    Attributes:
        carry: the user's carry, random keys as their data.
        scan: where the loop stands, with the episodes under way and the ys so far.
    """

    def __init__(self) -> None:
        self._held = SimpleNamespace(carry=None, scan={})
        self._registered: tuple[int, int, list[Any]] | None = None

    def put(self, experiment: Experiment, state: State, position: Position) -> None:
        """Have the experiment's checkpoints hold a state from now on, its keys as data (see `data_of`)."""
        rest = {"running": state.running, "ys": state.ys}
        numbers = asdict(position)
        rows = [np.shape(y) for y in jax.tree.leaves(state.ys)]
        loop, is_new = (position.number, position.length, rows), False
        if loop != self._registered:  # of another loop the structure may be another one
            self._held, self._registered, is_new = SimpleNamespace(), loop, True
        self._held.carry = state.carry
        self._held.scan = {**numbers, **{name: part for name, part in rest.items() if part is not None}}
        if is_new:
            experiment.loop.store_late(CARRY, SCAN)
            kept = {name: keepfast.attribute(self._held, name) for name in (CARRY, SCAN)}
            # A loop that is traced has arrays of one shape, and must not begin with others.
            experiment.register(**{name: replace(each, is_resized=False) for name, each in kept.items()})

    @property
    def carry(self) -> Any:
        """Return the user's carry."""
        return self._held.carry

    @property
    def scan(self) -> dict[str, Any]:
        """Return where the loop stands."""
        scan: dict[str, Any] = self._held.scan
        return scan

    @property
    def position(self) -> Position | None:
        """Return where the loop stands that is held, or None."""
        return Position.of({SCAN: self.scan}) if self.scan else None

    def taken(self) -> State:
        """Return the state that a resume put back."""
        return State(self.carry, self.scan.get("running"), self.scan.get("ys"))


def data_of(tree: Any) -> Any:
    """Return a tree with each array of random keys as the implementation's name and the data, as files have it."""

    def data(leaf: Any) -> Any:
        return {"impl": str(jax.random.key_impl(leaf)), "key_data": jax.random.key_data(leaf)} if is_key(leaf) else leaf

    return jax.tree.map(data, tree)


def raw_leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree, of random keys the data alone."""
    return [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]


def with_keys(like: Any, raw: Sequence[Any]) -> Any:
    """Return a tree like another one, of leaves as `raw_leaves` gives them."""
    leaves, structure = jax.tree.flatten(like)
    wrapped = [
        jax.random.wrap_key_data(part, impl=str(jax.random.key_impl(leaf))) if is_key(leaf) else part
        for leaf, part in zip(leaves, raw, strict=True)
    ]
    return jax.tree.unflatten(structure, wrapped)


@final
@dataclass(frozen=True)
class Shape:
    """The structure, shapes and dtypes of a state, for where its arrays are traced or not there yet.

    Attributes:
        structure: of the tree.
        leaves: shape and dtype of each leaf, of random keys those of the data.
        impls: the implementation of each leaf that is an array of random keys, else None.
    """

    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    impls: tuple[str | None, ...]

    @classmethod
    def of(cls, tree: Any) -> Shape:
        """Return the shape of a tree of arrays, or of what tells their shapes and dtypes."""
        impls: list[str | None] = []

        def look(tree: Any) -> list[Any]:
            impls[:] = [str(jax.random.key_impl(leaf)) if is_key(leaf) else None for leaf in jax.tree.leaves(tree)]
            return raw_leaves(tree)

        raw = jax.eval_shape(look, tree)
        return cls(jax.tree.structure(tree), tuple(raw), tuple(impls))

    def stored(self, raw: Sequence[Any]) -> Any:
        """Return leaves as `data_of` returns their tree."""
        leaves = [
            part if impl is None else {"impl": impl, "key_data": part}
            for part, impl in zip(raw, self.impls, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def empty(self, axes: tuple[int, ...]) -> Any:
        """Return a stored tree of zeros on the host, with axes before those of each leaf."""
        return self.stored([np.zeros((*axes, *leaf.shape), leaf.dtype) for leaf in self.leaves])

    def loose(self, stored: Any) -> list[np.ndarray[Any, Any]]:
        """Return what `parts` returns, on the host."""
        return [np.asarray(part, leaf.dtype) for part, leaf in zip(self.parts(stored), self.leaves, strict=True)]

    def parts(self, stored: Any) -> list[Any]:
        """Return the leaves of a stored tree."""
        whole = self.structure.flatten_up_to(stored)
        return [leaf if impl is None else leaf["key_data"] for leaf, impl in zip(whole, self.impls, strict=True)]
