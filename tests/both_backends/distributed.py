"""In a distributed run one process writes and all of them resume."""

from __future__ import annotations

import abc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from tests.both_backends.framework import Framework


class DistributedSuite(Framework):
    """Runs a program in two processes: 20 timesteps of writing each 5 and a checkpoint each 10."""

    program: ClassVar[str]
    """Its arguments are the directory, the address of the first process, and its own rank.

    It adds or sets 1 to `net` at each timestep, and prints its rank, where it started, and what stands in `net`.
    """

    @abc.abstractmethod
    def surroundings(self, port: int, rank: str) -> dict[str, str]:
        """Return the environment variables that tell a process of the others."""

    def run_two(self, directory: Path) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "-c", self.program, str(directory), f"127.0.0.1:{port}"]
        processes = [
            subprocess.Popen(
                [*command, rank], env={**os.environ, **self.surroundings(port, rank)}, stdout=subprocess.PIPE, text=True
            )
            for rank in ("0", "1")
        ]
        outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        return outputs

    def test_two_processes_leave_one_run(self, tmp_path: Path) -> None:
        """Two processes leave one event file, one jsonl of both, and checkpoints; started again, both resume."""
        assert self.run_two(tmp_path) == ["0 0 20.0", "1 0 20.0"]
        run = tmp_path / "run"
        assert len(list(run.glob("events.out.tfevents.*"))) == 1
        rows = [json.loads(line)["scalars"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [row["Loss / Loss"] for row in rows] == [0.5] * 4  # the mean of their ranks
        assert len(list((run / "ranks" / "1" / "checkpoints").glob("agent_*"))) == 2
        names = {path.name for path in (run / "checkpoints").iterdir()}
        assert names == {"index.json", *(f"{name}{self.extension}" for name in ("agent_10", "agent_20", "best_agent"))}
        assert self.run_two(tmp_path) == ["0 20 20.0", "1 20 20.0"]
