"""Whatever mode of JAX a public call is made in: it has its right value or says why not, and training goes on."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from jax import lax  # noqa: E402
from jax.experimental import checkify, io_callback, jet  # noqa: E402
from jax.sharding import Mesh, PartitionSpec  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402
from tests.both_backends.modes import CALLS, GIVEN, Mode, World, outcome  # noqa: E402

OPTIMIZER = optax.adam(0.1)


@jax.jit
def stepped(params: Any, state: Any, key: Any, mean: Any) -> Any:
    """Return all that is trained, a step further."""
    key, drawn = jax.random.split(key)
    inputs = jax.random.normal(drawn, (5, 3), jnp.float32)
    gradients = jax.grad(lambda each: jnp.mean((inputs @ each["kernel"] + each["bias"]) ** 2))(params)
    updates, state = OPTIMIZER.update(gradients, state)
    return optax.apply_updates(params, updates), state, key, mean * 1.5


class JaxWorld(World):
    def begin(self, seed: int) -> None:
        self.params = {"kernel": jnp.full((3, 1), seed, jnp.float32), "bias": jnp.zeros(1, jnp.float32)}
        self.optimizer = OPTIMIZER.init(self.params)
        self.key, self.mean = jax.random.key(seed), jnp.full(2, seed, jnp.float32)
        self.net = nnx.BatchNorm(2, rngs=nnx.Rngs(seed))
        self.pool = deque([np.full(2, seed, np.float32)])

    def train(self) -> None:
        found = stepped(self.params, self.optimizer, self.key, self.mean)
        self.params, self.optimizer, self.key, self.mean = found
        self.net.mean[...] = self.net.mean[...] + self.mean
        self.pool[0] = np.asarray(self.pool[0]) + 1
        assert all(leaf.is_fully_addressable and not leaf.is_deleted() for leaf in jax.tree.leaves(found))

    def modules(self) -> dict[str, Any]:
        replaced = {name: keepfast.attribute(self, name) for name in ("params", "optimizer", "key", "mean")}
        return {**replaced, "net": self.net, "pool": self.pool}

    def make_memory(self) -> Any:
        return keepfast_jax.RandomMemory(4, 2)

    def array(self, values: Any) -> Any:
        return jax.device_put(np.asarray(values, np.float32 if isinstance(np.ravel(values)[0], float) else None))

    def seed_sampling(self) -> None:
        np.random.seed(5)  # noqa: NPY002  (the generator that the memory documents)


def within(make: Callable[[], Any]) -> Mode:
    """Return the mode that a context manager switches on."""

    def mode(call: Callable[[Any], None]) -> None:
        number = one()
        with make():
            call(number)

    return mode


def set_to(name: str, value: Any) -> Mode:
    """Return the mode that an option of the configuration switches on."""

    @contextmanager
    def switched() -> Iterator[None]:
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            yield
        finally:
            jax.config.update(name, before)

    return within(switched)


def one() -> Any:
    return jax.device_put(np.float32(1))


def many() -> Any:
    return jax.device_put(np.ones(1, np.float32))


def beside(call: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Return a function that makes the call on the way."""

    def traced(value: Any) -> Any:
        call(value * 1.0)
        return value * 2

    return traced


