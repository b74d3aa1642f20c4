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

import keepfast  # noqa: E402


def cfg_in(directory: Path) -> dict[str, Any]:
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"]}}


@pytest.mark.parametrize("device", ["cud:7", "cpu:99", object(), 3])
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
