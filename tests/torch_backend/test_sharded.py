"""What is spread over processes on PyTorch is stored by all of them, and put together on any number."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from typer.testing import CliRunner

import keepfast
from keepfast import testing
from keepfast.checkpoints.verification import verify
from keepfast.cli import app
from keepfast.interfaces.checkpoint_store import CheckpointStore
from keepfast.interfaces.sharding.seal import SEAL, digest_of, write_seal
from keepfast_torch.sharding.dcp import DcpStore
from tests.both_backends.sharded import arrays, same_bits
from tests.torch_backend.sharded_worker import network

pytestmark = pytest.mark.xdist_group("sharded")  # the processes are begun once

WORKER = Path(__file__).with_name("sharded_worker.py")
KILLS = int(os.environ.get("KEEPFAST_KILLS", "1"))
STAGES = ("2:fsdp:4", "4:both:6", "4:halves:8", "1:fsdp:10")
MORE = ("8:both:12", "4:fsdp:14", "2:both:16", "1:fsdp:18", "8:halves:20") if KILLS > 1 else ()
"""What the suite has no time for."""

ENDS = [int(stage.rpartition(":")[2]) for stage in (*STAGES, *MORE)]


class TestDcpContract(testing.CheckpointStoreContract):
    """A process by itself keeps the contract of formats; damage is told by file."""

    plain_arrays = False

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return DcpStore()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folders of runs that went on with other numbers of processes, lost one, and were killed."""
    folder = tmp_path_factory.mktemp("several")
    command = [sys.executable, str(WORKER), str(folder), str(KILLS), *STAGES, *MORE]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240 + 60 * KILLS)
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)
    return folder


@pytest.fixture
def several(ran: Path) -> Path:
    return ran / "several"


@pytest.mark.slow
@pytest.mark.parametrize("timestep", ENDS[:-1])
def test_another_number_of_processes_goes_on_with_the_same_bits(several: Path, timestep: int) -> None:
    """Parameters and the optimizer's states are bit for bit those that the other number of processes stored."""
    assert len(same_bits(several, timestep)) == 4 + 4 * 3


@pytest.mark.slow
def test_a_checkpoint_of_several_processes_is_one_like_any_other(several: Path) -> None:
    """Names, index and verification are those of any checkpoint; each process wrote a part of it."""
    checkpoints = several / "run" / "checkpoints"
    listed = json.loads((checkpoints / "index.json").read_text())["checkpoints"]
    names = {file["name"] for each in listed for file in each["files"].values()}
    assert names == {*(f"agent_{timestep}.dcp" for timestep in range(2, ENDS[-1] + 1, 2)), "best_agent.dcp"}
    assert names == {path.name for path in checkpoints.iterdir() if path.is_dir()}
    assert [verdict.problem for verdict in verify(several / "run")] == [None] * len(names)
    assert len(list((checkpoints / "agent_6.dcp").glob("*.distcp"))) == 4
    assert json.loads(CliRunner().invoke(app, ["inspect", "--json", str(checkpoints / "agent_6.dcp")]).stdout)


@pytest.mark.slow
def test_replicas_are_written_once(several: Path) -> None:
    """Two halves of the processes have the same parts; the files have nothing but what the seal tells of."""
    path = several / "run" / "checkpoints" / "agent_8.dcp"
    told = json.loads((path / SEAL).read_bytes().rsplit(b"\n", 2)[0])["arrays"]
    lengths = [length for places in told.values() for *_, length in places]
    assert sum(lengths) == sum(file.stat().st_size for file in path.glob("*.distcp")) > 0