def once(call: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a call that is made the first time only, where JAX traces a function more than once."""
    made: list[bool] = []

    def calling(number: Any) -> None:
        if not made:
            made.append(True)
            call(number)

    return calling


def from_the_host(call: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Return a function that is called with a NumPy array, as callbacks are."""

    def called(number: Any) -> Any:
        call(number)
        return np.asarray(number) * 2

    return called


def custom_vjp(call: Callable[[Any], None]) -> Any:
    function = jax.custom_vjp(lambda value: value * 2)
    function.defvjp(lambda value: (value * 2, None), lambda _, gradient: (beside(call)(gradient),))
    return jax.grad(function)(one())


def custom_jvp(call: Callable[[Any], None]) -> Any:
    function = jax.custom_jvp(lambda value: value * 2)
    function.defjvp(lambda primals, tangents: (primals[0] * 2, beside(call)(tangents[0])))
    return jax.jvp(function, (one(),), (one(),))


def custom_vmap(call: Callable[[Any], None]) -> Any:
    function = jax.custom_batching.custom_vmap(lambda value: value * 2)

    @function.def_vmap  # type: ignore[untyped-decorator]
    def _rule(_size: Any, batched: Any, value: Any) -> Any:
        return beside(call)(value), batched[0]

    return jax.vmap(function)(many())


def shard_map(call: Callable[[Any], None]) -> Any:
    mesh, spec = Mesh(np.array(jax.devices()[:1]), ("x",)), PartitionSpec("x")
    return jax.shard_map(beside(call), mesh=mesh, in_specs=spec, out_specs=spec)(many())


def while_loop(call: Callable[[Any], None]) -> Any:
    return lax.while_loop(lambda value: value < 2, beside(once(call)), one())


def associative_scan(call: Callable[[Any], None]) -> Any:
    made = once(call)

    def combined(left: Any, right: Any) -> Any:
        made(left)
        return left + right

    return lax.associative_scan(combined, jnp.ones(2))


def effect(call: Callable[[Any], None]) -> Any:
    def called(number: Any) -> None:
        call(number)

    jax.jit(lambda value: jax.debug.callback(called, value, ordered=True))(one())
    jax.effects_barrier()


def pure_callback(call: Callable[[Any], None]) -> Any:
    return jax.pure_callback(
        from_the_host(once(call)), jax.ShapeDtypeStruct((), jnp.float32), one()
    ).block_until_ready()


def mesh() -> Any:
    return jax.set_mesh(jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,)))


def explicit_mesh() -> Any:
    return jax.set_mesh(jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,)))


