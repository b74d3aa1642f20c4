"""What agents keep beside networks comes back beside modules of JAX, and among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from flax.training.dynamic_scale import DynamicScale  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

import keepfast  # noqa: E402
from keepfast.testing import KeptContract  # noqa: E402
from keepfast.testing.kept import Kept  # noqa: E402
from keepfast_jax import JaxBackend  # noqa: E402
from tests.both_backends import undone  # noqa: E402
from tests.both_backends.kept import KeptSuite  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402

backend = JaxBackend()


class TestKeptBesideJax(KeptContract):
    """Every kind, beside parameters and an nnx module."""

    @pytest.fixture
    def companions(self) -> Callable[[int], Mapping[str, Any]]:
        return lambda seed: {
            "params": {"w": jnp.full((2,), float(seed))},
            "module": nnx.Linear(1, 1, rngs=nnx.Rngs(seed)),
        }


class TestKeptByJax(Jax, KeptSuite):
    """Every kind, with arrays, nnx modules, train states and optax states among them."""

    def array(self, *values: float) -> Any:
        return jnp.asarray(values, jnp.float32)

    def network(self, seed: int) -> dict[str, Any]:
        policy = nnx.Linear(3, 2, rngs=nnx.Rngs(seed))
        tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.1 / seed)
        owner = SimpleNamespace(state=TrainState.create(apply_fn=None, params={"w": jnp.full((2,), 1.0 / seed)}, tx=tx))
        optimizer = nnx.Optimizer(policy, optax.adam(0.1), wrt=nnx.Param)
        return {"policy": policy, "optimizer": optimizer, "state": keepfast.attribute(owner, "state")}

    def averaged(self, seed: int) -> Kept:
        params, average = {"w": self.array(seed, 1)}, optax.ema(0.9)
        owner = SimpleNamespace(params=params, ema=average.init(params), target={"w": self.array(seed + 1, 1)})
        for _ in range(seed):
            _, owner.ema = average.update(params, owner.ema)
        owner.target = optax.incremental_update(params, owner.target, 0.1)
        return self.kept({name: keepfast.attribute(owner, name) for name in vars(owner)}, owner)

    def scaled(self, seed: int) -> Kept:
        owner = SimpleNamespace(scale=DynamicScale(growth_interval=3, scale=jnp.float32(2.0**seed)))
        return self.kept({"kept": keepfast.attribute(owner, "scale")})

    def scheduled(self, seed: int) -> Kept:
        tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lambda step: 0.1 / (step + 1)))
        owner = SimpleNamespace(state=TrainState.create(apply_fn=len, params={"w": self.array(seed)}, tx=tx))
        for _ in range(seed):
            owner.state = owner.state.apply_gradients(grads={"w": self.array(0.5)})
        return self.kept({"kept": keepfast.attribute(owner, "state")})

    def reordered(self, seed: int) -> Kept:
        names = ["a", "b", "c"][:: 1 if seed == 1 else -1]
        params = {name: self.array(seed, number) for number, name in enumerate(sorted(names))}
        params = {name: params[name] for name in names}
        transforms = {name: (optax.adam if name == "a" else optax.sgd)(0.1) for name in names}
        tx = optax.multi_transform(transforms, {name: name for name in names})
        owner = SimpleNamespace(params=params, optimizer=tx.init(params))
        _, owner.optimizer = tx.update(params, owner.optimizer, params)
        kept = {name: keepfast.attribute(owner, name) for name in vars(owner)}
        return Kept(kept, lambda: repr(sorted(undone.bits(kept).items())))

    rows: ClassVar[dict[str, Callable[[Any, int], Kept]]] = {
        **KeptSuite.rows,
        "averaged parameters": averaged,
        "a DynamicScale": scaled,
        "a schedule that is a function": scheduled,
        "an optimizer built in another order": reordered,
        "a key and numbers of other types": lambda self, seed: self.held(
            {
                "key": jax.random.PRNGKey(seed),
                "half": jnp.bfloat16(seed),
                "flag": jnp.bool_(seed == 1),
                "n": np.int8(seed),
            }
        ),
    }


class Scaler:
    """Looks after its own state, which grows."""

    def __init__(self, value: float) -> None:
        self.state = {"mean": jnp.full((2,), value)} | ({"late": jnp.ones(1)} if value == 1 else {})

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = dict(state)


def multi_agent(seed: int) -> dict[str, Any]:
    params = {"w": jnp.full((2,), float(seed))}
    return {
        name: {
            "state": TrainState.create(apply_fn=None, params=params, tx=optax.adam(0.1)),
            "module": nnx.Linear(2, 2, rngs=nnx.Rngs(seed + number)),
            "scaler": Scaler(float(seed)),
            "rng": np.random.default_rng(seed),
            "key": jax.random.key(seed),
            "epsilon": 1.0 / seed,
        }
        for number, name in enumerate(("agent_0", "agent_1"))
    }


def bits(agents: Mapping[str, Any]) -> str:
    def of(part: Any) -> Any:
        if isinstance(part, float):
            return part
        return part.bit_generator.state if hasattr(part, "bit_generator") else backend.host_copy(backend.capture(part))

    return repr({name: {key: of(part) for key, part in agent.items()} for name, agent in agents.items()})


@pytest.mark.parametrize("extension", [".safetensors", ".msgpack", ".pt"])
def test_a_nested_dict_of_modules_comes_back(extension: str, tmp_path: Path) -> None:
    """Train states, nnx modules, objects with a state that grows, generators, keys and numbers, by agent and name."""
    saved, other = multi_agent(1), multi_agent(2)
    module = other["agent_0"]["module"]
    path = keepfast.Agent({"agents": saved}).save(tmp_path / f"agent{extension}")
    report = keepfast.Agent({"agents": other}).load(path)
    assert {"agents.agent_0.state.params.w", "agents.agent_1.scaler.late"} <= set(report.loaded)
    assert bits(other) == bits(saved)
    assert other["agent_0"]["module"] is module
    assert isinstance(other["agent_0"]["state"], TrainState)


def test_a_deque_of_arrays_comes_back(tmp_path: Path) -> None:
    """Arrays and random keys of JAX, into a deque that is empty or shorter: what they were again."""
    pool = deque([{"w": jnp.full((2,), value), "key": jax.random.key(3)} for value in (1.0, 2.0, 3.0)], maxlen=4)
    path = keepfast.save(pool, tmp_path / "pool.safetensors")
    for other in (deque(maxlen=4), deque([{"w": jnp.zeros(2), "key": jax.random.key(0)}], 4)):  # type: ignore[var-annotated]
        keepfast.load(other, path)
        assert (len(other), other.maxlen) == (3, 4)
        assert [entry["w"].tolist() for entry in other] == [[1, 1], [2, 2], [3, 3]]
        assert all(isinstance(entry["w"], jax.Array) and entry["key"] == jax.random.key(3) for entry in other)


def test_attributes_may_be_of_any_kind(tmp_path: Path) -> None:
    """Arrays, which are replaced, a module, which is changed, numbers and NumPy arrays of one object."""

    def make(seed: int) -> Any:
        return SimpleNamespace(
            mean=jnp.full((2,), float(seed)), net=nnx.Linear(1, 1, rngs=nnx.Rngs(seed)), n=seed, a=np.full(2, seed)
        )

    saved, other = make(1), make(2)
    net, array = other.net, other.a
    names = ("mean", "net", "n", "a")
    path = keepfast.save(keepfast.attributes(saved, *names), tmp_path / "normalizer.safetensors")
    assert keepfast.load(keepfast.attributes(other, *names), path)
    assert (other.mean.tolist(), other.n, other.a.tolist()) == ([1, 1], 1, [1, 1])
    assert other.net is net
    assert other.a is array
    assert (net.kernel[...] == saved.net.kernel[...]).all()


def test_a_dataclass_of_jax_is_not_taken_for_a_running_mean(tmp_path: Path) -> None:
    """What has a mean, a variance and a count and is a pytree is replaced as one."""
    from flax import struct

    @struct.dataclass
    class Statistics:
        mean: Any
        var: Any
        count: Any

    owner = SimpleNamespace(stats=Statistics(jnp.zeros(2), jnp.ones(2), 0))
    before = owner.stats
    path = keepfast.save(Statistics(jnp.ones(2), jnp.ones(2), 5), tmp_path / "stats.safetensors")
    assert keepfast.load(keepfast.attribute(owner, "stats"), path)
    assert (owner.stats.mean.tolist(), owner.stats.count, before.count) == ([1, 1], 5, 0)
