"""Runs one loop on four devices of the CPU, under ``pmap`` or ``shard_map``; started by `test_scan_devices.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

import keepfast
import keepfast_jax

STEPS, DEVICES = 20, 4


def step(carry: Any, x: Any) -> Any:
    value, shared = carry
    done = (x + jnp.arange(2)) % 5 == 4
    tracked = {"Loss / x": value.sum(), "episodes": keepfast_jax.Transitions(value + x, done, ~done & done)}
    return (value + 1.0, shared * 0.5), tracked


def train(value: Any, experiment: keepfast.Experiment) -> Any:
    return keepfast_jax.scan(step, (value, jnp.float32(1.0)), jnp.arange(STEPS), experiment=experiment)[0][0]


def on_devices(form: str, experiment: keepfast.Experiment) -> Any:
    values = jnp.arange(2.0 * DEVICES).reshape(DEVICES, 2)
    if form == "pmap":
        return jax.pmap(lambda value: train(value, experiment))(values)
    mesh = jax.make_mesh((DEVICES,), ("device",), axis_types=(AxisType.Auto,))
    one = PartitionSpec("device")
    each = jax.shard_map(lambda value: train(value[0], experiment)[None], mesh=mesh, in_specs=one, out_specs=one)
    return jax.jit(each)(values)


def main() -> None:
    form, directory = sys.argv[1], Path(sys.argv[2])
    assert jax.device_count() == DEVICES
    cfg = {"directory": str(directory), "experiment_name": form, "writers": ["jsonl"]}
    for start in (0, 10):
        for path in (directory / form / "checkpoints").glob("*.safetensors"):
            if path.name != "agent_10.safetensors":
                path.unlink()
        experiment = keepfast.Experiment({**cfg, "write_interval": 4, "checkpoint_interval": 10}, timesteps=STEPS)
        with experiment:
            values = on_devices(form, experiment)
        assert (experiment.resumed.timestep if experiment.resumed else 0) == start
        np.testing.assert_array_equal(values, np.arange(2.0 * DEVICES).reshape(DEVICES, 2) + STEPS)


if __name__ == "__main__":
    main()
