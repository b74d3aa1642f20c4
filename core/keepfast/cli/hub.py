"""``keepfast hub``: runs to the Hugging Face Hub and back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from keepfast.cli import console

app = typer.Typer(
    help="Push, pull and describe runs on the Hugging Face Hub.", no_args_is_help=True, rich_markup_mode=None
)

_Run = Annotated[Path, typer.Argument(help="A run's directory, or a checkpoint.", show_default=False)]
_Repo = Annotated[str, typer.Argument(help="The repository: organisation/name.", show_default=False)]
_Environment = Annotated[str, typer.Option(help="Where it was trained, if the configuration does not tell.")]


@app.command()
def push(
    run: _Run,
    repo: _Repo,
    environment: _Environment = "",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    revision: Annotated[str | None, typer.Option(help="The branch.")] = None,
) -> None:
    """Push a run's best checkpoint with its configuration, results and card."""
    from keepfast.hub.push import push as push_run

    address = push_run(run, repo, environment=environment, private=private or None, revision=revision)
    console.output().print(Text(f"pushed to {address}"))


@app.command()
def pull(
    repo: _Repo,
    directory: Annotated[Path, typer.Argument(help="Where to.", show_default=False)],
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
) -> None:
    """Pull what was pushed into a directory."""
    from keepfast.hub.download import pull as pull_files

    for path in pull_files(repo, directory, revision):
        console.output().print(Text(str(path)))


@app.command()
def card(run: _Run, repo: _Repo, environment: _Environment = "") -> None:
    """Print the card that a push would write; nothing is pushed."""
    from keepfast.hub.push import fill

    with tempfile.TemporaryDirectory(prefix="keepfast") as folder:
        fill(Path(folder), run, repo, environment)
        typer.echo((Path(folder) / "README.md").read_text(encoding="utf-8"), nl=False)
