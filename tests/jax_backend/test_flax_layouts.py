"""What Flax has a layout for is named as there: Flax reads ours into its own classes, and we read what it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, final

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import serialization, struct  # noqa: E402
from flax.core import freeze  # noqa: E402

import keepfast  # noqa: E402
from keepfast_jax import JaxBackend  # noqa: E402


class Moments(NamedTuple):
    mean: Any
    rest: Any


@struct.dataclass
class Held:
    box: Any


@final
class Box:
    """A class that JAX knows nothing of, whose parts are called otherwise in a file."""

    def __init__(self, inner: Any, scale: Any) -> None:
        self.inner, self.scale = inner, scale


@final
@jax.tree_util.register_pytree_node_class
class Doubled:
    """A pytree whose file holds other values than its leaves are."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        return (self.value,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> Doubled:
        return cls(*children)


@final
class Counted(dict[str, Any]):
    """A dict of a class of its own."""


@final
class Number:
    """Is an array alone in a file."""

    def __init__(self, value: Any) -> None:
        self.value = value


@final
class Static:
    """Has no state."""


@final
class Refusing:
    """Takes nothing."""


@final
class Stateful:
    """Has calls like PyTorch's, which Flax does not look at where the class is registered."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        raise AssertionError("Flax was told otherwise")

    load_state_dict = state_dict


def refuse(_own: Refusing, _state: Any) -> Any:
    raise ValueError("not today")


REGISTERED: list[tuple[type, Callable[[Any], Any], Callable[[Any, Any], Any]]] = [
    (
        Box,
        lambda own: {"first": serialization.to_state_dict(own.inner), "second": own.scale},
        lambda own, state: Box(serialization.from_state_dict(own.inner, state["first"]), state["second"]),
    ),
    (Doubled, lambda own: {"twice": own.value * 2}, lambda _, state: Doubled(state["twice"] / 2)),
    (Counted, lambda own: {"n": own["n"]}, lambda own, state: Counted(own, n=state["n"])),
    (Number, lambda own: own.value, lambda _, state: Number(state)),
    (Static, lambda _: {}, lambda own, _: own),
    (Refusing, lambda _: {"x": jnp.zeros(1)}, refuse),
    (Stateful, lambda own: {"held": own.value}, lambda _, state: Stateful(state["held"])),
]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    for each in REGISTERED:
        serialization.register_serialization_state(*each, override=True)


def scaled(x: Any, y: Any, *, scale: Any) -> Any:
    return x + y[0].sum() * scale


MAKERS: dict[str, Callable[[float], Any]] = {
    "partial": lambda k: jax.tree_util.Partial(scaled, jnp.full(3, k), [jnp.full(2, k)], scale=jnp.full(1, k)),
    "partial without arguments": lambda _: {"f": jax.tree_util.Partial(scaled), "w": jnp.zeros(1)},
    "partial in a partial": lambda k: jax.tree_util.Partial(
        scaled, jax.tree_util.Partial(jnp.add, jnp.full(1, k)), scale=Box(jnp.full(1, k), jnp.full(1, k))
    ),
    "registered": lambda k: Box({"w": jnp.full(2, k), "moments": Moments(jnp.full(1, k), ())}, jnp.full(3, k + 1)),
    "registered, of one's own pytree": lambda k: Doubled(jnp.full(2, k)),
    "registered, a dict": lambda k: Counted(n=jnp.full(2, k)),
    "registered, an array": lambda k: Number(jnp.full(2, k)),
    "registered, without state": lambda k: {"static": Static(), "w": jnp.full(1, k)},
    "registered, with calls like PyTorch's": lambda k: Stateful(jnp.full(1, k)),
    "registered, in all containers": lambda k: [
        Held(Box(jnp.full(1, k), jnp.full(1, k))),
        freeze({"box": Box(jnp.full(1, k), Doubled(jnp.full(1, k)).value)}),
        (Moments(Box(jnp.full(1, k), jnp.full(1, k)), None),),
    ],
}


def state_of(module: Any) -> Any:
    """Return what Flax says that a module holds, in arrays of NumPy."""
    return jax.tree_util.tree_map(np.asarray, serialization.to_state_dict(module))


def assert_same(module: Any, other: Any) -> None:
    assert jax.tree_util.tree_structure(state_of(module)) == jax.tree_util.tree_structure(state_of(other))
    jax.tree_util.tree_map(np.testing.assert_array_equal, state_of(module), state_of(other))


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[float], Any]:
    return MAKERS[request.param]


@pytest.mark.parametrize("extension", ["safetensors", "msgpack", "pickle", "pt"])
def test_it_comes_back_as_what_it_was(make: Callable[[float], Any], extension: str, tmp_path: Path) -> None:
    """In every format, with its functions and static parts, and its arrays arrays of JAX."""
    owner = SimpleNamespace(module=make(0.0))
    path = keepfast.save(keepfast.attribute(SimpleNamespace(module=make(3.0)), "module"), tmp_path / f"x.{extension}")
    assert keepfast.load(keepfast.attribute(owner, "module"), path)
    assert type(owner.module) is type(make(3.0))
    assert_same(owner.module, make(3.0))
    arrays = jax.tree_util.tree_leaves(serialization.to_state_dict(owner.module))
    assert all(isinstance(each, jax.Array) for each in arrays)


def test_flax_reads_ours_and_we_read_what_it_writes(make: Callable[[float], Any], tmp_path: Path) -> None:
    """The same names on both sides, without an option."""
    holder = {"module": make(0.0)}
    ours, theirs = tmp_path / "ours.msgpack", tmp_path / "theirs.msgpack"
    keepfast.save({"module": make(4.0)}, ours)
    assert_same(serialization.from_bytes({"module": make(0.0)}, ours.read_bytes())["module"], make(4.0))
    theirs.write_bytes(serialization.to_bytes({"module": make(5.0)}))
    assert keepfast.load(holder, theirs)
    assert_same(holder["module"], make(5.0))


def test_a_partial_keeps_its_function() -> None:
    """It is called with what was loaded."""
    backend, made = JaxBackend(), MAKERS["partial"]
    loaded = backend.restore(made(0.0), backend.host_copy(backend.capture(made(3.0))))
    assert loaded.func is scaled
    assert loaded().tolist() == made(3.0)().tolist()


def test_what_a_class_refuses_is_a_mismatch_and_nothing_is_loaded(tmp_path: Path) -> None:
    """Its own error is told."""
    path = keepfast.save({"w": jnp.ones(1), "r": Refusing()}, tmp_path / "x.msgpack")
    module = {"w": jnp.zeros(1), "r": Refusing()}
    with pytest.raises(keepfast.LoadMismatch, match="Refusing cannot load the file's state: not today"):
        keepfast.load(module, path)
    assert module["w"].tolist() == [0]


def older(node: Any, own: Any) -> Any:
    """Return a state dict of Flax with each named tuple in the layout that Flax had for it, as its own test has it."""
    if isinstance(own, tuple) and hasattr(own, "_fields"):
        parts = {name: older(node[name], getattr(own, name)) for name in own._fields}
        return {
            "name": type(own).__name__,
            "fields": {str(at): name for at, name in enumerate(parts)},
            "values": {str(at): part for at, part in enumerate(parts.values())},
        }
    if not isinstance(node, Mapping):
        return node
    return {key: older(child, own[key] if isinstance(own, Mapping) else own[int(key)]) for key, child in node.items()}


def tuples() -> Iterator[tuple[str, Callable[[float], Any]]]:
    yield "alone", lambda k: Moments(jnp.full(1, k), jnp.full(2, k))
    yield "in each other", lambda k: {"m": Moments(Moments(jnp.full(1, k), None), [Moments(jnp.full(1, k), 1)])}
    yield "adam", lambda k: {"opt": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init({"w": jnp.full(2, k)})}
    yield "names of its own", lambda k: {"name": jnp.full(1, k), "fields": {"0": 1}, "values": {"0": Moments(1, 2)}}


@pytest.mark.parametrize("extension", ["msgpack", "pickle"])
@pytest.mark.parametrize(("made"), [made for _, made in tuples()], ids=[name for name, _ in tuples()])
def test_the_older_layout_of_named_tuples_is_read(made: Callable[[float], Any], extension: str, tmp_path: Path) -> None:
    """As Flax does to this day: names, fields and values apart."""
    state = older(serialization.to_state_dict(made(3.0)), made(3.0))
    assert "fields" in str(state)
    assert_same(serialization.from_state_dict(made(0.0), state), made(3.0))
    path = tmp_path / f"x.{extension}"
    path.write_bytes(serialization.msgpack_serialize(state))
    owner = SimpleNamespace(module=made(0.0))
    assert keepfast.load(keepfast.attribute(owner, "module"), path)
    assert_same(owner.module, made(3.0))


@pytest.mark.parametrize(
    "state",
    [
        {"name": "M", "fields": {"0": "mean"}, "values": {"0": np.ones(1), "1": np.ones(1)}},
        {"name": "M", "fields": {"0": "mean", "1": "mean"}, "values": {"0": np.ones(1), "1": np.ones(1)}},
        {"name": "M", "fields": {"0": 7, "1": "mean"}, "values": {"0": np.ones(1), "1": np.ones(1)}},
        {"name": "M", "fields": "mean", "values": {"0": np.ones(1)}},
        {"name": np.ones(1), "fields": {"0": "mean", "1": "rest"}, "values": {"0": np.ones(1), "1": np.ones(1)}},
    ],
    ids=["more values", "a name twice", "no name", "no fields", "an array as name"],
)
def test_what_is_no_older_named_tuple_is_told_as_it_is(state: Any, tmp_path: Path) -> None:
    """Each entry by the path that the file has for it."""
    path = tmp_path / "x.msgpack"
    path.write_bytes(serialization.msgpack_serialize(state))
    owner = SimpleNamespace(module=Moments(jnp.zeros(1), jnp.zeros(1)))
    with pytest.raises(keepfast.LoadMismatch, match=r"(?s)module\.mean: missing.*module\.\S*values\S*: extra"):
        keepfast.load(keepfast.attribute(owner, "module"), path)
