"""One of two processes that save what is spread over them, by Keepfast and by its framework's own library in turns.

``python -m benchmarks.sharded torch DIRECTORY RANK PORT``; the first prints what each save took, in seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keepfast
from keepfast.interfaces.sharding.format import ShardedFormat, key_of
from keepfast.plugins.backends import backend_named

PROCESSES, ROUNDS = 2, 9
MEGABYTES = 64
Save = Callable[[Path], object]


def on_torch(rank: int, port: int) -> tuple[Any, Save, ShardedFormat, Callable[[], object]]:
    """Return a network's state, what saves it with DCP, our format, and a barrier."""
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from keepfast_torch.sharding.dcp import DcpStore

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES)
    layers = (torch.nn.Linear(1000, MEGABYTES * 250 // 8) for _ in range(8))
    policy = fully_shard(torch.nn.Sequential(*layers), mesh=init_device_mesh("cpu", (PROCESSES,)))
    return policy, lambda path: dcp.save({"policy": policy.state_dict()}, checkpoint_id=path), DcpStore(), dist.barrier


def on_jax(rank: int, port: int) -> tuple[Any, Save, ShardedFormat, Callable[[], object]]:
    """Return a tree of arrays, what saves it with Orbax, our format, and a barrier."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp
    from jax.experimental.multihost_utils import sync_global_devices
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from keepfast_jax.sharding.orbax import OrbaxStore

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", PROCESSES, rank)
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    values = np.random.default_rng(0).normal(size=(1000, MEGABYTES * 250 // 8)).astype(np.float32)
    tree = {f"layer_{n}": jax.make_array_from_callback(values.shape, rows, lambda at: values[at]) for n in range(8)}
    checkpointer = ocp.StandardCheckpointer()

    def save(path: Path) -> None:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()

    return tree, save, OrbaxStore(), lambda: sync_global_devices("benchmark")


def ours(module: Any, store: ShardedFormat, framework: str) -> Save:
    """Return what saves a module as `keepfast.save` does, with the conversation that an experiment has."""
    backend = backend_named(framework)
    store.peers = backend.peers()

    def save(path: Path) -> None:
        state = {"policy": backend.host_view(backend.capture(module))}
        content = keepfast.Checkpoint(state, {"keepfast": keepfast.__version__, "timestep": 1})
        if store.peers is None or store.peers.first:
            with store.leading():
                store.save(content, path)
        else:
            store.follow({key_of(content): content})

    return save


def main(framework: str, directory: str, rank: str, port: str) -> None:
    """Save in turns."""
    module, theirs, store, barrier = {"torch": on_torch, "jax": on_jax}[framework](int(rank), int(port))
    saves = {"ours": ours(module, store, framework), "theirs": theirs}
    took: dict[str, list[float]] = {name: [] for name in saves}
    for turn in range(ROUNDS + 1):
        for name, save in saves.items():
            path = Path(directory, f"{name}_{turn}{store.extension if name == 'ours' else ''}").resolve()
            os.sync()
            barrier()
            start = time.perf_counter()
            save(path)
            took[name].append(time.perf_counter() - start)
            barrier()
            if rank == "0":
                shutil.rmtree(path)
    if rank == "0":
        print(json.dumps({name: seconds[1:] for name, seconds in took.items()}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
