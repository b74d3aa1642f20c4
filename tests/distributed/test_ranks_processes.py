"""Real processes of a distributed run write what all of them tracked, and each goes on with its own memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.needs("torch", "jax")]

PROGRAM = Path(__file__).with_name("ranks_program.py")
GROUPS = [("torch", 2), ("torch", 4), ("jax", 2)]
KILLS = int(os.environ.get("KEEPFAST_RANK_KILLS", "3"))


def start(framework: str, size: int, directory: Path, **given: Any) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "RANKS": json.dumps(given), "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), framework, str(directory), str(rank), str(size), address],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]


def run(framework: str, size: int, directory: Path, **given: Any) -> tuple[list[Any], list[str]]:
    """Return what each process printed and what it was told, by rank; None of one that did not come to its end."""
    ended = [process.communicate(timeout=240) for process in start(framework, size, directory, **given)]
    return [json.loads(out) if out else None for out, _ in ended], [told for _, told in ended]


def written(directory: Path) -> dict[int, dict[str, float]]:
    lines = map(json.loads, (directory / "run" / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["scalars"] for line in lines}


@pytest.mark.parametrize(("framework", "size"), GROUPS)
def test_a_run_of_several_processes_is_written_as_one(framework: str, size: int, tmp_path: Path) -> None:
    """Means by count, tags that some lack, episodes of all; every process knows the same best."""
    told, warned = run(framework, size, tmp_path)
    assert len({(each["best"], each["improved"]) for each in told}) == 1
    mean = sum(range(size)) / size
    assert told[0]["best"] == 4 * mean
    found = written(tmp_path)
    assert list(found) == [4, 8, 12, 16, 20]
    for values in found.values():
        assert values["Loss / Rank"] == pytest.approx(mean)
        assert values["Loss / Of the last"] == 1.0
        assert values["Reward / Total reward (max)"] == 4 * (size - 1)
        assert values["Reward / Total reward (min)"] == 0
    assert [warning.count(f"{size} value(s) of `Loss / Rank` were not finite") for warning in warned] == [
        1,
        *[0] * (size - 1),
    ]


@pytest.mark.parametrize(("framework", "size"), GROUPS)
@pytest.mark.parametrize("how", ["is killed", "sleeps"])
def test_a_process_that_is_gone_is_told_in_bounded_time(framework: str, size: int, how: str, tmp_path: Path) -> None:
    """The others go on by themselves, and rank 0 writes what it has."""
    begun = time.monotonic()
    given = {"dies": [size - 1, 9, how], "settings": {"distributed_seconds": 3.0}}
    told, warned = run(framework, size, tmp_path, **given)
    assert time.monotonic() - begun < 120
    assert told[0] is not None
    for each in warned[: size - 1]:
        assert each.count("could not be brought together for a write at timestep 12") == 1
    assert list(written(tmp_path)) == [4, 8, 12, 16, 20]
    assert written(tmp_path)[20]["Loss / Rank"] == 0.0


@pytest.mark.parametrize(("framework", "size"), GROUPS)
def test_a_run_that_is_cut_ends_as_one_that_was_not(framework: str, size: int, tmp_path: Path) -> None:
    """Whichever process is killed, and the others by whoever notices, at any moment."""
    whole, _ = run(framework, size, tmp_path / "whole")
    curve = written(tmp_path / "whole")
    rng = np.random.default_rng(size)
    for number in range(KILLS):
        directory = tmp_path / str(number)
        processes = start(framework, size, directory, dies=[int(rng.integers(size)), int(rng.integers(5, 19)), "now"])
        time.sleep(float(rng.uniform(1, 4)))
        while all(process.poll() is None for process in processes):
            time.sleep(0.01)
        for process in processes:
            process.kill()
            process.communicate(timeout=60)
        told, warned = run(framework, size, directory)
        assert all(told), warned
        assert len({each["start"] for each in told}) == 1
        assert [each["memory"] for each in told] == [each["memory"] for each in whole]
        assert {step: values["Loss / Rank"] for step, values in written(directory).items()} == {
            step: values["Loss / Rank"] for step, values in curve.items()
        }