@pytest.mark.slow
def test_a_plain_network_takes_what_several_processes_stored(several: Path, tmp_path: Path) -> None:
    """Without a process group: loaded into plain modules, and converted into one file."""
    last, path = arrays(several / f"to_{ENDS[-1]}.npz"), several / "run" / "checkpoints" / f"agent_{ENDS[-1]}.dcp"
    policy = network()
    assert bool(keepfast.load(policy, path, modules=["policy"]))
    assert all(np.array_equal(each.detach().numpy(), last[name]) for name, each in policy.named_parameters())
    ran = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "out.pt")])
    assert ran.exit_code == 0, ran.output
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert all(np.array_equal(each.numpy(), last[name]) for name, each in state["policy"].items())
    optimizer = torch.optim.Adam(policy.parameters())
    optimizer.load_state_dict(state["optimizer"])
    assert np.array_equal(optimizer.state[policy[0].weight]["exp_avg_sq"].numpy(), last["0.exp_avg_sq"])


@pytest.mark.slow
def test_torch_itself_reads_the_tensors(several: Path) -> None:
    """The directory is one of ``torch.distributed.checkpoint``, whose own loader takes it."""
    import torch.distributed.checkpoint as dcp

    wanted = {"policy.0.weight": torch.zeros(10, 6)}
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(wanted, checkpoint_id=several / "run" / "checkpoints" / "agent_6.dcp")
    assert np.array_equal(wanted["policy.0.weight"].numpy(), arrays(several / "to_6.npz")["0.weight"])


@pytest.mark.slow
def test_a_process_that_is_left_alone_is_told_and_goes_on(ran: Path) -> None:
    """Where another process dies, no checkpoint is stored any more, which is told once; what was stored stays."""
    first, rest = json.loads((ran / "lonely" / "told.json").read_text())
    assert "cannot agree on a checkpoint, since one is gone" in first
    assert "checkpoints could not be stored; the last reason" in rest
    names = {path.name for path in (ran / "lonely" / "run" / "checkpoints").glob("agent_*")}
    assert names == {f"agent_{timestep}.dcp" for timestep in (1, 2, 3)}
    assert [verdict.problem for verdict in verify(ran / "lonely" / "run")] == [None] * 3


@pytest.mark.slow
def test_the_clock_of_the_first_and_a_signal_to_any_are_those_of_all(ran: Path) -> None:
    """Both act at the next write, in all processes alike: each saves, and ends as it was told."""
    checkpoints = ran / "asked" / "run" / "checkpoints"
    timesteps = sorted(int(path.stem.removeprefix("agent_")) for path in checkpoints.glob("agent_*"))
    assert len(timesteps) > 2
    assert timesteps[-1] == 22
    assert all(timestep % 2 == 0 for timestep in timesteps)
    assert [verdict.problem for verdict in verify(ran / "asked" / "run")] == [None] * len(timesteps)


@pytest.mark.slow
def test_processes_at_different_timesteps_store_nothing(ran: Path) -> None:
    """What they have is of different times, which is told, with the timesteps."""
    (told,) = json.loads((ran / "apart" / "told.json").read_text())
    assert "are at the timesteps 3, 4" in told
    assert list((ran / "apart" / "run" / "checkpoints").glob("agent*")) == []


@pytest.mark.slow
def test_one_module_is_saved_by_all_and_by_no_format_of_one_process(ran: Path) -> None:
    """``keepfast.save`` to a .dcp; a .pt would hold a part of it, and is refused, as a setting of an experiment too."""
    saved, configured = json.loads((ran / "single" / "told.json").read_text())
    assert "is to hold what is spread over processes" in saved
    assert "the module `policy` is spread over processes" in configured
    assert 'allowed for `checkpoint_format`: "auto", "dcp"' in configured
    policy = network()
    with torch.no_grad():
        policy[0].weight.zero_()
    assert bool(keepfast.load(policy, ran / "single" / "policy.dcp"))
    assert torch.equal(policy[0].weight, network()[0].weight)


@pytest.mark.slow
def test_a_process_killed_within_a_save_leaves_what_was_stored(ran: Path) -> None:
    """A random one is killed at a random moment; the newest checkpoint loads, alone and on another number."""
    killed = ran / "killed"
    assert int((killed / "alone").read_text()) >= int((killed / "durable").read_text()) > 0


