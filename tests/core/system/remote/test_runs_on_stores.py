"""Runs whose directory is on an object store."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.background import wait_for_writing
from keepfast._system.remote import lease, spool, store
from keepfast._system.remote.addresses import address_of
from keepfast._system.remote.record import Record
from keepfast.checkpoints.verification import verify
from tests.both_backends.documents import code_of
from tests.core.formats import shard_store
from tests.core.stores import RUN, Bucket, cfg, running, telling

pytestmark = pytest.mark.needs("fsspec")


def test_a_run_lies_on_the_store_as_it_lies_on_a_disk(bucket: Bucket, counter: Callable[[], Any]) -> None:
    """The same names, and after `wait` all that was promised; retention and the end of the lease are seen there too."""
    with running(counter(), 7) as experiment:
        experiment.wait()
        local = {path.relative_to(experiment.directory).as_posix() for path in experiment.directory.rglob("*")}
        assert bucket.names(RUN) == {name for name in local if name != "checkpoints" and not name.startswith(".")}
        assert bucket.read(f"{RUN}/.keepfast.owner") is not None
    names = {"agent_6", "agent_7", "best_agent"}
    assert bucket.names(f"{RUN}/checkpoints") == {f"{name}.safetensors" for name in names} | {"index.json"}
    assert bucket.read(f"{RUN}/.keepfast.owner") is None
    assert bucket.problems(RUN) == []


def test_another_machine_goes_on_and_fetches_what_it_needs(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """The checkpoint that is wanted, alone; the others are listed, kept, and removed by retention in their turn."""
    with running(counter(), 7):
        pass
    elsewhere("second")
    bucket.asked.clear()
    net = counter()
    with running(net, 8) as experiment:
        fetched = [name for operation, name in bucket.asked if operation == "cat_file" and name.endswith("tensors")]
        assert fetched == [f"/{RUN}/checkpoints/agent_7.safetensors"]
        assert net.arrays["steps"] == 8
        experiment.wait()
        assert bucket.names(f"{RUN}/checkpoints") >= {"agent_7.safetensors", "agent_8.safetensors"}
        assert "agent_6.safetensors" not in bucket.names(f"{RUN}/checkpoints")
    assert bucket.problems(RUN) == []
    assert keepfast.read_metrics("memory://bucket/runs/run")["a"].steps.tolist() == list(range(1, 9))


@pytest.mark.parametrize("separately", [False, True])
def test_no_reader_ever_sees_a_row_without_its_objects(
    bucket: Bucket, counter: Callable[[], Any], *, separately: bool
) -> None:
    """After each change of the store, whichever operation was refused before: the best is replaced five times here."""
    problems: list[str] = []
    bucket.seen = lambda: problems.extend(bucket.problems(RUN))
    rng = random.Random(0)
    bucket.refuses = lambda *_: rng.random() < 0.25
    with telling(), running(counter(), 7, waiting=True, store_separately=separately, checkpoint_interval=1):
        pass
    assert problems == []
    assert len(bucket.names(f"{RUN}/checkpoints")) == 4


@pytest.mark.parametrize("survivors", range(0, 32, 5))
def test_a_store_that_is_gone_for_good_loses_nothing(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None], survivors: int
) -> None:
    """At whichever operation: what is there is whole, it is told where the rest lies, and the next start uploads it."""
    bucket.refuses = lambda number, _operation, _name: number >= 8 + survivors
    with telling() as told, running(counter(), 9, upload_patience=0.4) as experiment:
        spool = experiment.directory
        if survivors == 0:
            with pytest.raises(keepfast.WaitedInVain, match=str(spool)):
                experiment.wait()
    texts = told()
    is_complete = Record.of(spool).is_complete
    assert sum("could not be uploaded" in text for text in texts) <= (not is_complete)
    assert sum(f"it lies whole in `{spool}`" in text for text in texts) == (not is_complete)
    assert bucket.problems(RUN) == []
    bucket.refuses = lambda *_: False
    net = counter()
    with running(net, 10):
        assert net.arrays["steps"] == 10
    elsewhere("second")
    assert keepfast.read_metrics("memory://bucket/runs/run")["a"].steps.tolist() == list(range(1, 11))
    assert {each.problem for each in verify("memory://bucket/runs/run")} == {None}


def test_a_network_that_fails_is_told_once_and_counted(bucket: Bucket, counter: Callable[[], Any]) -> None:
    """The first failure is told while training goes on, all of them at the end, where everything is there."""
    down: list[int] = []
    bucket.refuses = lambda number, _operation, _name: len(down) < 5 and number > 12 and not down.append(number)
    with telling() as told, running(counter(), 9) as experiment:
        experiment.wait()
    texts = told()
    assert sum("training goes on" in text for text in texts) == 1
    assert sum("5 uploads failed in all" in text for text in texts) == 1
    assert bucket.problems(RUN) == []


def test_a_second_owner_is_told_of_the_first(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the first was not heard of for minutes: then the second takes over, and the first uploads nothing more."""
    first = keepfast.Experiment(cfg(upload_patience=0.2), timesteps=9)
    first.register(policy=counter())
    elsewhere("second")
    with pytest.raises(keepfast.KeepfastError, match="in use by process"):
        keepfast.Experiment(cfg(), timesteps=9)
    monkeypatch.setattr(lease, "VALID_SECONDS", 0.0)
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.0)
    with pytest.warns(keepfast.KeepfastWarning, match="is taken over from process"):
        second = keepfast.Experiment(cfg(), timesteps=9)
    second.close()
    config = bucket.read(f"{RUN}/config.json")
    first._home._uploads._mirror._lease._renewed = 0.0
    (
        bucket.write(
            f"{RUN}/.keepfast.owner", json.dumps({"token": "other", "host": "far", "time": time.time()}).encode()
        )
    )
    with telling() as told:
        first.close()
    assert "was taken over by process" in told()[0]
    assert "lies whole in" in told()[1]
    assert bucket.read(f"{RUN}/config.json") == config


