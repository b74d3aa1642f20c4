"""The latest values on a terminal, and in a log."""

from __future__ import annotations

import io

import pytest

import holdfast
from holdfast_writers.console import ConsoleWriter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_one_plain_line_a_write(context: holdfast.WriterContext) -> None:
    """Where nobody watches, each write is one line without any control character."""
    log = io.StringIO()
    with ConsoleWriter(context, file=log) as writer:
        writer.write_scalars({"Reward / Total reward (mean)": 12.3456789, "[red]tag": float("nan")}, 100, 0.0)
        writer.write_scalars({f"a long tag number {number}": 1.0 for number in range(30)}, 200, 0.0)
        writer.add_text("Notes", "done", 200)
    first, second, third = log.getvalue().splitlines()
    assert first == "step 100  Reward / Total reward (mean)=12.3457  [red]tag=nan"
    assert second.count("=1") == 30
    assert third == "step 200  Notes: done"
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_a_table_of_the_latest_values(
    context: holdfast.WriterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a table holds every tag's latest value, and the step of those that are older."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    with ConsoleWriter(context, file=terminal) as writer:
        writer.write_scalars({"Loss / Policy loss": 0.5, "Reward / Total reward (mean)": 10.0}, 100, 0.0)
        writer.write_scalars({"Loss / Policy loss": 0.25}, 200, 0.0)
    last = terminal.getvalue()[terminal.getvalue().rindex("step 200") :]
    assert "0.25" in last
    assert "0.5" not in last
    assert "Reward / Total reward (mean)" in last
    assert "100" in last
