"""What is spread over processes on JAX is stored by all of them, and put together on any number."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")

from typer.testing import CliRunner

import keepfast
from keepfast import testing
from keepfast.checkpoints.verification import verify
from keepfast.cli import app
from keepfast.interfaces.checkpoint_store import CheckpointStore
from keepfast.interfaces.sharding.seal import SEAL
from keepfast_jax.sharding.orbax import OrbaxStore
from tests.both_backends.sharded import arrays, same_bits

WORKER = Path(__file__).with_name("sharded_worker.py")
KILLS = int(os.environ.get("KEEPFAST_KILLS", "1"))
STAGES = ((2, 4), (1, 6), (2, 8), (4, 10), (2, 12)) if KILLS > 1 else ((2, 4), (1, 6))
"""With how many processes a run goes on, and until when; the suite has no time for more."""

ENDS = [until for _, until in STAGES]

pytestmark = pytest.mark.needs("orbax")


@pytest.mark.needs("ml_dtypes")
class TestOrbaxContract(testing.CheckpointStoreContract):
    """A process by itself keeps the contract of formats; damage is told by file."""

    plain_arrays = False

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return OrbaxStore()


def begin(mode: str, folder: Path, size: int, until: int) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", str(WORKER), mode, str(folder)]
    return [
        subprocess.Popen([*command, *map(str, (rank, size, port, until))], stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that went on with another number of processes."""
    folder = tmp_path_factory.mktemp("several")
    for size, until in STAGES:
        processes = begin("train", folder, size, until)
        told = [process.communicate(timeout=180)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * size, told[0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("timestep", ENDS[:-1])
def test_another_number_of_processes_goes_on_with_the_same_bits(several: Path, timestep: int) -> None:
    """Parameters and the optimizer's states are bit for bit those that the other number of processes stored."""
    assert len(same_bits(several, timestep)) == 2 + 1 + 2 * 2


@pytest.mark.slow
def test_a_checkpoint_of_several_processes_is_one_like_any_other(several: Path, tmp_path: Path) -> None:
    """Names, verification, reading without a framework's processes, and conversion are those of any checkpoint."""
    checkpoints = several / "run" / "checkpoints"
    names = {path.name for path in checkpoints.glob("agent_*")}
    assert {"agent_2.orbax", "agent_4.orbax", "agent_6.safetensors"} <= names
    assert [verdict.problem for verdict in verify(several / "run")] == [None] * (len(names) + 1)
    last, path = arrays(several / "to_4.npz"), checkpoints / "agent_4.orbax"
    assert {"ocdbt.process_0", "ocdbt.process_1"} <= {part.name for part in (path / "arrays").iterdir()}
    params: dict[str, Any] = {"weight": np.zeros((8, 6), np.float32), "bias": np.zeros(6, np.float32)}
    assert bool(keepfast.load(params, path, modules=["params"]))
    assert np.array_equal(params["weight"], last["[0]['weight']"])
    ran = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "out.safetensors")])
    assert ran.exit_code == 0, ran.output
    assert bool(keepfast.load(params, tmp_path / "out.safetensors", modules=["params"]))
    assert json.loads(CliRunner().invoke(app, ["inspect", "--json", str(path)]).stdout)


@pytest.mark.slow
def test_a_process_killed_within_a_save_leaves_what_was_stored(tmp_path: Path) -> None:
    """A random one of two is killed at a random moment; the newest checkpoint loads, on one process."""
    chance, hit = random.Random(20), 0
    durable = tmp_path / "durable"
    for turn in range(KILLS):
        before = durable.read_text() if durable.exists() else "0"
        processes = begin("fill", tmp_path, 2, 100_000)
        until = time.monotonic() + 120
        while (durable.read_text() if durable.exists() else "0") in ("", before) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        chance.choice(processes).send_signal(signal.SIGKILL)
        time.sleep(0.05)
        hit += bool(list((tmp_path / "run" / "checkpoints").glob(".*-tmp")))
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
        acknowledged = int(durable.read_text())
        (alone,) = begin("fill", tmp_path, 1, 0)
        told = alone.communicate(timeout=120)[1]
        assert alone.returncode == 0, told
        assert int((tmp_path / "resumed").read_text()) >= acknowledged > 0
        print(f"{turn}: killed after {acknowledged}")
    print(f"{KILLS} kills, {hit} of them within a save")


@pytest.mark.slow
def test_the_page_on_several_processes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes leave checkpoints that both wrote."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "several-gpus.md").read_text("utf-8")
    Path("sharded_jax.py").write_text(page.partition("# sharded_jax.py\n")[2].partition("```")[0], "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    command = [sys.executable, "-W", "ignore", "sharded_jax.py", address, "2"]
    processes = [
        subprocess.Popen([*command, index], env=variables, stderr=subprocess.PIPE, text=True) for index in ("0", "1")
    ]
    told = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    written = tmp_path / "runs" / "sharded" / "checkpoints" / "agent_20.orbax"
    assert keepfast.read_checkpoint(written)["params"].tolist() == [[20.0] * 4] * 8


def test_what_was_never_sealed_is_not_loaded(tmp_path: Path) -> None:
    """A directory of Orbax by itself is no checkpoint of ours."""
    path = tmp_path / "agent_1.orbax"
    keepfast.save({"weight": np.ones(3, np.float32)}, path)
    assert bool(keepfast.load({"weight": np.zeros(3, np.float32)}, path))
    (path / SEAL).unlink()
    with pytest.raises(keepfast.CorruptCheckpoint, match="never sealed"):
        keepfast.load({"weight": np.zeros(3, np.float32)}, path)
