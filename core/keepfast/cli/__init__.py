"""The command line, ``keepfast``: a file for each noun.

A command is a function with Typer's annotations and a row in `COMMANDS`. Importing this package loads no framework;
a command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer

from keepfast._version import __version__
from keepfast.cli import checkpoints, console, demo, hub, memory, migrating, plugins
from keepfast.cli.inspection.doctor import doctor
from keepfast.cli.inspection.inspect import inspect
from keepfast.cli.inspection.metrics import metrics
from keepfast.cli.runs.comparing import diff
from keepfast.cli.runs.listing import runs
from keepfast.cli.runs.plotting import plot
from keepfast.cli.runs.reporting import report
from keepfast.cli.runs.showing import show
from keepfast.cli.runs.tagging import tag
from keepfast.cli.runs.uploading import upload
from keepfast.cli.runs.watching import watch
from keepfast.errors import ConfigError, InvalidValue, KeepfastError, KeepfastWarning, UnknownPlugin

__all__ = ["app", "main"]

COMMANDS = (
    migrating.convert,
    demo.demo,
    diff,
    doctor,
    checkpoints.index,
    inspect,
    metrics,
    migrating.migrate,
    plot,
    plugins.plugins,
    report,
    runs,
    show,
    tag,
    upload,
    checkpoints.verify,
    watch,
)

_USAGE_ERRORS = (ConfigError, InvalidValue, UnknownPlugin)
"""What says that the command was typed wrong: exit code 2. Any other error exits with 1, Ctrl-C with 130."""

TRACEBACK = "--traceback"

app = typer.Typer(
    name="keepfast",
    help="Keeps what a training run produces: metrics, checkpoints and memories.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain messages, which stay whole in a log
    pretty_exceptions_enable=False,  # `main` answers errors
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(hub.app, name="hub")
app.add_typer(memory.app, name="memory")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keepfast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option(TRACEBACK, help="Show where in the code an unforeseen error arose; may stand anywhere.")
    ] = False,
) -> None:
    """Keep what a training run produces: metrics, checkpoints and memories."""


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    warnings.showwarning = _show_warning
    console.take_every_character()
    traced = TRACEBACK in sys.argv[1:]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != TRACEBACK]
    try:
        app()
    except KeepfastError as error:
        console.fail(str(error))
        sys.exit(2 if isinstance(error, _USAGE_ERRORS) else 1)
    except BrokenPipeError:
        # Whoever read the output has left (`keepfast plugins | head -1`): nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.fail(console.cause_of(error))
        sys.exit(1)
    except MemoryError as error:
        console.fail(f"there is not the memory for it: {console.cause_of(error)}")
        sys.exit(1)
    except Exception as error:
        if traced:
            raise
        console.fail(f"{type(error).__name__}: {error}; this was not foreseen, {TRACEBACK} shows where it arose")
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Show Keepfast's own warnings as one line, and any other as Python does."""
    if issubclass(category, KeepfastWarning):
        console.warn(str(message))
    else:
        _python_shows(message, category, *place, **more)


_python_shows = warnings.showwarning