def test_what_another_machine_went_on_from_is_put_aside(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None], tmp_path: Path
) -> None:
    """A spool that was cut off, and is behind now: nothing of it is lost, and nothing of it is mixed in."""
    elsewhere("first")
    with running(counter(), 5):
        pass
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    elsewhere("second")
    with running(counter(), 7):
        pass
    elsewhere("first")
    for metrics in (tmp_path / "first").glob("*/run/metrics.jsonl"):
        metrics.write_text(metrics.read_text() + "\n")
    net = counter()
    with pytest.warns(keepfast.KeepfastWarning, match="went on with .* lie in"), running(net, 8):
        assert net.arrays["steps"] == 8
    assert [path.name for path in (tmp_path / "first").glob("*/*not-uploaded*/metrics.jsonl")] == ["metrics.jsonl"]


def test_a_kill_between_the_index_and_its_record_is_no_other_machine(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """What this machine was about to put there is its own, and nothing is put aside."""
    with running(counter(), 5) as experiment:
        pass
    record = Record.of(experiment.directory)
    record.index, record.pending = "another", record.index
    record.store(experiment.directory)
    net = counter()
    with telling() as told, running(net, 6):
        assert net.arrays["steps"] == 6
    assert told() == []


def test_a_lost_spool_costs_what_was_not_uploaded_and_nothing_else(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """What `wait` acknowledged is on the store, whatever becomes of the machine: no close, no spool, a lease."""
    experiment = keepfast.Experiment(cfg(upload_interval=1000.0, checkpoint_interval=3), timesteps=9)
    net = counter()
    experiment.register(policy=net)
    for timestep in range(7):
        net.arrays["steps"] += 1
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)
        if timestep == 4:
            experiment.wait()
    bucket.refuses = lambda *_: True
    experiment._home._uploads._mirror.abandon()
    bucket.refuses = lambda *_: False
    bucket.write(f"{RUN}/.keepfast.owner", b"{}")
    elsewhere("second")
    resumed = counter()
    with telling() as told, running(resumed, 9):
        assert resumed.arrays["steps"] == 9
    assert told() == []
    assert set(keepfast.read_metrics("memory://bucket/runs/run")["a"].steps.tolist()) >= {1, 2, 3, 4, 5}


def test_whoever_reads_gets_a_copy_that_follows_the_run(
    bucket: Bucket, counter: Callable[[], Any], tmp_path: Path
) -> None:
    """By the address of the run, of its checkpoints, of one of them, or of any file; what did not change stays."""
    with running(counter(), 3):
        pass
    address = "memory://bucket/runs/run"
    assert keepfast.read_checkpoint(address)["policy"]["steps"] == 3
    assert keepfast.read_checkpoint(f"{address}/checkpoints/agent_2.safetensors")["policy"]["steps"] == 2
    assert keepfast.read_checkpoint(Path(f"{address}/checkpoints"))["policy"]["steps"] == 3
    assert keepfast.read_metrics(f"{address}/metrics.jsonl")["a"].steps.tolist() == [1, 2, 3]
    with running(counter(), 5):
        pass
    bucket.asked.clear()
    net = counter()
    keepfast.load(net, f"{address}/checkpoints/agent_5.safetensors", modules=["policy"])
    assert net.arrays["steps"] == 5
    assert [name for operation, name in bucket.asked if operation == "cat_file" and "metrics" in name] == []
    with keepfast.Experiment(cfg(directory=str(tmp_path), experiment_name="other"), timesteps=9) as other:
        other.register(policy=net)
        assert other.resume(address) == 5
    with pytest.raises(keepfast.NotFound, match="nothing at `memory://bucket/nowhere`"):
        keepfast.read_metrics("memory://bucket/nowhere")


def test_a_damaged_object_is_not_taken_for_a_checkpoint(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """The one before is gone on with, as on a disk, and it is told; a store that cannot be reached ends the resume."""
    with running(counter(), 7):
        pass
    name = f"{RUN}/checkpoints/agent_7.safetensors"
    content = bucket.read(name)
    assert content is not None
    bucket.write(name, content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elsewhere("second")
    net = counter()
    with pytest.warns(keepfast.KeepfastWarning, match="agent_7.* is damaged"), running(net, 8):
        assert net.arrays["steps"] == 8
    elsewhere("third")
    with keepfast.Experiment(cfg(), timesteps=9) as experiment:
        experiment.register(policy=counter())
        bucket.refuses = lambda _number, operation, _name: operation == "cat_file"
        with telling(), pytest.raises(keepfast.RemoteError, match="the network is down"):
            experiment.resume()
        bucket.refuses = lambda *_: False


def test_checkpoints_that_are_directories_go_up_whole(bucket: Bucket, counter: Callable[[], Any]) -> None:
    """All files of one before the index, all of them removed after it; what replaces the best leaves nothing mixed."""
    keepfast.plugins.registry().register(shard_store.plugin, "shards")
    try:
        problems: list[str] = []
        bucket.seen = lambda: problems.extend(bucket.problems(RUN))
        with running(counter(), 6, waiting=True, checkpoint_format="shards", checkpoint_interval=1):
            pass
        assert problems == []
        tops = {name.partition("/")[0] for name in bucket.names(f"{RUN}/checkpoints")}
        assert tops == {"agent_5.shards", "agent_6.shards", "best_agent.shards", "index.json"}
        assert keepfast.read_checkpoint("memory://bucket/runs/run")["policy"]["steps"] == 6
    finally:
        keepfast.plugins.registry().unregister(shard_store.plugin)


def test_a_better_one_elsewhere_keeps_the_best_there_was(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """Of several, the first gets another name when one is better, and so comes along."""
    with running(counter(), 4, keep_best=2):
        pass
    elsewhere("second")
    with running(counter(), 6, keep_best=2):
        pass
    rows = json.loads(bucket.read(f"{RUN}/checkpoints/index.json") or b"")["checkpoints"]
    assert sorted(row["metric"]["value"] for row in rows if row["best"]) == [3.0, 5.0]
    assert bucket.problems(RUN) == []


def test_the_spool_is_kept_within_bounds(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest that the store has too goes first; what it has not stays, whatever its size."""
    with running(counter(), 3, experiment_name="whole"):
        pass
    bucket.refuses = lambda _number, _operation, name: "torn/" in name and name.endswith("index.json")
    with telling(), running(counter(), 3, experiment_name="torn", upload_patience=0.1) as torn:
        pass
    monkeypatch.setenv("KEEPFAST_SPOOL_BYTES", "1")
    monkeypatch.setattr(spool, "_RESTING_SECONDS", -1.0)
    spool.clean(lambda _: False)
    assert [directory.name for directory, _ in spool.kept()] == ["torn"]
    assert (torn.directory / "checkpoints" / "index.json").exists()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("s3://bucket/runs", "s3://bucket/runs"),
        (Path("s3://bucket/runs/"), "s3://bucket/runs"),
        ("gs://bucket", "gs://bucket"),
        ("memory://x", "memory://x"),
        ("file:///tmp/x", "file:///tmp/x"),
        (Path("file:///tmp/x"), "file:///tmp/x"),
        ("hf://buckets/org/name/runs", "hf://buckets/org/name/runs"),
        ("hf://org/name/agent.pt", None),
        ("runs/x", None),
        ("/runs/x", None),
        ("c:/runs", None),
        ("unheard-of://x", None),
    ],
)
def test_an_address_is_told_from_a_path(given: str | Path, address: str | None) -> None:
    """Also where `pathlib` took a slash from it; a model of the Hub is fetched as ever."""
    found = address_of(given)
    assert (None if found is None else str(found)) == address


def test_an_address_is_no_place_for_a_single_file(bucket: Bucket, net: Callable[..., Any]) -> None:
    """It is said what is kept there."""
    with pytest.raises(keepfast.InvalidValue, match="`directory` of an experiment"):
        keepfast.save(net(), "s3://bucket/agent.safetensors")


def test_what_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, and what fsspec needs for a scheme."""
    with pytest.raises(keepfast.MissingDependency, match="pip install gcsfs"):
        keepfast.read_metrics("gs://bucket/runs/run")
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(keepfast.MissingDependency, match=r'pip install "keepfast\[remote\]"'):
        keepfast.read_metrics("s3://bucket/runs/run")


def test_the_page_on_object_stores_runs(bucket: Bucket, project: Path) -> None:
    """Every block of it, one after the other, without a warning."""
    page = (project / "docs" / "object-stores.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(compile(code_of(page), "object-stores.md", "exec"), names)
    assert names["policy"]["w"].tolist() == [20.0] * 3
    assert bucket.names("bucket/runs/ppo/checkpoints") >= {"agent_20.safetensors", "index.json"}


def test_a_store_of_files_shows_none_that_is_not_whole(
    counter: Callable[[], Any], elsewhere: Callable[[str], None], tmp_path: Path
) -> None:
    """It gets each under a hidden name, which is renamed; nothing of that is left, and a resume finds all of it."""
    elsewhere("first")
    where = f"file://{tmp_path}/store"
    with running(counter(), 5, directory=where):
        pass
    names = {
        path.relative_to(tmp_path / "store" / "run").as_posix() for path in (tmp_path / "store" / "run").rglob("*")
    }
    checkpoints = {f"checkpoints/{name}.safetensors" for name in ("agent_4", "agent_5", "best_agent")}
    assert names == {"config.json", "metrics.jsonl", "checkpoints", "checkpoints/index.json"} | checkpoints
    elsewhere("second")
    net = counter()
    with running(net, 6, directory=where):
        assert net.arrays["steps"] == 6


@pytest.mark.parametrize("machine", ["first", "second"])
def test_every_rank_goes_on_and_the_first_alone_uploads(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None], machine: str
) -> None:
    """On the machine of the first, whose spool it shares, and on another, which fetches what it needs."""
    with running(counter(), 4):
        pass
    elsewhere("first")
    first = keepfast.Experiment(cfg(distributed={"rank": 0, "world_size": 2}), timesteps=9)
    elsewhere(machine)
    with telling() as told:
        other = keepfast.Experiment(cfg(distributed={"rank": 1, "world_size": 2}), timesteps=9)
    assert "rank 1" in told()[0]
    nets = counter(), counter()
    for experiment, net in zip((first, other), nets, strict=True):
        experiment.register(policy=net)
        assert experiment.resume() == 4
        assert net.arrays["steps"] == 4
    other.wait()
    other.close()
    assert bucket.read(f"{RUN}/.keepfast.owner") is not None
    first.close()
    assert bucket.problems(RUN) == []


def test_a_fork_leaves_the_uploads_to_its_parent(bucket: Bucket, counter: Callable[[], Any]) -> None:
    """The child ends without waiting for a thread that it does not have."""
    with running(counter(), 4) as experiment:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child has no use for
            child = os.fork()
        if child == 0:
            experiment.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert bucket.read(f"{RUN}/.keepfast.owner") is None
    assert bucket.problems(RUN) == []


def test_a_run_that_nobody_has_any_more_ends_by_itself(
    bucket: Bucket, counter: Callable[[], Any], until: Callable[[Callable[[], object]], None]
) -> None:
    """What it kept goes up, and others may have it, as its directory on a disk is free then."""
    experiment = keepfast.Experiment(cfg(), timesteps=9)
    experiment.register(policy=counter())
    experiment.write_checkpoint(1)
    wait_for_writing(experiment.directory / "checkpoints")
    del experiment
    gc.collect()
    until(lambda: bucket.read(f"{RUN}/.keepfast.owner") is None)
    assert "agent_1.safetensors" in bucket.names(f"{RUN}/checkpoints")
