"""The latest values on a terminal, and in a log."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import pytest

import keepfast
from keepfast_writers.console import ConsoleWriter

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminals(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, IO[str]]]]:
    """Yield two terminals, each as the descriptor of who watches it and a stream onto it."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        pairs = [pty.openpty() for _ in range(2)]
        yield [(watcher, stack.enter_context(os.fdopen(stream, "w"))) for watcher, stream in pairs]
        for watcher, _ in pairs:
            os.close(watcher)


def show(context: keepfast.WriterContext, terminal: IO[str]) -> None:
    """Print a line to stdout while a console writer shows its table."""
    with ConsoleWriter(context, file=terminal) as writer:
        writer.write_scalars({"Loss / Policy loss": 0.5}, 100, 0.0)
        print("MINE")
        writer.flush()


def seen(watcher: int) -> str:
    """Return what has been shown on a terminal."""
    os.set_blocking(watcher, False)
    shown = b""
    with suppress(BlockingIOError):
        while True:
            shown += os.read(watcher, 65536)
    return shown.decode()


def test_what_the_program_prints_into_a_file_stays_there(
    context: keepfast.WriterContext,
    terminals: list[tuple[int, IO[str]]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Where stdout leads elsewhere, the table on the terminal does not take what is printed."""
    watcher, terminal = terminals[0]
    with (tmp_path / "out").open("w+") as file:
        monkeypatch.setattr(sys, "stdout", file)
        show(context, terminal)
        file.seek(0)
        assert file.read() == "MINE\n"
    assert "Loss / Policy loss" in (shown := seen(watcher))
    assert "MINE" not in shown


def test_a_terminal_is_as_before_once_it_is_closed(
    context: keepfast.WriterContext, terminals: list[tuple[int, IO[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor that the table hides is there again, and what is printed is the program's own stream again."""
    watcher, terminal = terminals[0]
    monkeypatch.setattr(sys, "stdout", terminal)
    show(context, terminal)
    assert sys.stdout is terminal
    shown = seen(watcher)
    assert 0 <= shown.rfind("\x1b[?25l") < shown.rfind("\x1b[?25h")


def test_stdout_on_another_terminal_or_nowhere_is_left_alone(
    context: keepfast.WriterContext, terminals: list[tuple[int, IO[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal is not the table's because it is one, and a program may have no stdout at all."""
    (_, terminal), (_, other) = terminals
    for stdout in (other, io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stdout)
        with ConsoleWriter(context, file=terminal):
            assert sys.stdout is stdout


def test_what_the_program_prints_on_the_same_terminal_stands_above_the_table(
    context: keepfast.WriterContext, terminals: list[tuple[int, IO[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stdout is the table's own terminal, a printed line does not tear the table."""
    watcher, terminal = terminals[0]
    with os.fdopen(os.dup(terminal.fileno()), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        show(context, terminal)
    shown = seen(watcher)
    assert shown.rindex("MINE") < shown.rindex("Loss / Policy loss")


def test_a_log_gets_one_plain_line_a_write(context: keepfast.WriterContext) -> None:
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
    context: keepfast.WriterContext, monkeypatch: pytest.MonkeyPatch
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
