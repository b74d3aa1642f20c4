"""What a file tells reaches the terminal as text, whatever it tells."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast._system.warnings import warn
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.formats.memories.pt import PtExporter

Called = tuple[int, str, str]

EVIL = "\x1b]0;title\x07\x1b[2Jname\nline\x9b1m\u202e"
LONG = "n" * 5_000_000


def assert_harmless(called: Called) -> str:
    """Assert that what was printed is text alone, and not too much of it; return it."""
    _, out, error = called
    for line in (*out.split("\n"), *error.split("\n")):
        assert line.isprintable(), line
        assert len(line) < 5000
    return out + error


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run whose every name commands the terminal."""
    directory = tmp_path / "runs" / "\x1b[2Jrun"
    (directory / "checkpoints").mkdir(parents=True)
    document = {"agent": EVIL, "timesteps": 100, "config": {"experiment": {"best_metric": EVIL}}}
    (directory / "config.json").write_text(json.dumps(document))
    line = {"step": 1, "wall_time": 1.0, "scalars": {EVIL: 1.0, LONG: 2.0}}
    (directory / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    about = {"keepfast": EVIL, "backend": EVIL, "metric": {"tag": EVIL, "value": 1.0}, "time": 1.0}
    checkpoint = keepfast.Checkpoint({EVIL: {EVIL: np.ones(2), LONG: np.ones(1)}}, about)
    PtStore().save(checkpoint, directory / "checkpoints" / "agent_1.pt")
    return directory


def test_runs_and_show_command_no_terminal(call: Callable[..., Called], run: Path) -> None:
    """Names of runs, agents, tags and metrics are spelled out."""
    assert "\\x1b[2Jrun" in assert_harmless(call("runs", run.parent))
    assert "(5,000,000 characters)" in assert_harmless(call("show", run))
    assert "\\x1b]0;title" in assert_harmless(call("plot", run, "--tag", EVIL))


def test_inspect_and_verify_command_no_terminal(call: Callable[..., Called], run: Path, tmp_path: Path) -> None:
    """Names of modules and entries, of every version and backend, and what is wrong with a file."""
    path = run / "checkpoints" / "agent_1.pt"
    for arguments in (("inspect", path), ("verify", path), ("verify", run), ("index", run)):
        assert_harmless(call(*arguments))
    for name in (EVIL, LONG):
        SafetensorsStore().save(keepfast.Checkpoint({name: np.ones(9)}), other := tmp_path / "x.safetensors")
        content = bytearray(other.read_bytes())
        content[-4] ^= 1
        other.write_bytes(content)
        assert "has the CRC-32" in assert_harmless(call("verify", other))
    with zipfile.ZipFile(tmp_path / "code.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\n" + LONG.encode() + b"\n.")
    assert "it carries code" in assert_harmless(call("verify", tmp_path / "code.pt"))


@pytest.mark.needs("msgpack")
def test_a_name_that_a_pickle_calls_commands_no_terminal(call: Callable[..., Called], tmp_path: Path) -> None:
    """It is told by the error, which says that the file carries code."""
    (tmp_path / "code.pickle").write_bytes(pickle.dumps({EVIL: 1})[:-1] + b"cos\n\x1b[2J\n.")
    assert "\\x1b[2J" in assert_harmless(call("verify", tmp_path / "code.pickle"))


def test_memories_command_no_terminal(call: Callable[..., Called], tmp_path: Path) -> None:
    """Names of tensors and what the file tells beside them."""
    values = np.ones((2, 1, 1), np.float32)
    snapshot = keepfast.MemorySnapshot({EVIL: values, LONG: values}, 0, 0, True, {"agent": EVIL, EVIL: LONG})
    PtExporter().save(snapshot, path := tmp_path / "memory.pt")
    assert "\\x1b[2J" in assert_harmless(call("memory", "inspect", path))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert_harmless(call("memory", "verify", path))


def test_errors_and_warnings_command_no_terminal(run: Path, net: Callable[..., Any]) -> None:
    """Those of a load, of whatever file, as those of the commands."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn(f"a file has {EVIL}")
    assert "\x1b" not in str(told[0].message)
    with pytest.raises(keepfast.KeepfastError) as raised:
        keepfast.load(net(1), run / "checkpoints" / "agent_1.pt")
    assert all(line.isprintable() for line in str(raised.value).split("\n"))
    assert len(str(raised.value)) < 20_000
