"""Agents of JAX are on the device that their constructor names."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import serialization, struct  # noqa: E402

import keepfast  # noqa: E402


def cfg_in(directory: Path) -> dict[str, Any]:
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"]}}


class WithoutText:
    """What may not be asked for its text, as a tensor whose memory was freed."""

    def __str__(self) -> str:
        raise SystemExit("it was asked")


@pytest.mark.parametrize("device", ["cud:7", "cpu:99", object(), 3, WithoutText()])
def test_a_device_that_is_none_is_told(device: Any, tmp_path: Path) -> None:
    """At construction, with the devices that there are."""
    with pytest.raises(keepfast.InvalidValue, match=r"there is no device .*; known: cpu"):
        keepfast.Agent({"policy": {"w": jnp.zeros(2)}}, device=device, cfg=cfg_in(tmp_path))


LOADED = """
    import jax, jax.numpy as jnp, optax
    import keepfast, keepfast_jax

    near, far = jax.devices()
    params = {"w": jnp.arange(3.0)}
    cfg = {"experiment": {"directory": "runs", "writers": ["jsonl"], "checkpoint_interval": 1}}

    class Agent(keepfast.Agent):
        def __init__(self, device=None, memory=None):
            super().__init__({"policy": dict(params)}, memory, device=device, cfg=cfg)
            self.optimizer = optax.adam(1e-3).init(params)
            self.checkpoint_modules["optimizer"] = keepfast.attribute(self, "optimizer")

    def devices(agent):
        return {leaf.device for leaf in jax.tree.leaves((agent.models["policy"], agent.optimizer))}

    path = Agent().save("agent.safetensors")
    for device in (far, "cpu:1", jax.sharding.SingleDeviceSharding(far)):
        agent = Agent(device)
        agent.load(path)
        assert devices(agent) == {far}, devices(agent)
        agent.resume(path)
        assert devices(agent) == {far}, devices(agent)
        agent.close()
    agent = Agent()
    agent.load(path)
    assert devices(agent) == {near}

    memory = keepfast_jax.RandomMemory(2, device=far)
    memory.create_tensor("x", 1)
    memory.add_samples(x=jnp.ones((1, 1)))
    assert memory.get_tensor_by_name("x").device == far
    saved = memory.save("memory")
    other = keepfast_jax.RandomMemory(2, device="cpu:1")
    other.load(saved)
    other.add_samples(x=jnp.ones((1, 1)))
    assert other.storage.buffers["x"].device == other.sample(["x"], 2)[0][0].device == far
    print("ok")
"""


def test_a_load_puts_arrays_on_the_agents_device(tmp_path: Path) -> None:
    """Models, optax states and memories, by whatever name the device was given; a resume does it too."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(LOADED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"


@struct.dataclass
class Params:
    """What skrl's models have for a state dict."""

    params: Any
    apply_fn: Any = struct.field(pytree_node=False)


class Model:
    """A model as skrl has them on JAX, whose attribute `state_dict` is replaced as it learns."""

    def __init__(self, value: float | None) -> None:
        if value is not None:
            self.state_dict = Params({"params": {"w": jnp.full(2, value)}}, len)


class Scaler:
    """A preprocessor as skrl has them on JAX, whose `state_dict` is made when it is asked for."""

    class Told:
        def __init__(self, params: Any) -> None:
            self.params = params

        def replace(self, params: Any) -> Any:
            return params

    def __init__(self, mean: float) -> None:
        self.mean = jnp.full(1, mean)

    @property
    def state_dict(self) -> Any:
        return self.Told({"mean": self.mean})

    @state_dict.setter
    def state_dict(self, value: Any) -> None:
        self.mean = value["mean"]


