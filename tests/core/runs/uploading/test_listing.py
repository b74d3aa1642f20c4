"""The runs of an object store, listed, found and shown by their addresses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.remote.addresses import Address
from keepfast.runs.uploading.listing import list_remote_runs
from tests.core.stores import Bucket, cfg, running, telling

pytestmark = pytest.mark.needs("fsspec")


def test_the_newest_unfinished_run_is_found_on_another_machine(
    bucket: Bucket, counter: Callable[[], Any], elsewhere: Callable[[str], None]
) -> None:
    """`resume("last")` goes on with it in its own place, and leaves nothing of the run that was begun for that."""
    for name in ("older", "newer"):
        with running(counter(), 4, of=9, experiment_name=name):
            pass
    elsewhere("second")
    net = counter()
    with keepfast.Experiment(cfg(experiment_name=""), timesteps=9) as experiment:
        experiment.register(policy=net)
        assert experiment.resume("last") == 4
        assert experiment.directory.name == "newer"
        assert net.arrays["steps"] == 4
        experiment.wait()
    assert {name.partition("/")[0] for name in bucket.names("bucket/runs")} == {"older", "newer"}


def test_what_was_never_uploaded_is_told_and_uploaded_when_asked_for(
    bucket: Bucket, counter: Callable[[], Any], call: Callable[..., Any]
) -> None:
    """Another run of this machine tells of it at its start; the command lists and uploads it."""
    bucket.refuses = lambda _number, _operation, name: "checkpoints/" in name
    with telling(), running(counter(), 5, upload_patience=0.1):
        pass
    bucket.refuses = lambda *_: False
    with pytest.warns(keepfast.KeepfastWarning, match="never uploaded of `memory://bucket/runs/run`"):
        keepfast.Experiment(cfg(experiment_name="other"), timesteps=9).close()
    assert "memory://bucket/runs/run" in call("upload", "--list")[1]
    assert call("upload")[0] == 0
    assert "nothing is left" in call("upload")[1]
    assert keepfast.read_checkpoint("memory://bucket/runs/run")["policy"]["steps"] == 5


def test_ten_thousand_runs_are_listed_through_one_object(bucket: Bucket, counter: Callable[[], Any]) -> None:
    """However many there are, a handful of requests; and one more for each that changed since somebody looked."""
    with running(counter(), 3):
        pass
    line = bucket.read("bucket/runs/.keepfast.lines/run")
    assert line is not None
    for number in range(10_000):
        bucket.write(f"bucket/runs/.keepfast.lines/{number}", line.replace(b'["run"', b'["%d"' % number))
    runs = list_remote_runs(Address("memory", "bucket/runs"), pytest.fail)
    assert [run.path.name for run in runs[:3]] == ["0", "1", "2"]
    assert len(runs) == 10_001
    bucket.asked.clear()
    assert [run.steps for run in list_remote_runs(Address("memory", "bucket/runs"), pytest.fail)] == [3] * 10_001
    assert [operation for operation, _ in bucket.asked if operation != "ls"] == ["cat_file", "find"]
    bucket.write("bucket/runs/.keepfast.lines/7", line.replace(b'["run","run",3', b'["7","run",4'))
    bucket.asked.clear()
    assert list_remote_runs(Address("memory", "bucket/runs"), pytest.fail)[7].steps == 4
    asked = [operation for operation, _ in bucket.asked if operation != "ls"]
    assert asked == ["cat_file", "find", "cat_file", "pipe_file"]


def test_runs_are_shown_by_their_addresses(
    bucket: Bucket, counter: Callable[[], Any], call: Callable[..., Any]
) -> None:
    """By `runs`, `show`, `verify` and `inspect`; one that is under way is told from one that was killed."""
    with running(counter(), 4):
        listed = json.loads(call("runs", "memory://bucket/runs", "--json")[1])["runs"]
        assert [(row["path"], row["status"]) for row in listed] == [("memory://bucket/runs/run", "running")]
        assert "status: running" in call("show", "memory://bucket/runs/run")[1]
    assert "run: memory://bucket/runs/run (" in call("show", "memory://bucket/runs/run")[1]
    assert call("show", "memory://bucket/runs")[1] == call("runs", "memory://bucket/runs")[1]
    assert call("plot", "memory://bucket/runs", "--tag", "a")[0] == 0
    assert call("metrics", "memory://bucket/runs/run", "--tag", "a")[1].count(",a,") == 4
    assert call("diff", "memory://bucket/runs/run", "memory://bucket/runs/run")[0] == 0
    assert "is on an object store" in call("tag", "memory://bucket/runs/run", "good")[2]
    assert "files are good" in call("verify", "memory://bucket/runs/run")[1]
    assert "timestep: 4" in call("inspect", "memory://bucket/runs/run/checkpoints/agent_4.safetensors")[1]


def test_runs_that_were_copied_to_a_store_are_listed_too(
    bucket: Bucket, counter: Callable[[], Any], tmp_path: Path
) -> None:
    """Each is read the first time, since none kept a line there; then they have theirs."""
    with running(counter(), 4, directory=str(tmp_path / "local")):
        pass
    for path in (tmp_path / "local" / "run").rglob("*"):
        if path.is_file():
            bucket.write(f"copied/run/{path.relative_to(tmp_path / 'local' / 'run').as_posix()}", path.read_bytes())
    for _ in range(2):
        (run,) = list_remote_runs(Address("memory", "copied"), pytest.fail)
        assert (run.path.name, run.steps) == ("run", 4)
