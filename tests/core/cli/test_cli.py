"""The command line as a whole: its help, its errors, its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast import cli

FRAMEWORKS = {"torch", "jax", "flax", "optax", "gymnasium", "tensorboard", "tensorboardX", "wandb", "pyarrow"}


Called = tuple[int, str, str]


def test_version_is_that_of_the_package(call: Callable[..., Called]):
    """`keepfast --version` prints one line and ends well."""
    assert call("--version") == (0, f"keepfast {keepfast.__version__}\n", "")


SCRIPT = Path(sys.executable).with_name("keepfast")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([SCRIPT], marks=pytest.mark.skipif(not SCRIPT.exists(), reason="`keepfast` is not installed")),
        [sys.executable, "-m", "keepfast.cli"],
    ],
    ids=["the script", "the module"],
)
def test_the_command_is_this_one(command: list[Any]):
    """The script `keepfast` that pip installs runs `keepfast.cli:main`, and so does the module; both tell errors."""
    finished = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stdout) == (0, f"keepfast {keepfast.__version__}\n")
    finished = subprocess.run([*command, "nope"], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "nope" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_help_lists_every_command(call: Callable[..., Called]):
    """`keepfast --help` names each command of the table, with a line on what it does."""
    code, out, _ = call("--help")
    assert code == 0
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert {command.__name__ for command in cli.COMMANDS} <= listed


@pytest.mark.needs(*FRAMEWORKS)
def test_importing_the_command_line_loads_no_framework():
    """What answers `keepfast --help` imports neither a framework nor Gymnasium nor a writer's library."""
    code = f"import sys, keepfast.cli; print(sorted({FRAMEWORKS!r} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope"], "nope"),
        (["demo", "--nope"], "--nope"),
        (["demo", "--timesteps", "0"], "--timesteps"),
        (["demo", "--timesteps", "many"], "--timesteps"),
        (["demo", "--seed", "-1"], "--seed"),
    ],
)
def test_what_was_typed_wrong_is_named_with_exit_code_2(call: Callable[..., Called], arguments: list[str], named: str):
    """A wrong command, option or number is named on stderr, and nothing is on stdout."""
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert named in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (keepfast.UnknownPlugin("unknown backend `x`"), 2),
        (keepfast.InvalidValue("no such environment"), 2),
        (keepfast.ConfigError("unknown key"), 2),
        (keepfast.MissingDependency('run: pip install "keepfast[torch]"'), 1),
        (keepfast.CorruptCheckpoint("a byte is wrong"), 1),
    ],
)
def test_an_error_of_ours_is_one_line_on_stderr(
    error: keepfast.KeepfastError, code: int, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Called]
):
    """A KeepfastError ends the process without a traceback, its text whole, square brackets included."""

    def raise_it() -> None:
        raise error

    monkeypatch.setattr(cli, "app", raise_it)
    assert call() == (code, "", f"error: {error}\n")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "a [file]"), "Permission denied: `a [file]`"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("out of reach"), "out of reach"),
        (OSError(), "OSError"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line_too(
    error: OSError, text: str, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Called]
):
    """What the operating system refuses ends the process with 1 and its reason, without a traceback."""

    def raise_it() -> None:
        raise error

    monkeypatch.setattr(cli, "app", raise_it)
    assert call() == (1, "", f"error: {text}\n")


def test_an_error_that_nobody_foresaw_is_one_line_too(monkeypatch: pytest.MonkeyPatch, call: Callable[..., Called]):
    """It says how to see more: `--traceback`, wherever it stands, shows where a bug arose."""

    def raise_it() -> None:
        assert "--traceback" not in sys.argv
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli, "app", raise_it)
    told = "error: ZeroDivisionError: division by zero; this was not foreseen, --traceback shows where it arose\n"
    assert call() == (1, "", told)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for arguments in (["--traceback", "runs"], ["runs", "--traceback"]):
        monkeypatch.setattr(sys, "argv", ["keepfast", *arguments])
        with pytest.raises(ZeroDivisionError):
            cli.main()


def test_the_shell_completes_commands():
    """As Typer's own scripts ask for it."""
    asked = {"_KEEPFAST_COMPLETE": "complete_bash", "COMP_WORDS": "keepfast in", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['keepfast']; from keepfast.cli import main; main()"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert finished.stdout.split() == ["index", "inspect"], finished.stderr


def test_a_warning_of_ours_is_one_line_on_stderr():
    """A KeepfastWarning is shown without the line of code that it came from; other warnings are shown as ever."""
    code = """
import warnings
from keepfast import cli
from keepfast._system.warnings import warn

def app():
    warn("2 files were skipped")
    warnings.warn("someone else's", UserWarning)

cli.app = app
cli.main()
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    first, second = finished.stderr.splitlines()[:2]
    assert first == "warning: 2 files were skipped"
    assert "UserWarning: someone else's" in second


def test_a_reader_that_leaves_early_is_no_error():
    """`keepfast --help | head -1` prints its line and no traceback."""
    command = f"'{sys.executable}' -m keepfast.cli plugins | head -1"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(finished.stdout.splitlines()) == 1
    assert finished.stderr == ""
