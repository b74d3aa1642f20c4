"""A scheduler that takes the machine away costs no progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

PROGRAM = """
import sys, time, torch, keepfast

net = torch.nn.Linear(2, 2)
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["jsonl"], "write_interval": 3}
with keepfast.Experiment({**cfg, "checkpoint_interval": 1000}, timesteps=100_000) as experiment:
    experiment.register(net=net)
    start = experiment.resume()
    print("from", start, flush=True)
    for timestep in range(start, 100_000):
        with torch.no_grad():
            net.weight.fill_(timestep + 1)
        experiment.track_data("Loss / Loss", 1.0)
        experiment.step(timestep)
        if timestep - start == 20:
            print("running", flush=True)
        time.sleep(0.002)
"""


def start(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(directory)], stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_saves_and_leaves(number: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM and SIGUSR1 leave a checkpoint of the timestep that ran, from which the next start goes on."""
    with start(tmp_path) as process:
        assert line_of(process) == "from 0"
        assert line_of(process) == "running"
        os.kill(process.pid, number)
        assert process.wait(60) == 128 + number
    (saved,) = (tmp_path / "run" / "checkpoints").glob("agent_*.pt")
    timestep = int(saved.stem.partition("_")[2])
    assert timestep > 20
    weight = torch.load(saved, weights_only=True)["net"]["weight"]
    assert torch.equal(weight, torch.full((2, 2), float(timestep)))

    with start(tmp_path) as again:
        assert line_of(again) == f"from {timestep}"
        again.send_signal(signal.SIGTERM)


def test_an_interpreter_exit_finishes_what_was_promised(tmp_path: Path) -> None:
    """A program that ends without closing leaves its last checkpoint whole on disk."""
    program = PROGRAM.replace("        time.sleep(0.002)\n", "        if timestep == 30:\n            break\n")
    program = (
        program.replace("with keepfast.Experiment(", "experiment = keepfast.Experiment(").replace(
            ", timesteps=100_000) as experiment:", ", timesteps=100_000)\nif True:"
        )
        + "    experiment.write_checkpoint(31)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / "run" / "checkpoints" / "agent_31.pt", weights_only=True)
    assert float(saved["net"]["weight"][0, 0]) == 31.0
