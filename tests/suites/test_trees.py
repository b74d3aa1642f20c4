"""The trees of Orbax' own tests: what Orbax restores of them, Keepfast restores too, leaf by leaf."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training import train_state

import keepfast

pytestmark = pytest.mark.filterwarnings("ignore")


class Point(NamedTuple):
    """A named tuple, as a state of optax is one."""

    x: Any
    y: Any


@flax.struct.dataclass
class Particle:
    """A dataclass of Flax."""

    place: Any
    name: str = flax.struct.field(pytree_node=False, default="p")


def state() -> Any:
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
    return train_state.TrainState.create(apply_fn=None, params=params, tx=optax.adam(0.1))


TREES: dict[str, Any] = {
    "a dictionary": {"a": jnp.arange(8), "b": jnp.ones((2, 2))},
    "dictionaries in each other": {"a": {"b": {"c": jnp.arange(3.0)}}, "d": jnp.zeros(())},
    "a list": [jnp.arange(3), jnp.ones(2)],
    "a tuple": (jnp.arange(3), {"x": jnp.ones(2)}),
    "a named tuple": Point(jnp.arange(2), {"z": jnp.ones(1)}),
    "a dataclass": Particle(jnp.arange(4.0)),
    "an ordered dictionary": collections.OrderedDict([("b", jnp.ones(1)), ("a", jnp.zeros(2))]),
    "None among leaves": {"a": None, "b": jnp.ones(2)},
    "empty containers": {"a": {}, "b": [], "c": jnp.ones(1), "d": ()},
    "numbers of Python": {"a": 1, "b": 2.5, "c": jnp.ones(1)},
    "numbers of NumPy": {"a": np.int32(3), "b": np.float64(2.5), "c": np.arange(3)},
    "arrays of NumPy": {"a": np.arange(6).reshape(2, 3), "b": np.ones((0, 2)), "c": np.array(5)},
    "bfloat16": {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3, jnp.float16)},
    "small floats": {"a": jnp.ones(3, jnp.float8_e4m3fn), "b": jnp.ones(3, jnp.float8_e5m2)},
    "whole numbers": {name: jnp.arange(3).astype(name) for name in ("int8", "uint8", "int16", "uint32", "bool")},
    "complex numbers": {"a": jnp.ones(3, jnp.complex64)},
    "a train state": state(),
    "an optimizer": optax.chain(optax.clip(1.0), optax.adamw(0.1)).init({"w": jnp.ones((2, 2))}),
    "a schedule": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9).init({"w": jnp.ones(2)}),
    "names with dots and slashes": {"a.b": jnp.ones(1), "a/b": jnp.zeros(2), "c": {"b": jnp.ones(3)}},
    "a large tree": {f"layer_{number}": {"w": jnp.full((4, 4), number)} for number in range(200)},
}


def blank(tree: Any) -> Any:
    """Return a tree of the same make with other values."""
    return jax.tree.map(lambda leaf: leaf * 0 if isinstance(leaf, int | float) else (leaf * 0).astype(leaf.dtype), tree)


@pytest.mark.parametrize("form", ["safetensors", "msgpack"])
@pytest.mark.parametrize("name", TREES)
def test_a_tree_comes_back_as_orbax_restores_it(name: str, form: str, tmp_path: Path) -> None:
    """Into a tree like it, whose leaves are other numbers."""
    tree = TREES[name]
    kept = Path(tmp_path, f"x.{form}")
    keepfast.save(tree, kept)
    holder = keepfast.attribute(Holder(blank(tree)), "tree")
    assert keepfast.load(holder, kept)
    ours = holder.get() if hasattr(holder, "get") else holder.owner.tree
    assert_alike(ours, tree)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path.resolve() / "orbax", tree)
            checkpointer.wait_until_finished()
            theirs = checkpointer.restore(tmp_path.resolve() / "orbax", blank(tree))
    except (ValueError, TypeError, KeyError):
        return  # Orbax has no place for it; we have
    assert_alike(theirs, tree)


class Holder:
    """An object with a tree."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree


def assert_alike(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(one).dtype == np.asarray(two).dtype
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


ELSEWHERE = {
    "a sharded array": "needs several devices; the product keeps whole arrays, gathered on the host",
    "a random key": "tests/jax_backend asks it: a typed key comes back with its implementation",
    "a text among leaves": "a text is no leaf of an optimizer or a network; the product keeps it beside arrays",
    "one path twice": "`{'a.b': x, 'a': {'b': y}}` is refused by name, for a load tells its entries by their paths",
    "lazily restored values": "is Orbax' own: a load of ours is verified and whole",
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_is_asked_elsewhere(kind: str) -> None:
    """Some of Orbax' cases are about its own way of keeping."""
    pytest.skip(ELSEWHERE[kind])