MODES: dict[str, Mode] = {
    "disable_jit": within(jax.disable_jit),
    "debug_nans": within(lambda: jax.debug_nans(True)),
    "debug_infs": within(lambda: jax.debug_infs(True)),
    "debug_nans set": set_to("jax_debug_nans", True),
    "checking_leaks": within(jax.checking_leaks),
    "debug_key_reuse": within(lambda: jax.debug_key_reuse(True)),
    "enable_checks": within(lambda: jax.enable_checks(True)),
    "enable_x64": within(lambda: jax.enable_x64(True)),
    "enable_x64 set": set_to("jax_enable_x64", True),
    "no x64": within(lambda: jax.enable_x64(False)),
    "default_device": within(lambda: jax.default_device(jax.devices("cpu")[0])),
    "default_matmul_precision": within(lambda: jax.default_matmul_precision("bfloat16")),
    "default_prng_impl": within(lambda: jax.default_prng_impl("rbg")),
    "custom keys alone": within(lambda: jax.enable_custom_prng(True)),
    "no legacy keys": within(lambda: jax.legacy_prng_key("error")),
    "strict promotion": within(lambda: jax.numpy_dtype_promotion("strict")),
    "no rank promotion": within(lambda: jax.numpy_rank_promotion("raise")),
    "no transfers": within(lambda: jax.transfer_guard("disallow_explicit")),
    "no transfers to the host": within(lambda: jax.transfer_guard_device_to_host("disallow_explicit")),
    "no transfers to a device": within(lambda: jax.transfer_guard_host_to_device("disallow_explicit")),
    "no transfers between devices": within(lambda: jax.transfer_guard_device_to_device("disallow_explicit")),
    "no tracing": within(lambda: jax.no_tracing(True)),
    "no execution": within(lambda: jax.no_execution(True)),
    "log_compiles": within(lambda: jax.log_compiles(True)),
    "named_scope": within(lambda: jax.named_scope("scope")),
    "compile-time evaluation": within(jax.ensure_compile_time_eval),
    "eager constant folding": set_to("eager_constant_folding", True),
    "a mesh": within(mesh),
    "a mesh of explicit axes": within(explicit_mesh),
    "a mesh of old": within(lambda: Mesh(np.array(jax.devices()[:1]), ("x",))),
    "the profiler's annotation": within(lambda: jax.profiler.TraceAnnotation("call")),
    "NumPy raises": within(lambda: np.errstate(all="raise")),
    "jit": lambda call: jax.jit(beside(call))(one()),
    "jit of a donated": lambda call: jax.jit(beside(call), donate_argnums=0)(one()),
    "lowered ahead of time": lambda call: jax.jit(beside(call)).lower(one()).compile()(one()),
    "grad": lambda call: jax.grad(beside(call))(one()),
    "value_and_grad": lambda call: jax.value_and_grad(beside(call))(one()),
    "jit of grad": lambda call: jax.jit(jax.grad(beside(call)))(one()),
    "hessian": lambda call: jax.hessian(beside(once(call)))(one()),
    "jacfwd": lambda call: jax.jacfwd(beside(call))(one()),
    "jacrev": lambda call: jax.jacrev(beside(call))(one()),
    "jvp": lambda call: jax.jvp(beside(call), (one(),), (one(),)),
    "vjp": lambda call: jax.vjp(beside(call), one())[1](one()),
    "linearize": lambda call: jax.linearize(beside(call), one()),
    "linear_transpose": lambda call: jax.linear_transpose(beside(call), one())(one()),
    "jet": lambda call: jet.jet(beside(call), (one(),), ((one(),),)),
    "vmap": lambda call: jax.vmap(beside(call))(many()),
    "jit of vmap": lambda call: jax.jit(jax.vmap(beside(call)))(many()),
    "pmap": lambda call: jax.pmap(beside(once(call)))(many()),
    "shard_map": shard_map,
    "checkpoint": lambda call: jax.grad(jax.checkpoint(beside(call)))(one()),
    "eval_shape": lambda call: jax.eval_shape(beside(call), one()),
    "make_jaxpr": lambda call: jax.make_jaxpr(beside(call))(one()),
    "export": lambda call: jax.export.export(jax.jit(beside(call)))(jax.ShapeDtypeStruct((), jnp.float32)),
    "closure_convert": lambda call: jax.closure_convert(beside(call), one()),
    "custom_vjp": custom_vjp,
    "custom_jvp": custom_jvp,
    "custom_vmap": custom_vmap,
    "checkify": lambda call: checkify.checkify(beside(call))(one()),
    "scan": lambda call: lax.scan(lambda carry, x: (beside(call)(carry), x), one(), many()),
    "fori_loop": lambda call: lax.fori_loop(0, 2, lambda _, value: beside(once(call))(value), one()),
    "while_loop": while_loop,
    "cond": lambda call: lax.cond(True, beside(call), lambda value: value * 2, one()),
    "switch": lambda call: lax.switch(0, [beside(call), lambda value: value * 2], one()),
    "map": lambda call: lax.map(beside(call), many()),
    "associative_scan": associative_scan,
    "a callback": pure_callback,
    "a callback with effects": effect,
    "an ordered callback": lambda call: jax.jit(
        lambda value: io_callback(from_the_host(call), jax.ShapeDtypeStruct((), jnp.float32), value, ordered=True)
    )(one()).block_until_ready(),
    "nnx.jit": lambda call: nnx.jit(beside(call))(one()),
    "nnx.grad": lambda call: nnx.grad(beside(call))(one()),
}
"""What the documentation of JAX, and of Flax, has of modes that a function may be called in."""

WITH_VALUES = frozenset(
    {"a callback", "a callback with effects", "an ordered callback", "associative_scan"}
    | {"custom_jvp", "custom_vjp", "custom_vmap"}
)
"""The transformations in which what is given has a value."""

TRACED = frozenset(list(MODES)[list(MODES).index("jit") :]) - WITH_VALUES
"""The modes in which what is given stands for values to come."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what comes of every call without any mode."""
    return {
        call: outcome(JaxWorld(1, tmp_path_factory.mktemp("plain")), lambda made: made(one()), call) for call in CALLS
    }


@pytest.mark.filterwarnings("ignore:`with mesh.`:DeprecationWarning")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mode", MODES)
def test_a_call_within_a_mode(mode: str, call: str, expected: dict[str, Any], tmp_path: Path) -> None:
    """It does what it does without, to the last bit of what is trained on; what has no value is refused by name."""
    found = outcome(JaxWorld(1, tmp_path), MODES[mode], call)
    if call in GIVEN and mode in TRACED:
        assert isinstance(found, keepfast.InvalidValue)
        assert re.search("`a`.*it is being traced", str(found))
    else:
        assert found == expected[call]