class Bomb:
    """A pickle of it runs what it says when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_pickle_of_the_directory_is_run(tmp_path: Path) -> None:
    """Neither the metadata that PyTorch keeps nor a tensor, replaced by code and sealed anew, runs any."""
    path, ran = tmp_path / "agent_1.dcp", tmp_path / "ran"
    keepfast.save(network(), path)
    (path / ".metadata").write_bytes(pickle.dumps(Bomb(ran)))
    reseal(path)
    assert bool(keepfast.load(network(), path))
    places = json.loads((path / SEAL).read_bytes().partition(b"\n")[0])["arrays"]["0.weight"][0]
    torch.save(Bomb(ran), path / "bomb")
    code = (path / "bomb").read_bytes()
    (path / "bomb").unlink()
    data = bytearray((path / places[2]).read_bytes())
    data[places[3] : places[3] + places[4]] = code.ljust(places[4], b"\0")
    (path / places[2]).write_bytes(bytes(data))
    reseal(path)
    with pytest.raises(keepfast.CorruptCheckpoint, match=r"agent_1\.dcp"):
        keepfast.load(network(), path)
    assert not ran.exists()


def reseal(path: Path) -> None:
    document = json.loads((path / SEAL).read_bytes().partition(b"\n")[0])
    document["files"] = {name: digest_of(path / name) for name in document["files"]}
    write_seal(path, document)


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", SEAL])
def test_what_was_never_sealed_is_not_loaded(tmp_path: Path, name: str) -> None:
    """A directory that lacks a file, the seal or another, is damaged, and the error names it."""
    path = tmp_path / "agent_1.dcp"
    keepfast.save(network(), path)
    (path / name).unlink()
    with pytest.raises(keepfast.CorruptCheckpoint, match="never sealed" if name == SEAL else name):
        keepfast.load(network(), path)


def test_a_part_elsewhere_is_refused(tmp_path: Path) -> None:
    """A seal that has a tensor in a file outside of the directory is not followed."""
    path = tmp_path / "agent_1.dcp"
    keepfast.save(network(), path)
    document = json.loads((path / SEAL).read_bytes().partition(b"\n")[0])
    document["arrays"]["0.weight"][0][2] = "../agent_1.dcp/__0_0.distcp"
    write_seal(path, document)
    with pytest.raises(keepfast.CorruptCheckpoint, match="said to be in"):
        keepfast.load(network(), path)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_directory_of_torchs_own_is_put_aside_and_not_removed(tmp_path: Path) -> None:
    """Under the name of the next checkpoint, or in a row of the index that retention lets go."""
    import torch.distributed.checkpoint as dcp

    checkpoints = tmp_path / "run" / "checkpoints"
    for name in ("agent_2.dcp", "agent_3.dcp"):
        with warnings.catch_warnings(action="ignore"):  # that it is alone
            dcp.save({"w": torch.ones(3)}, checkpoint_id=checkpoints / name)
    own = [contents(checkpoints / name) for name in ("agent_2.dcp", "agent_3.dcp")]
    row = {
        "timestep": 3, "best": False, "modules": [], "metric": None, "time": 1.0, "versions": {}, "own": True,
        "files": {"agent": {"name": "agent_3.dcp", "size": 1, "digest": ""}},
    }  # fmt: skip
    (checkpoints / "index.json").write_text(json.dumps({"version": 1, "checkpoints": [row]}))
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 2}
    cfg |= {"checkpoint_format": "dcp", "keep_last": 1}
    with (
        pytest.warns(keepfast.KeepfastWarning) as told,
        keepfast.Experiment(cfg, timesteps=4) as experiment,
    ):
        experiment.register(policy=torch.nn.Linear(2, 2))
        for timestep in range(4):
            experiment.step(timestep)
    assert [str(each.message) for each in told if "agent_2.replaced.dcp` now" in str(each.message)]
    assert [contents(checkpoints / name) for name in ("agent_2.replaced.dcp", "agent_3.dcp")] == own
    assert not (checkpoints / "agent_2.dcp").exists()
    assert DcpStore().wrote(checkpoints / "agent_4.dcp")
