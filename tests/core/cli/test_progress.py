"""The progress of a training: lines in a log, a bar on a terminal, Ctrl-C between timesteps."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from keepfast.cli.demo import TrainingProgress


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def log() -> Console:
    return Console(file=io.StringIO(), width=500)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_plain_line_at_each_tenth():
    """However long the training is, ten lines tell of it, the last at its end."""
    console = log()
    with TrainingProgress(1000, console) as progress:
        for completed in range(1, 1001):
            progress(completed, None if completed < 500 else 12.34)
    assert len(printed(console)) == 10
    assert printed(console)[0] == "100/1000 timesteps, no score yet"
    assert printed(console)[-1] == "1000/1000 timesteps, best score 12.3"


def test_a_training_shorter_than_ten_timesteps_gets_a_line_for_each():
    """Short trainings are told of as well."""
    console = log()
    with TrainingProgress(3, console) as progress:
        for completed in (1, 2, 3):
            progress(completed, None)
    assert [line.split()[0] for line in printed(console)] == ["1/3", "2/3", "3/3"]


def test_a_terminal_gets_a_bar():
    """On a terminal the same calls draw a bar with the count and the score."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with TrainingProgress(20, console) as progress:
        for completed in range(1, 21):
            progress(completed, 7.0)
    text = "\n".join(printed(console))
    assert "━" in text
    assert "20/20" in text
    assert "best score 7.0" in text


def test_ctrl_c_is_raised_between_timesteps():
    """It is held back while a timestep runs and raised when that is complete, once."""
    with TrainingProgress(100, log()) as progress:
        progress(1, None)
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second timestep
        with pytest.raises(KeyboardInterrupt):
            progress(2, None)
        progress(3, None)


def test_a_second_ctrl_c_acts_at_once():
    """Whoever does not want to wait for the timestep presses it again."""
    with TrainingProgress(100, log()) as progress:
        progress(1, None)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_the_callers_again_when_the_training_is_over():
    """Before the first timestep and after the last one, Ctrl-C acts at once, as everywhere."""
    progress = TrainingProgress(2, log())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    progress(1, None)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    progress(2, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with TrainingProgress(2, log()) as left_early:
        left_early(1, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
