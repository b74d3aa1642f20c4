"""Every public door through which a file comes in, by name; each is given a path that may be anything."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import keepfast
from keepfast.cli import main
from keepfast.migration.calls import read_foreign
from keepfast.migration.layers import layers_of, side_of
from keepfast.plugins import registry
from keepfast.plugins.formats import read_checkpoint
from keepfast.runs.reading import find_runs, read_run

UNFORESEEN = "this was not foreseen"
"""What the command line says of an error that is none of Keepfast's."""

Door = Callable[[Path], Any]


def _memory(path: Path) -> Any:
    snapshot = keepfast.read_memory(path)
    return [snapshot.chronological(), snapshot.histories(), snapshot.seams, snapshot.metadata]


def _foreign(path: Path) -> Any:
    """Ask every reader of another library, and take what was read apart into layers."""
    known = registry().provided("checkpoint reader")
    readers = [reader for provided in known if (reader := registry().make(provided)) is not None]
    read = [reader.read(path) for reader in readers if reader.recognizes(path)]
    layers = [layers_of(name, tree, side_of(tree)) for found in read for name, tree in found.modules.items()]
    return [layers, read_foreign(path)]


def _target() -> dict[str, Any]:
    return {"policy": {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(3)}, "w": np.zeros(1)}


def _converted(path: Path) -> Any:
    with tempfile.TemporaryDirectory() as made:
        return keepfast.convert_memory(path, Path(made, "other.npz"))


def _started(path: Path, which: str | None = "latest", steps: int = 4) -> Any:
    """Have a run start in a directory, go on from what lies there, and store; None: beside it, from its own."""
    directory, name = (path.parent, path.name) if which is not None else (path, "of its own")
    settings = {"directory": str(directory), "experiment_name": name, "writers": ["jsonl"], "keep_last": 1}
    settings |= {"checkpoint_interval": 2, "write_interval": 2}
    with keepfast.Experiment(settings, name="PPO", timesteps=steps) as experiment:
        experiment.register(policy=_target())
        for timestep in range(experiment.resume(which or "last"), steps):
            experiment.track_data("Loss / value", 1.0)
            experiment.step(timestep)
        return experiment.completed


def _resumed(path: Path) -> Any:
    """Have a run of its own go on from a path."""
    with tempfile.TemporaryDirectory() as made:
        settings = {"directory": made, "experiment_name": "x", "writers": []}
        with keepfast.Experiment(settings, name="PPO", timesteps=3) as experiment:
            experiment.register(policy=_target())
            return experiment.resume(path)


def _command(*arguments: str | Path) -> Any:
    """Run the command line; what it prints is text, and each error one that was foreseen."""
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.object(sys, "argv", ["keepfast", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    told = "".join(stream.buffer.getvalue().decode() for stream in (out, errors))  # type: ignore[attr-defined]
    assert UNFORESEEN not in told, told[-500:]
    assert code in (None, 0, 1, 2), code
    assert all(line.isprintable() for line in told.split("\n")), f"commands the terminal: {told!r:.500}"
    return [code, len(told)]


def _commands(*commands: str) -> Door:
    return lambda path: [_command(*(path if word == "PATH" else word for word in each.split())) for each in commands]


def _converted_by_command(path: Path) -> Any:
    with tempfile.TemporaryDirectory() as made:
        merged = _command("memory", "merge", path, Path(made, "merged.npz"))
        return [merged, _command("convert", path, Path(made, "other.safetensors"))]


def _reported(path: Path) -> Any:
    with tempfile.TemporaryDirectory() as made:
        return _command("report", path, "-o", Path(made, "report.html"))


def _copied(door: Door) -> Door:
    """Return a door that changes what it is given, for a copy of it."""

    def of_copy(path: Path) -> Any:
        with tempfile.TemporaryDirectory() as made:
            copy = shutil.copytree(path, Path(made, path.name), symlinks=True, copy_function=_copy_of_any)
            return door(Path(copy))

    return of_copy


def _copy_of_any(source: str, target: str) -> None:
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


DOORS: dict[str, Door] = {
    "checkpoint": read_checkpoint,
    "content": keepfast.read_checkpoint,
    "load": lambda path: keepfast.load(_target(), path),
    "migrate": lambda path: keepfast.migrate(_target(), path),
    "foreign": _foreign,
    "resume": _resumed,
    "memory": _memory,
    "memories": lambda path: list(keepfast.iter_memories([path])),
    "convert": _converted,
    "metrics": keepfast.read_metrics,
    "many metrics": lambda path: list(keepfast.iter_metrics(path)),
    "run": read_run,
    "runs": lambda path: [read_run(found) for found in find_runs(path)],
    "start": _copied(_started),
    "start beside": _copied(lambda path: _started(path, None)),
    "inspect": _commands("inspect PATH", "inspect --json PATH", "verify PATH", "verify --json PATH"),
    "inspect memory": _commands("memory inspect PATH", "memory inspect --json PATH", "memory verify PATH"),
    "show": _commands("show PATH", "show --json PATH", "runs PATH", "runs --json PATH", "metrics PATH"),
    "compare": _commands(
        "show --diff PATH", "diff PATH PATH", "tag PATH", "watch --once PATH", "runs --group agent PATH"
    ),
    "report": _reported,
    "index": _copied(_commands("index PATH", "index --json PATH", "verify PATH", "index --rebuild PATH")),
    "convert by command": _converted_by_command,
}
"""How files are read, by name: as users do."""

OF_CHECKPOINTS = ("checkpoint", "content", "load", "migrate", "foreign", "resume", "inspect", "convert by command")
OF_MEMORIES = ("memory", "memories", "convert", "inspect memory", "inspect")
OF_METRICS = ("metrics", "many metrics", "inspect")
OF_RUNS = ("compare", "report", "run", "runs", "content", "resume", "start", "start beside", "inspect", "show", "index")
