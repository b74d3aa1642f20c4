"""A loop under `keepfast_jax.scan` tells a terminal how far it is, and a log nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402
from keepfast_jax.scanning import progress  # noqa: E402

STEPS = 100


@contextlib.contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """Make the standard error a real terminal, and yield what returns all that it shows."""
    controller, shown = pty.openpty()
    with os.fdopen(shown, "w") as stream, contextlib.redirect_stderr(stream):
        yield lambda: _read(controller)
    os.close(controller)


def _read(controller: int) -> str:
    shown = b""
    while select.select([controller], [], [], 0)[0]:
        shown += os.read(controller, 65536)
    return shown.decode()


def train(form: str, directory: Path, steps: int = STEPS) -> None:
    cfg = {"directory": str(directory), "writers": ["jsonl"], "write_interval": 10, "checkpoint_interval": 0}
    with keepfast.Experiment(cfg, timesteps=steps) as experiment:

        def loop(first: Any) -> Any:
            return keepfast_jax.scan(lambda x, _: (x + 1, {"x": x}), first, length=steps, experiment=experiment)

        if form == "outside":
            loop(jnp.float32(0))
        elif form == "inside":
            jax.block_until_ready(jax.jit(loop)(jnp.float32(0)))
        else:
            jax.block_until_ready(jax.jit(jax.vmap(loop))(jnp.arange(4.0)))


@pytest.mark.parametrize("form", ["outside", "inside", "seeds"])
def test_a_terminal_sees_how_far_a_compiled_loop_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Steps, steps a second and the expected end, on one line, at each interval; once for all seeds."""
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    with terminal() as shown:
        train(form, tmp_path)
        *lines, rest = re.split(r"\r\x1b\[K", shown())
    assert lines.pop(0) == ""
    told = [f"{done} of 100 steps ({done} %)" for done in range(20, 100, 10)]
    assert [re.sub(r", [\d,]+ a second, end expected at \d\d:\d\d:\d\d$", "", line) for line in lines] == told
    assert re.fullmatch(r"100 of 100 steps \(100 %\), [\d,]+ a second\r\n", rest)


@pytest.mark.parametrize("form", ["outside", "inside", "seeds"])
def test_a_log_sees_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    """Where the standard error is no terminal."""
    train(form, tmp_path)
    assert capfd.readouterr() == ("", "")
