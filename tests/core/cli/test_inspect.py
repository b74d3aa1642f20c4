"""`keepfast inspect` and `doctor`: whatever there is says what it is."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import keepfast
from keepfast.cli import console

Called = tuple[int, str, str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the directory of a run with metrics and checkpoints."""
    writers = ["jsonl", "csv"]
    cfg = {"directory": str(tmp_path / "runs"), "experiment_name": "a-run-of-a-long-name", "writers": writers}
    with keepfast.Experiment({**cfg, "write_interval": 5}, name="PPO", timesteps=20) as experiment:
        experiment.register(net={"weight": np.zeros((3, 4), np.float32)})
        for timestep in range(20):
            experiment.track_data("Loss / Policy loss", float(timestep))
            experiment.step(timestep)
    return experiment.directory


@pytest.fixture
def memory(tmp_path: Path) -> keepfast.MemorySnapshot:
    tensors = {"states": np.zeros((16, 4, 3)), "terminated": np.zeros((16, 4, 1), bool)}
    return keepfast.MemorySnapshot(tensors, 0, 0, filled=True)


def save(snapshot: keepfast.MemorySnapshot, path: Path, name: str) -> Path:
    keepfast.plugins.registry().get("memory format", name)().save(snapshot, path)
    return path


@pytest.mark.parametrize(("name", "extension"), [("pt", ".pt"), ("safetensors", ".safetensors"), ("npz", ".npz")])
def test_a_memory_of_any_format_is_shown_as_one(
    call: Callable[..., Called], memory: keepfast.MemorySnapshot, tmp_path: Path, name: str, extension: str
) -> None:
    """Its samples and tensors, also where checkpoints have the same extension."""
    path = save(memory, tmp_path / f"memory{extension}", name)
    code, out, _ = call("inspect", path)
    assert code == 0
    assert "samples: 64 of 64 (16 rows of 4 environments)" in out
    code, out, _ = call("inspect", path, "--json")
    found = json.loads(out)
    assert (found["kind"], found["samples"]) == ("memory", 64)
    assert found["tensors"]["states"] == {"dtype": "float64", "shape": [3]}


