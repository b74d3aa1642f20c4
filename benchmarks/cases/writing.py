"""Writing 20 tags at one step to TensorBoard, against 20 add_scalar calls of each library.

A round writes many steps and ends when its writer has flushed. tensorboardX's flush leaves events in its queue, so its
round waits until that is empty.
"""

from __future__ import annotations

import itertools
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.measure import AtLeast, Peer, Round, Row, Settings, clock, compare, installed

TAGS = [f"Loss / Part {number} (mean)" for number in range(20)]
STEPS = 100
"""How many steps a round writes."""

ROUNDS = 5

AddScalar = Callable[[str, float, int], object]


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each library and each peer."""
    peers = {name: Peer(peer_round(*made), limit) for name, made, limit in found_peers(settings.directory)}
    for library in ("torch", "tensorboardX"):
        if not installed(library):
            continue
        writer = {"name": "tensorboard", "library": library}
        cfg = {"directory": str(settings.directory), "experiment_name": f"ours-{library}", "writers": [writer]}
        with keepfast.Experiment(cfg) as experiment:
            what = f"20 tags at a step, through {library}'s events"
            ours = our_round(experiment.writer)
            for row in compare(what, ours, peers, rounds=ROUNDS):
                yield Row(row.what, row.against, row.ours / STEPS, row.theirs / STEPS, row.limit)


def our_round(writer: keepfast.Writer) -> Round:
    """Return a round of the calls that an experiment makes at its write interval."""
    counter = itertools.count()

    def work() -> None:
        for _ in range(STEPS):
            step = next(counter)
            writer.write_scalars(dict.fromkeys(TAGS, step * 0.5), step, time.time())
        writer.flush()

    return clock(work)


def peer_round(add_scalar: AddScalar, flush: Callable[[], object]) -> Round:
    """Return a round of a call for each tag."""
    counter = itertools.count()

    def work() -> None:
        for _ in range(STEPS):
            step = next(counter)
            for tag in TAGS:
                add_scalar(tag, step * 0.5, step)
        flush()

    return clock(work)


def found_peers(directory: Path) -> Iterator[tuple[str, tuple[AddScalar, Callable[[], object]], AtLeast | None]]:
    """Yield each peer that is installed: its name, its calls, and what was promised against it."""
    if installed("torch", "tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(directory / "torch"))
        yield "torch's SummaryWriter", (writer.add_scalar, writer.flush), AtLeast(6)
    if installed("tensorboardX"):
        import tensorboardX

        x = tensorboardX.SummaryWriter(str(directory / "tensorboardX"))
        yield "tensorboardX", (x.add_scalar, lambda: drain_tensorboardx(x)), AtLeast(6)
    if installed("clu", "torch"):
        clu = clu_writer(str(directory / "clu"))
        yield "CLU, its writer for PyTorch", (lambda tag, v, step: clu.write_scalars(step, {tag: v}), clu.flush), None
    if installed("torchrl"):
        yield from torchrl_peers(directory)


def drain_tensorboardx(writer: Any) -> None:
    """Wait until tensorboardX's thread has written every event."""
    queue = writer.file_writer.event_writer._event_queue
    while not queue.empty():
        time.sleep(1e-4)
    writer.flush()


def clu_writer(directory: str) -> Any:
    """Return CLU's writer for PyTorch; its package imports TensorFlow for another writer, which we do without."""
    absent = types.ModuleType("clu.metric_writers.tf.summary_writer")
    absent.SummaryWriter = None  # type: ignore[attr-defined]
    sys.modules.setdefault(absent.__name__, absent)
    from clu.metric_writers.torch_tensorboard_writer import TorchTensorboardWriter

    return TorchTensorboardWriter(directory)


def torchrl_peers(directory: Path) -> Iterator[tuple[str, tuple[AddScalar, Callable[[], object]], None]]:
    """Yield torchrl's loggers for TensorBoard and for csv files."""
    from torchrl.record.loggers import CSVLogger, TensorboardLogger

    board = TensorboardLogger("run", log_dir=str(directory / "torchrl"))
    yield "torchrl's TensorboardLogger", (board.log_scalar, board.experiment.flush), None
    table = CSVLogger("run", log_dir=str(directory / "torchrl-csv"))
    yield "torchrl's CSVLogger", (table.log_scalar, lambda: None), None
