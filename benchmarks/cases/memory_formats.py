"""How fast each memory format writes and reads, beside np.savez, torch.save, Minari's writer and a raw write.

Nothing is promised here but csv's speed, which is another benchmark. Our files are durable when a write returns, and
verified when a read returns; the peers' are neither, but for the raw write.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import keepfast
from benchmarks.cases.checkpoint_durable import write_raw
from benchmarks.measure import Peer, Row, Settings, clock, compare, installed, median
from benchmarks.memories import host_samples, rows_for
from keepfast.errors import MissingDependency
from keepfast.plugins.formats import exporter_named

FORMATS = ("pt", "npz", "safetensors", "parquet", "csv")
SLOW_FORMATS = ("minari",)
"""What takes minutes."""

ROUNDS = {30: 3, 700: 1}
"""How many rounds count, by the size in MB."""

Samples = Mapping[str, NDArray[Any]]
Works = dict[str, Callable[[], object]]


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each format; the rates are of the samples in memory."""
    for size in (30, 700) if settings.large else (30,):
        samples = host_samples(rows_for(size * 1_000_000))
        writers, readers = peers_for(samples, settings.directory)
        for name in FORMATS + SLOW_FORMATS if settings.large else FORMATS:
            with contextlib.suppress(MissingDependency):
                yield from format_rows(name, samples, settings.directory, writers, readers, ROUNDS[size])
                writers, readers = first_of(writers), first_of(readers)  # the others once, beside the first format


def format_rows(
    name: str, samples: Samples, directory: Path, writers: Works, readers: Works, rounds: int
) -> Iterator[Row]:
    """Yield the rows of one format."""
    chosen, snapshot = exporter_named(name), keepfast.MemorySnapshot(dict(samples), 0, 0, filled=True)
    path, nbytes = directory / f"ours{chosen.extension}", sum(tensor.nbytes for tensor in samples.values())
    write = clock(lambda: chosen.save(snapshot, path), before=os.sync)
    read = clock(lambda: touch(keepfast.read_memory(path).tensors))
    for what, ours, others in (("write", write, writers), ("read", read, readers)):
        peers = {peer: Peer(clock(work, before=os.sync)) for peer, work in others.items()}
        named = f"{what} a memory of {nbytes / 1e6:.0f} MB, {name}"
        yield from compare(named, ours, peers, rounds=rounds, summary=median, nbytes=nbytes)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def first_of(peers: Works) -> Works:
    """Return the first peer alone."""
    return dict(list(peers.items())[:1])


def touch(tensors: Samples) -> None:
    """Read every value, for formats whose arrays are still on disk when they are returned."""
    for tensor in tensors.values():
        np.count_nonzero(tensor)


def peers_for(samples: Samples, directory: Path) -> tuple[Works, Works]:
    """Return what others write and read the same samples with."""
    data = b"".join(tensor.tobytes() for tensor in samples.values())
    raw, npz, pt = (directory / f"peer{suffix}" for suffix in (".raw", ".npz", ".pt"))
    writers: Works = {
        "a raw write and fsync": lambda: write_raw(raw, data),
        "np.savez": lambda: np.savez(npz, **samples),  # type: ignore[arg-type]
    }
    readers: Works = {"a raw read": raw.read_bytes, "np.load": lambda: touch(dict(np.load(npz)))}
    if installed("torch"):
        import torch

        tensors = {name: torch.from_numpy(tensor) for name, tensor in samples.items()}
        writers["torch.save"] = lambda: torch.save(tensors, pt)
        readers["torch.load"] = lambda: torch.load(pt, weights_only=True)
    if installed("minari", "h5py"):
        writers["Minari's writer"] = lambda: write_minari(samples, directory / "minari")
    for write in writers.values():
        write()
    return writers, readers


def write_minari(samples: Samples, directory: Path) -> None:
    """Write the samples with Minari's own storage, the episodes of each environment."""
    import gymnasium
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    states, actions = samples["states"], samples["actions"]
    spaces = [gymnasium.spaces.Box(-np.inf, np.inf, tensor.shape[2:]) for tensor in (states, actions)]
    storage = MinariStorage.new(directory, observation_space=spaces[0], action_space=spaces[1], data_format="hdf5")
    ended = samples["terminated"][:, :, 0]
    episodes = itertools.count()
    for env in range(states.shape[1]):
        stops = [*(np.flatnonzero(ended[:-1, env]) + 1).tolist(), len(states) - 1]
        storage.update_episodes(
            [
                EpisodeBuffer(
                    id=next(episodes),
                    observations=states[start : stop + 1, env],
                    actions=actions[start:stop, env],
                    rewards=samples["rewards"][start:stop, env, 0],
                    terminations=ended[start:stop, env],
                    truncations=np.zeros(stop - start, bool),
                )
                for start, stop in itertools.pairwise([0, *stops])
                if stop > start
            ]
        )