@pytest.mark.parametrize(
    ("below", "kind", "shown"),
    [
        (".", "run", "Loss / Policy loss"),
        ("..", "runs", "a-run-of-a-long-name"),
        ("checkpoints", "checkpoints", "agent_20.safetensors"),
        ("checkpoints/index.json", "checkpoints", "agent_20.safetensors"),
        ("checkpoints/agent_20.safetensors", "checkpoint", "float32 (3, 4)"),
        ("metrics.jsonl", "metrics", "5 to 20"),
        ("metrics.csv", "metrics", "5 to 20"),
        ("config.json", "document", "agent: PPO"),
    ],
)
def test_whatever_a_run_left_is_shown(
    call: Callable[..., Called], run: Path, below: str, kind: str, shown: str
) -> None:
    """The run itself, the directory it lies in, and each of its files, for people and as JSON."""
    code, out, err = call("inspect", run / below)
    assert (code, err) == (0, "")
    assert shown in out
    code, out, _ = call("inspect", run / below, "--json")
    assert (code, json.loads(out)["kind"]) == (0, kind)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"hello", "is a text, which Keepfast does not read; it reads checkpoints \\("),
        ("a.json", b"[1]", "is a JSON document"),
        ("a.bin", bytes(range(256)), "is a binary file of no known kind"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "is a PNG image"),
        ("a.npy", b"\x93NUMPY\x01\x00", "is a single array of NumPy"),
        ("a.gz", b"\x1f\x8b\x08", "is a file packed with gzip"),
        ("a.pt", b"", "is an empty file"),
        ("a.jsonl", "größe".encode(), "is a text"),
    ],
)
def test_what_is_none_of_ours_says_what_it_is(
    call: Callable[..., Called], tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """One line, with what is read in its place, and never a traceback."""
    (tmp_path / name).write_bytes(content)
    code, out, err = call("inspect", tmp_path / name)
    assert (code, out) == (2, "")
    assert said.replace("\\", "") in err
    assert len(err.splitlines()) == 1


def test_a_name_that_is_not_there_is_answered_with_the_nearest(call: Callable[..., Called], run: Path) -> None:
    """Of the names beside it."""
    code, _, err = call("inspect", run / "confg.json")
    assert code == 1
    assert "Did you mean `config.json`?" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_keeps_nobody_waiting(call: Callable[..., Called], tmp_path: Path) -> None:
    """It is none that could be read to its end."""
    os.mkfifo(tmp_path / "pipe.pt")
    code, _, err = call("inspect", tmp_path / "pipe.pt")
    assert code == 2
    assert "is a pipe, which cannot be inspected" in err


def test_a_checkpoint_is_known_by_its_content_too(call: Callable[..., Called], run: Path, tmp_path: Path) -> None:
    """Where its name has another extension, as files of other tools may."""
    (run / "checkpoints" / "agent_20.safetensors").rename(tmp_path / "model.bin")
    code, out, _ = call("inspect", tmp_path / "model.bin")
    assert code == 0
    assert "float32 (3, 4)" in out
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.writestr("a", "b")
    assert "is a zip archive" in call("inspect", tmp_path / "any.zip")[2]


@pytest.mark.needs("msgpack")
def test_a_pickle_is_known_by_its_content(call: Callable[..., Called], tmp_path: Path) -> None:
    """Whatever its name is."""
    (tmp_path / "model.dat").write_bytes(pickle.dumps({"net": {"weight": 12}}))
    code, out, _ = call("inspect", tmp_path / "model.dat")
    assert code == 0
    assert "int 12" in out


@pytest.mark.needs("msgpack")
def test_a_file_that_carries_code_is_refused_in_a_line(call: Callable[..., Called], tmp_path: Path) -> None:
    """Nothing of it is run."""
    (tmp_path / "code.pickle").write_bytes(pickle.dumps({"a": print}))
    code, _, err = call("inspect", tmp_path / "code.pickle")
    assert code == 1
    assert "carries code, `builtins.print`" in err


def test_a_directory_without_anything_says_so(call: Callable[..., Called], tmp_path: Path) -> None:
    """With what may be given."""
    code, _, err = call("inspect", tmp_path)
    assert code == 2
    assert "holds neither runs nor checkpoints" in err


def listings(run: Path, memory: Path) -> list[list[Any]]:
    return [
        ["runs", run.parent],
        ["show", run],
        ["show", run.parent],
        ["index", run],
        ["verify", run],
        ["inspect", run / "checkpoints" / "agent_20.safetensors"],
        ["memory", "inspect", memory],
        ["memory", "verify", memory],
        ["plugins"],
        ["doctor", run.parent],
    ]


def test_every_listing_has_json(
    call: Callable[..., Called], run: Path, memory: keepfast.MemorySnapshot, tmp_path: Path
) -> None:
    """One document, which names its kind, and nothing beside it on stdout."""
    path = save(memory, tmp_path / "memory.pt", "pt")
    kinds = []
    for arguments in listings(run, path):
        code, out, err = call(*arguments, "--json")
        assert (code, err) == (0, "")
        kinds.append(json.loads(out)["kind"])
    assert kinds == [
        *("runs", "run", "runs", "checkpoints", "verification", "checkpoint", "memory", "verification"),
        *("plugins", "doctor"),
    ]


@pytest.mark.parametrize("width", [50, 120])
def test_a_narrow_terminal_folds_what_a_wide_one_shows(
    call: Callable[..., Called],
    run: Path,
    memory: keepfast.MemorySnapshot,
    tmp_path: Path,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No name is cut, and no line is longer than the terminal is wide."""
    path = save(memory, tmp_path / "memory.pt", "pt")
    monkeypatch.setattr(console, "output", lambda: Console(width=width, highlight=False, markup=False))
    for arguments in listings(run, path):
        code, out, _ = call(*arguments)
        assert code == 0
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= width
    out = call("runs", run.parent)[1]
    lines = out.splitlines()
    (row,) = (position for position, line in enumerate(lines) if "PPO" in line)
    assert "".join(line[: lines[row].index("PPO")].strip() for line in lines[row:]) == "a-run-of-a-long-name"


def test_doctor_says_what_works_in_a_directory(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not there is tried above it; what is lacking is told, and what is needed is an error; nothing is left."""
    code, out, _ = call("doctor", tmp_path / "not" / "there", "--json")
    found = json.loads(out)
    assert code == 0
    assert [trial["what"] for trial in found["trials"] if trial["problem"]] == []
    assert {row["name"] for row in found["packages"]} >= {"torch", "jax", "wandb", "polars"}
    assert list(tmp_path.iterdir()) == []

    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "hardlink_to", refuse)
        code, out, _ = call("doctor", tmp_path)
        assert code == 0
        assert "lacks (second name of a file: Operation not supported)" in out
        patched.setattr(Path, "replace", refuse)
        code, out, _ = call("doctor", tmp_path)
        assert code == 1
        assert "it cannot rename over a file: Operation not supported; choose another directory" in out
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_to_install(call: Callable[..., Called], tmp_path: Path) -> None:
    """For each package that is not there, the command that brings it."""
    rows = json.loads(call("doctor", tmp_path, "--json")[1])["packages"]
    for row in rows:
        assert (row["version"] is None) == (row["install"] is not None)
        assert row["install"] is None or row["install"].startswith('pip install "keepfast[')
