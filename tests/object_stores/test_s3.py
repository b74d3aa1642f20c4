"""Runs on S3, as moto serves it to s3fs over a network that fails."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.verification import verify

if TYPE_CHECKING:
    from conftest import Wire

pytestmark = pytest.mark.needs("s3fs", "moto")

RUN = "keepfast/runs/run"
CUTS = int(os.environ.get("KEEPFAST_CUTS", "50"))


class Counter:
    """A module that counts its steps, and is large enough to be cut off in the middle."""

    def __init__(self) -> None:
        self.steps, self.ballast = np.zeros(1), np.random.default_rng(0).normal(size=40_000)


def begun(length: int, **settings: Any) -> tuple[keepfast.Experiment, Counter, int]:
    base = {"directory": "s3://keepfast/runs", "experiment_name": "run", "writers": ["jsonl"], "provenance": False}
    chosen = {"write_interval": 1, "checkpoint_interval": 1, "keep_last": 3, "best_metric": "a", "upload_interval": 0.2}
    experiment = keepfast.Experiment({**base, **chosen, **settings}, timesteps=length)
    counter = Counter()
    experiment.register(policy=keepfast.attributes(counter, "steps", "ballast"))
    return experiment, counter, experiment.resume()


def train(experiment: keepfast.Experiment, counter: Counter, start: int, end: int) -> None:
    for timestep in range(start, end):
        counter.steps += 1
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what moves to a machine of a name, whose spool is its own."""
    return lambda name: monkeypatch.setenv("KEEPFAST_SPOOL", str(tmp_path / name))


def read(files: Any, name: str) -> bytes | None:
    try:
        return bytes(files.cat_file(f"{RUN}/{name}"))
    except FileNotFoundError:
        return None


def problems(files: Any) -> list[str]:
    """Return what a reader finds wrong with the run: a row without its object, or with another one."""
    index = read(files, "checkpoints/index.json")
    found = []
    for row in [] if index is None else json.loads(index)["checkpoints"]:
        for file in row["files"].values():
            content = read(files, f"checkpoints/{file['name']}")
            if content is None or f"crc32:{zlib.crc32(content):08x}" != file["digest"]:
                found.append(f"{file['name']} of timestep {row['timestep']}")
    return found if found and read(files, "checkpoints/index.json") == index else []


def newest(files: Any) -> int:
    index = read(files, "checkpoints/index.json")
    rows = [] if index is None else json.loads(index)["checkpoints"]
    return max((row["timestep"] for row in rows if not row["best"]), default=0)


def test_a_run_goes_on_from_s3_on_another_machine(s3: Any, elsewhere: Callable[[str], None]) -> None:
    """Metrics, the lease, retention, verification and the list of runs, over the real client."""
    experiment, counter, start = begun(5)
    train(experiment, counter, start, 5)
    elsewhere("second")
    with pytest.raises(keepfast.DirectoryError, match="in use by process"):
        begun(8)
    experiment.close()
    experiment, counter, start = begun(8)
    assert (start, counter.steps.item()) == (5, 5)
    train(experiment, counter, start, 8)
    experiment.close()
    assert keepfast.read_metrics("s3://keepfast/runs/run")["a"].steps.tolist() == list(range(1, 9))
    assert {each.problem for each in verify("s3://keepfast/runs/run")} == {None}
    names = {path.rpartition("/")[2] for path in s3.find(f"{RUN}/checkpoints")}
    assert names == {f"agent_{step}.safetensors" for step in (6, 7, 8)} | {"best_agent.safetensors", "index.json"}
    listed = subprocess.run(
        [sys.executable, "-m", "keepfast.cli", "runs", "s3://keepfast/runs", "--json"], capture_output=True, check=True
    )
    (row,) = json.loads(listed.stdout)["runs"]
    assert (row["path"], row["status"], row["steps"]) == ("s3://keepfast/runs/run", "finished", 8)


def test_two_who_begin_at_one_moment_are_not_both_owners(s3: Any) -> None:
    """S3 decides it, by a conditional put."""
    from keepfast._system.remote.addresses import Address
    from keepfast._system.remote.lease import LEASE
    from keepfast._system.remote.store import Store

    stores = [Store(Address("s3", f"{RUN}{number}")) for number in range(5) for _ in range(2)]
    won: list[bool] = []
    threads = [threading.Thread(target=lambda s=store: won.append(s.create(LEASE, b"me"))) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 5


EXITING = """
import sys
sys.path.insert(0, {folder!r})
from test_s3 import begun, train
experiment, counter, start = begun(6)
train(experiment, counter, start, 6)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "import os, signal; experiment.wait(); train(experiment, counter, 5, 6); os._exit(9)"]
)
def test_what_a_process_leaves_is_uploaded_at_its_end_or_by_the_next(s3: Any, end: str) -> None:
    """Without a close, and after a kill."""
    code = EXITING.format(folder=str(Path(__file__).parent), end=end)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == (9 if end else 0), done.stderr
    if not end:
        assert newest(s3) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", keepfast.KeepfastWarning)
        experiment, counter, start = begun(7)
        assert (start, counter.steps.item()) in [(6, 6), (6, 7)]
        experiment.close()
    assert newest(s3) == 6
    assert problems(s3) == []


@pytest.mark.slow
def test_fifty_cuts_lose_nothing_that_was_acknowledged_and_show_nothing_partial(
    s3: Any, wire: Wire, elsewhere: Callable[[str], None]
) -> None:
    """A reader looks the whole time; now and then the machine is lost with its spool, and another goes on."""
    rng, seen, over = random.Random(0), list[str](), threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.extend(problems(s3))

    looking = threading.Thread(target=look)
    looking.start()
    acknowledged = cuts = machine = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", keepfast.KeepfastWarning)
            experiment, counter, at = begun(10_000)
            while cuts < CUTS:
                train(experiment, counter, at, at + 3)
                at += 3
                time.sleep(rng.uniform(0, 0.15))
                wire.cut()
                cuts += 1
                train(experiment, counter, at, at + 2)
                at += 2
                assert newest(s3) >= acknowledged
                time.sleep(rng.choice((0.01, 0.1, 0.5)))
                wire.mend()
                if rng.random() < 0.4:
                    experiment.wait()
                    acknowledged = at
                    assert newest(s3) >= at
                if cuts % 10 == 0:
                    machine += 1
                    experiment._home._uploads._mirror.abandon()  # type: ignore[union-attr]
                    experiment._home._ownership.release()
                    s3.rm_file(f"{RUN}/.keepfast.owner")  # that it lapses is tested elsewhere
                    elsewhere(str(machine))
                    experiment, counter, at = begun(10_000)
                    assert at >= acknowledged
                    assert counter.steps.item() == at
            experiment.close()
    finally:
        over.set()
        looking.join()
    assert seen == []
    assert newest(s3) == at
    assert {each.problem for each in verify("s3://keepfast/runs/run")} == {None}
    print(f"{cuts} cuts, {at} timesteps, {machine} machines lost, {acknowledged} acknowledged last")


@pytest.fixture(autouse=True)
def _quiet_sessions() -> Iterator[None]:
    """Let the client leave connections to a server that was cut off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
