"""Runs loops under `keepfast_jax.scan` in processes of their own; started by `test_scan_stops.py`.

The process imports everything once and then forks a child for each line it reads: a form and the name of a run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import flax  # noqa: F401  (imported for the children)
import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401  (the same)

import keepfast
import keepfast.experiment  # what a child would otherwise import after the fork
import keepfast_jax
import keepfast_jax.backend
import keepfast_jax.scanning.scan

STEPS = 3000


def step(carry: Any, x: Any) -> Any:
    value, key = carry
    key, draw = jax.random.split(key)
    value = jax.lax.fori_loop(0, 300, lambda _, value: jnp.sin(value) + 0.1, value) + jax.random.normal(draw, (3,))
    return (value, key), {
        "Loss / x": value.sum(),
        "episodes": keepfast_jax.Transitions(value, value > 1.5, value < -1.5),
    }


def train(seed: Any, experiment: keepfast.Experiment) -> Any:
    return keepfast_jax.scan(step, (jnp.zeros(3), jax.random.key(seed)), jnp.arange(STEPS), experiment=experiment)[0]


def run(form: str, directory: Path, name: str) -> None:
    cfg = {"directory": str(directory), "experiment_name": name, "writers": ["jsonl"]}
    cfg |= {"write_interval": 80, "checkpoint_interval": 100}
    with keepfast.Experiment(cfg, timesteps=STEPS) as experiment:
        if form == "outside":
            carry = train(0, experiment)
        elif form == "inside":
            carry = jax.jit(lambda seed: train(seed, experiment))(0)
        else:
            carry = jax.jit(jax.vmap(lambda seed: train(seed, experiment)))(jnp.arange(2))
        jax.block_until_ready(carry)
    np.savez(directory / f"{name}.npz", value=carry[0], key=jax.random.key_data(carry[1]))


def count(form: str, directory: Path, name: str, steps: int, interval: int) -> None:
    """Run a loop that counts its steps, and writes far more often than it stores."""
    cfg = {"directory": str(directory), "experiment_name": name, "writers": ["jsonl"]}
    cfg |= {"write_interval": interval, "checkpoint_interval": steps}
    with keepfast.Experiment(cfg, timesteps=steps) as experiment:

        def loop(first: Any) -> Any:
            return keepfast_jax.scan(lambda x, _: (x + 1, {"x": x}), first, length=steps, experiment=experiment)[0]

        jax.block_until_ready((jax.jit(loop) if form.endswith("inside") else loop)(0.0))


def code_of(form: str, directory: Path, name: str) -> int:
    """Return what a process that runs a loop exits with."""
    try:
        if form.startswith("counting"):
            count(form, directory, name, *map(int, sys.argv[2:]))
        else:
            run(form, directory, name)
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        (directory / f"{name}.unwound").touch()
    return 0


def main() -> None:
    directory = Path(sys.argv[1])
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # a kill would leave half an entry
    for line in sys.stdin:
        form, name = line.split()
        child = os.fork()
        if child == 0:
            os._exit(code_of(form, directory, name))
        os.write(1, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
