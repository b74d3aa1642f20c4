"""Every command of the command line, on a real run of a backend: in a narrow terminal, in a wide one, and piped."""

from __future__ import annotations

import abc
import io
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len

import keepfast
from keepfast import cli

TABLE: dict[str, list[str]] = {
    "convert": ["{copy}/checkpoints/agent_20{extension} {new}.safetensors"],
    "demo": ["--backend {backend} --timesteps 2 --directory {new}"],
    "diff": ["{run} {other}", "{run} {other} --json"],
    "doctor": ["{runs}", "{runs} --json"],
    "hub card": ["{run} me/model"],
    "hub pull": ["me/model {new}"],
    "hub push": ["{run} me/model"],
    "index": ["{run}", "{run} --json", "{copy} --rebuild"],
    "inspect": ["{checkpoint}", "{checkpoint} --json", "{memory}", "{run}", "{runs}", "{run}/metrics.jsonl"],
    "memory convert": ["{memory} {new}.npz"],
    "memory inspect": ["{memory}", "{memory} --json"],
    "memory merge": ["{memories} {new}.npz"],
    "memory verify": ["{memory}", "{memory} --json"],
    "metrics": ["{run}", "{run} --format json"],
    "migrate": ["{checkpoint} {copy}/checkpoints/agent_20{extension} --dry-run"],
    "plot": ["{run} {other} --tag 'Loss / Policy loss'"],
    "plugins": ["", "--json"],
    "report": ["{run} {other} -o {new}.html", "{run} -o {new}.html --json"],
    "runs": ["{runs}", "{runs} --json", "{runs} --group lr", "{runs} --where lr=0.1 --sort best"],
    "show": ["{run}", "{run} --json", "{runs}"],
    "tag": ["{copy} good --name 'my run'", "{copy} --json"],
    "upload": ["--list", "--list --json"],
    "verify": ["{run}", "{run} --json"],
    "watch": ["{run} --once"],
}
"""What each command is called with; one that is missing here fails a test."""

WIDTHS = {"narrow": 50, "wide": 120, "piped": None}

CALLS = [
    pytest.param(name, columns, id=f"{name}-{width}")
    for name in TABLE
    for width, columns in WIDTHS.items()
    if name != "demo" or width == "narrow"  # the demo's own suite runs it in a wide terminal, and piped
]

FAILING = {"hub pull", "hub push"}
"""Commands that need what is not there, the package for a hub, and say so."""

RAW = {"hub card", "metrics"}
"""Commands whose output is a document, whose lines nobody folds."""

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def commands(group: Any = None, above: str = "") -> Iterator[str]:
    """Yield the name of every command there is."""
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name


class Terminal(io.TextIOWrapper):
    """What takes output, and is or is no terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode("utf-8")


class CommandsSuite(abc.ABC):
    """What the commands print of a backend's runs."""

    backend: str
    extension: str

    @classmethod
    @abc.abstractmethod
    def module(cls) -> Any:
        """Return a module of the backend."""

    @classmethod
    @abc.abstractmethod
    def memory(cls, **export: Any) -> Any:
        """Return a memory of the backend, of 4 rows and 2 environments."""

    @pytest.fixture(scope="class")
    @classmethod
    def places(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Return where two runs and a memory of the backend are, by the names of the table."""
        root = tmp_path_factory.mktemp("commands")
        for seed, name in enumerate(("a-run-of-a-long-name", "other")):
            cfg = {"directory": str(root / "runs"), "experiment_name": name, "writers": ["jsonl"], "write_interval": 5}
            settings = {"lr": 0.1, "seed": seed, "experiment": {**cfg, "checkpoint_interval": 10}}
            with keepfast.Experiment(settings, name="PPO", timesteps=20) as experiment:
                experiment.register(policy=cls.module())
                for timestep in range(20):
                    experiment.track_data("Loss / Policy loss", float(timestep + seed))
                    experiment.track_data("Reward / Total reward (mean)", float(timestep))
                    experiment.step(timestep)
        memory = cls.memory(export=True, export_format="np", export_directory=root / "memory")
        memory.create_tensor("states", 3)
        memory.add_samples(states=memory.get_tensor_by_name("states"))
        memory.close()
        (file,) = (root / "memory").iterdir()
        run = root / "runs" / "a-run-of-a-long-name"
        checkpoint = run / "checkpoints" / f"agent_20{cls.extension}"
        about = {"backend": cls.backend, "extension": cls.extension, "checkpoint": checkpoint, "memory": file}
        return {"root": root, "runs": run.parent, "run": run, "other": run.parent / "other", **about}

    @pytest.mark.parametrize(("name", "columns"), CALLS)
    def test_every_command_prints_whole_lines(
        self, name: str, columns: int | None, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It ends as it should, without a traceback; no line is wider than the terminal, and nothing is cut off."""
        if name == "demo":
            pytest.importorskip("gymnasium")
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        monkeypatch.setenv("COLUMNS", str(columns or 80))
        monkeypatch.setenv("TERM", "xterm")
        copy = shutil.copytree(places["run"], tmp_path / "copy")
        for number, arguments in enumerate(TABLE[name]):
            known = {**places, "copy": copy, "new": tmp_path / f"new{number}", "memories": places["root"] / "memory"}
            code, out, err = self._call(monkeypatch, name, shlex.split(arguments.format(**known)), columns is not None)
            assert code == (1 if name in FAILING else 0), err
            assert "Traceback" not in err
            assert bool(out or name in FAILING)
            if columns is None:
                assert "\x1b" not in out
            elif name not in RAW and "json" not in arguments:
                lines = ESCAPE.sub("", out).replace("\r", "\n").split("\n")
                assert [line for line in lines if cell_len(line) > columns and str(tmp_path) not in line] == []
            assert "\u2026" not in out

    def _call(
        self, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str], is_terminal: bool
    ) -> tuple[int, str, str]:
        out, err = Terminal(is_terminal=is_terminal), Terminal(is_terminal=False)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "argv", ["keepfast", *name.split(), *arguments])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(warnings, "showwarning", warnings.showwarning)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return int(ended.value.code or 0), out.text, err.text
