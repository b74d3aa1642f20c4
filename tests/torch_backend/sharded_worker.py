"""Runs whose modules are spread over processes: each process is forked from this one, which has imported everything.

``python sharded_worker.py DIRECTORY KILLS 2:fsdp:4 4:both:6`` has one run go on, here with 2 processes until timestep 4
and with 4 until timestep 6; another one lose a process; and a third one be killed, as often, while it saves.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import keepfast
from keepfast_torch.sharding import writing  # noqa: F401  (slow to import, once for all)

LENGTH = 1000
BIG = 1_000_000
"""How many numbers there are in the run that is killed: a save takes long enough to be hit."""


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Tanh(), torch.nn.Linear(10, 5))


def spread(policy: torch.nn.Sequential, layout: str) -> torch.nn.Module:
    """Spread a network: over all processes, over each half of them, or over pairs by layer and the pairs by row."""
    size = dist.get_world_size()
    if layout == "fsdp":
        mesh = init_device_mesh("cpu", (size,))
    elif layout == "halves":
        mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("replicas", "rows"))
    else:
        both = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("rows", "layers"))
        parallelize_module(policy, both["layers"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        mesh = both["rows"]
    return fully_shard(policy, mesh=mesh)


def whole(tensor: Any) -> Any:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().numpy().copy()


def state_of(policy: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return all parameters and what the optimizer keeps of each, put together."""
    found = {name: whole(each) for name, each in policy.named_parameters()}
    for number, each in enumerate(policy.parameters()):
        found |= {f"{number}.{key}": whole(value) for key, value in optimizer.state.get(each, {}).items()}
    return found


def settings(directory: str, **more: Any) -> dict[str, Any]:
    return {"directory": directory, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1, **more}


def train(directory: str, layout: str, until: int) -> None:
    """Go on with a run until a timestep, and keep the state of its beginning and its end."""
    policy = spread(network(), layout)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    with keepfast.Experiment(settings(directory, checkpoint_interval=2), timesteps=LENGTH) as experiment:
        experiment.register(policy=policy, optimizer=optimizer)
        start = experiment.resume()
        first = state_of(policy, optimizer)
        for timestep in range(start, until):
            given = torch.randn(8, 6, generator=torch.Generator().manual_seed(timestep))
            optimizer.zero_grad()
            policy(given).square().mean().backward()
            optimizer.step()
            experiment.record_transition(torch.full((1,), float(timestep)), torch.ones(1), torch.zeros(1))
            experiment.step(timestep)
        last = state_of(policy, optimizer)
    if dist.get_rank() == 0:
        np.savez(Path(directory, f"from_{start}.npz"), **first)
        np.savez(Path(directory, f"to_{until}.npz"), **last)


