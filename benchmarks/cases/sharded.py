"""What two processes save together, against torch.distributed.checkpoint and Orbax alone on the same state."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.measure import AtMost, Row, Settings, installed
from benchmarks.sharded import MEGABYTES, PROCESSES

PEERS = {"torch": ("torch", "torch.distributed.checkpoint"), "jax": ("orbax", "Orbax StandardCheckpointer")}


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each framework."""
    for framework, (package, peer) in PEERS.items():
        if installed(framework, package):
            took = saved(settings, framework)
            what = f"sharded save of {MEGABYTES} MB by {PROCESSES} processes, {framework}"
            nbytes = MEGABYTES * 1_000_000
            yield Row(what, peer, median(took["ours"]), median(took["theirs"]), AtMost(1.15), nbytes=nbytes)


def saved(settings: Settings, framework: str) -> dict[str, list[float]]:
    """Return what each save took, ours and the peer's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.sharded", framework, str(settings.directory)]
    processes = [
        subprocess.Popen([*command, str(rank), port], stdout=subprocess.PIPE, text=True) for rank in range(PROCESSES)
    ]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    found: dict[str, list[float]] = json.loads(printed[0].splitlines()[-1])
    return found