class Learner(keepfast.Agent):
    """Registers what it has, and replaces it, as agents of skrl do."""

    def __init__(self, directory: Path, value: float = 0.0) -> None:
        super().__init__({"policy": Model(value)}, cfg=cfg_in(directory))
        self.optimizer = optax.adam(1e-3).init({"w": jnp.full(2, value)})
        self.entropy, self.twin = jnp.full(1, value), jnp.full(3, value)
        self.other = self.twin
        self._scaler = Scaler(value)
        self.checkpoint_modules.update(policy_optimizer=self.optimizer, log_entropy=self.entropy, twin=self.twin)
        self.checkpoint_modules["scaler"] = self._scaler

    def learn(self) -> None:
        self.models["policy"].state_dict = self.models["policy"].state_dict.replace(
            params={"params": {"w": jnp.ones(2)}}
        )
        self.optimizer = jax.tree_util.tree_map(lambda leaf: leaf + 1, self.optimizer)
        self.entropy, self.twin, self._scaler.mean = jnp.ones(1), jnp.ones(3), jnp.ones(1)

    def values(self) -> list[Any]:
        held = (self.models["policy"].state_dict.params, self.optimizer, self.entropy, self.twin, self._scaler.mean)
        return [np.asarray(leaf).tolist() for leaf in jax.tree_util.tree_leaves(held)]


def test_what_is_replaced_is_the_agents_attribute_that_holds_it(tmp_path: Path) -> None:
    """Also where several do, and one has the name: checkpoints hold what the agent has then, and loads replace it."""
    agent = Learner(tmp_path)
    before = agent.values()
    agent.init({"timesteps": 4})
    agent.learn()
    assert (after := agent.values()) != before
    agent.write_checkpoint(2, 4)
    agent.wait()
    checkpoint = next((agent.experiment_dir / "checkpoints").glob("agent_2.*"))
    path = agent.save(tmp_path / "agent.safetensors")
    agent.close()
    for source in (checkpoint, path):
        other = Learner(tmp_path)
        apply = other.models["policy"].state_dict.apply_fn
        assert other.load(source)
        assert (other.values(), other.models["policy"].state_dict.apply_fn) == (after, apply)
        other.close()
    resumed = Learner(tmp_path)
    assert resumed.resume(checkpoint) == 2
    assert resumed.values() == after
    resumed.close()


def test_what_no_attribute_of_the_agent_holds_is_refused(tmp_path: Path) -> None:
    """As ever, by name: nobody could tell where the restored one goes."""
    agent = Learner(tmp_path)
    agent.checkpoint_modules["twin"] = jnp.zeros(3)
    with pytest.raises(keepfast.UnsupportedModule, match=r"`twin` is a .*, which is replaced, not changed"):
        agent.init({"timesteps": 4})


def test_a_model_of_skrl_is_its_parameters(tmp_path: Path) -> None:
    """In a file they are where skrl has them, whose bytes are read too; without a state dict nothing can be kept."""
    path = keepfast.save(Model(3.0), tmp_path / "policy.msgpack")
    assert serialization.msgpack_restore(path.read_bytes())["params"]["w"].tolist() == [3, 3]
    (tmp_path / "its.msgpack").write_bytes(serialization.to_bytes(Model(4.0).state_dict.params))
    model = Model(0.0)
    assert keepfast.load(model, tmp_path / "its.msgpack")
    assert model.state_dict.params["params"]["w"].tolist() == [4, 4]
    with pytest.raises(keepfast.KeepfastError, match=r"no backend knows|without a `state_dict`"):
        keepfast.save(Model(None), tmp_path / "none.msgpack")


class Refusing:
    """Has a state dict that it does not tell."""

    @property
    def state_dict(self) -> Any:
        raise RuntimeError("not now")


def test_a_state_dict_that_is_not_told_is_none(tmp_path: Path) -> None:
    """What its property raises is not raised by a save."""
    with pytest.raises(keepfast.UnsupportedModule, match="Refusing"):
        keepfast.save({"x": Refusing(), "w": jnp.zeros(1)}, tmp_path / "x.safetensors")