def fill(directory: str) -> None:
    """Checkpoint at each timestep a network whose every number is that timestep, until somebody kills a process."""
    policy = fully_shard(torch.nn.Linear(BIG // 8, 8), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    cfg = settings(directory, checkpoint_interval=1, keep_last=3)
    with keepfast.Experiment(cfg, timesteps=LENGTH) as experiment:
        experiment.register(policy=policy)
        start = experiment.resume()
        require(policy, start)
        if dist.get_rank() == 0:
            experiment.when_durable(partial(acknowledge, Path(directory, "durable")))
        for timestep in range(start, LENGTH):
            with torch.no_grad():
                for each in policy.parameters():
                    each.to_local().fill_(timestep + 1)
            experiment.record_transition(torch.full((1,), float(timestep)), torch.ones(1), torch.zeros(1))
            experiment.step(timestep)


def acknowledge(path: Path, durable: Any) -> None:
    """Note a periodic checkpoint that is on disk; the best of a timestep is there before."""
    if not durable.is_best:
        fresh = path.with_name("fresh")  # a kill may come between the opening of a file and the writing
        fresh.write_text(str(durable.timestep))
        fresh.replace(path)


def require(policy: torch.nn.Module, timestep: int) -> None:
    parts = [each.to_local() if hasattr(each, "to_local") else each for each in policy.parameters()]
    assert timestep == 0 or all(bool((part == timestep).all()) for part in parts), timestep


def lonely(directory: str) -> None:
    """Go on where the other process is gone, and tell what is told of that."""
    policy = fully_shard(torch.nn.Linear(8, 8), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    experiment = keepfast.Experiment(settings(directory, checkpoint_interval=1), timesteps=6)
    experiment.register(policy=policy)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for timestep in range(6):
            experiment.step(timestep)
            if timestep == 2:
                experiment.wait()
                dist.barrier()
                if dist.get_rank() == 1:
                    os._exit(9)
        experiment.close()
    Path(directory, "told.json").write_text(json.dumps([str(each.message) for each in told]))


def asked(directory: str) -> None:
    """Store by the clock of the first process, until the second is told to end; neither is as fast as the other."""
    policy = fully_shard(torch.nn.Linear(8, 8), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    cfg = settings(directory, checkpoint_interval=0, checkpoint_seconds=0.05, keep_best=0)
    with keepfast.Experiment({**cfg, "write_interval": 2}, timesteps=LENGTH) as experiment:
        experiment.register(policy=policy)
        for timestep in range(LENGTH):
            time.sleep(0.02 * (dist.get_rank() + 1))
            experiment.track_data("Loss / Loss", 1.0)
            experiment.step(timestep)
            if timestep == 20 and dist.get_rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)


def apart(directory: str) -> None:
    """Checkpoint at another timestep in each process."""
    policy = fully_shard(torch.nn.Linear(8, 8), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    with (
        keepfast.Experiment(settings(directory, checkpoint_interval=0), timesteps=4) as experiment,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        experiment.register(policy=policy)
        experiment.write_checkpoint(3 + dist.get_rank())
    if dist.get_rank() == 1:
        Path(directory, "told.json").write_text(json.dumps([str(each.message) for each in told]))


def single(directory: str) -> None:
    """Save one module with all processes, load it again, and tell what formats of one process say."""
    policy = spread(network(), "fsdp")
    path = keepfast.save(policy, Path(directory, "policy.dcp"))
    with torch.no_grad():
        for each in policy.parameters():
            each.zero_()
    assert bool(keepfast.load(policy, path))
    assert all(np.array_equal(whole(one), each.detach().numpy()) for one, each in pairs(policy))
    told = [str(_raised(lambda: keepfast.save(policy, Path(directory, "policy.pt"))))]
    cfg = settings(directory, checkpoint_format="pt")
    with keepfast.Experiment(cfg, timesteps=4) as experiment:
        told.append(str(_raised(lambda: experiment.register(policy=policy))))
    if dist.get_rank() == 1:
        Path(directory, "told.json").write_text(json.dumps(told))


def pairs(policy: torch.nn.Module) -> Any:
    return zip(policy.parameters(), network().parameters(), strict=True)


def _raised(call: Callable[[], object]) -> keepfast.KeepfastError | None:
    try:
        call()
    except keepfast.KeepfastError as error:
        return error
    return None


def begin(size: int, target: Callable[..., None], *args: Any) -> list[int]:
    """Fork the processes of a run, and return their numbers."""
    store = tempfile.mktemp(prefix="ranks")
    children = []
    for rank in range(size):
        if (child := os.fork()) == 0:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
                    target(*args)
                    dist.destroy_process_group()
            except SystemExit as error:
                os._exit(int(error.code or 0))
            except BaseException as error:  # noqa: BLE001  (a forked child ends here, whatever it is)
                sys.stderr.write(f"rank {rank}: {type(error).__name__}: {error}\n")
                os._exit(1)
            os._exit(0)
        children.append(child)
    return children


def end(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def alone(directory: str) -> None:
    """Load the newest checkpoint into a plain network, without any process group, and keep its timestep."""
    policy = torch.nn.Linear(BIG // 8, 8)
    with keepfast.Experiment(settings(directory, distributed=False), timesteps=LENGTH) as experiment:
        experiment.register(policy=policy)
        start = experiment.resume()
        require(policy, start)
    Path(directory, "alone").write_text(str(start))


def in_child(target: Callable[..., None], *args: Any) -> None:
    if (child := os.fork()) == 0:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target(*args)
        except BaseException as error:  # noqa: BLE001  (a forked child ends here, whatever it is)
            sys.stderr.write(f"{target.__name__}: {type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    assert end([child]) == [0]


def shapes(directory: str, stages: list[str]) -> None:
    for size, layout, until in (stage.split(":") for stage in stages):
        assert end(begin(int(size), train, directory, layout, int(until))) == [0] * int(size)


def kills(directory: str, number: int, seed: int) -> None:
    """Kill a process at a random moment, end the others, and load what is there: alone, and on another number."""
    chance = random.Random(seed)
    durable, hit = Path(directory, "durable"), 0
    for turn in range(number):
        size, before = (2, 4)[turn % 2], durable.read_text() if durable.exists() else "0"
        children = begin(size, fill, directory)
        until = time.monotonic() + 60
        while (durable.read_text() if durable.exists() else "0") in ("", before) and time.monotonic() < until:
            time.sleep(0.01)  # they have begun, whatever that took
        time.sleep(chance.uniform(0, 0.3))
        os.kill(chance.choice(children), signal.SIGKILL)
        time.sleep(0.05)
        hit += bool(list(Path(directory, "run", "checkpoints").glob(".*-tmp")))
        for child in children:
            os.kill(child, signal.SIGKILL)
        end(children)
        acknowledged = int(durable.read_text())
        in_child(alone, directory)
        assert int(Path(directory, "alone").read_text()) >= acknowledged
        sys.stdout.write(f"{turn}: {size} processes, one killed after {acknowledged}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{number} kills, {hit} of them within a save\n")


def survivor(directory: str) -> None:
    codes = end(begin(2, lonely, directory))
    assert codes == [0, 9], codes


def main(directory: str, number: str, *stages: str) -> None:
    for name in ("several", "lonely", "asked", "apart", "single", "killed"):
        Path(directory, name).mkdir()
    shapes(f"{directory}/several", list(stages))
    survivor(f"{directory}/lonely")
    assert end(begin(2, asked, f"{directory}/asked")) == [128 + signal.SIGTERM] * 2
    assert end(begin(2, apart, f"{directory}/apart")) == [0, 0]
    assert end(begin(2, single, f"{directory}/single")) == [0, 0]
    kills(f"{directory}/killed", int(number), seed=20)


if __name__ == "__main__":
    main(*sys.argv[1:])
