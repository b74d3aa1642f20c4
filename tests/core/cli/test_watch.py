"""`keepfast watch` shows a run as it goes on."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import keepfast
from keepfast import cli
from keepfast.cli.runs import watching
from tests.both_backends.commands import ESCAPE, Terminal

Called = tuple[int, str, str]


def begin(directory: Path) -> keepfast.Experiment:
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    return keepfast.Experiment({**cfg, "checkpoint_interval": 0}, name="PPO", timesteps=100)


def test_a_terminal_shows_a_run_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look shows what is new: its steps, its latest values; the last one how it ended."""
    experiment = begin(tmp_path)
    terminal = Terminal(is_terminal=True)
    steps = iter(range(100))

    def work(_seconds: float) -> None:
        timestep = next(steps)
        if timestep < 6:
            experiment.track_data("Loss / Loss", timestep / 2)
            experiment.step(timestep)
            experiment.writer.flush()
        else:
            experiment.close()

    monkeypatch.setattr(watching.time, "sleep", work)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["keepfast", "watch", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    shown = ESCAPE.sub("", terminal.text)
    assert "status: running" in shown
    assert re.findall(r"steps: (\d+)/100", shown)[-1] == "6"
    assert shown.rindex("status: finished") > shown.rindex("status: running")
    assert "Loss / Loss" in shown


def test_a_pipe_shows_a_run_as_it_is(call: Callable[..., Called], tmp_path: Path) -> None:
    """Once, also while it runs; of a run that is not there, an error."""
    with begin(tmp_path) as experiment:
        experiment.track_data("Loss / Loss", 2.5)
        experiment.step(0)
        experiment.writer.flush()
        code, out, err = call("watch", tmp_path / "run")
        assert (code, err) == (0, "")
        assert "status: running" in out
        assert "2.5" in out
    assert call("watch", tmp_path / "none")[0] == 1
