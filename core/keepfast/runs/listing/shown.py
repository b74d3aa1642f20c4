"""How a run that is under way shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from keepfast._system.notebook.tables import facts, folded, table, text
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.metrics.reading import has_metrics, read_metrics


class Run(Protocol):
    """A run that is under way, as `keepfast.Experiment` is one."""

    @property
    def directory(self) -> Path:
        """Return its directory."""

    @property
    def completed(self) -> int:
        """Return how many timesteps are complete."""

    @property
    def timesteps(self) -> int | None:
        """Return how many there are to be."""

    @property
    def best_score(self) -> float | None:
        """Return the best score."""


def page(name: str, run: Run, modules: Iterable[str], staged: int) -> str:
    """Return a run as HTML: how far it is, what it keeps, its curves as far as they were written, its checkpoints.

    Args:
        name: what it is called.
        run: the run.
        modules: the names of what its checkpoints hold.
        staged: how many bytes of memory are kept for the copies of later checkpoints.
    """
    directory, completed, timesteps, best = run.directory, run.completed, run.timesteps, run.best_score
    of = "" if timesteps is None else f" of {timesteps:,}"
    bar = "" if timesteps is None else f'<progress value="{min(completed, timesteps)}" max="{timesteps}"></progress>'
    about = [
        ("directory", directory),
        ("timesteps", f"{completed:,}{of}"),
        ("best", "none yet" if best is None else f"{best:.6g}"),
        ("modules", ", ".join(modules) or "none"),
        ("memory kept for copies", f"{staged:,} bytes"),
    ]
    return facts(name, about) + bar + _curves(directory) + _checkpoints(directory)


def _curves(directory: Path) -> str:
    try:
        return folded("metrics", read_metrics(directory)._repr_html_()) if has_metrics(directory) else ""
    except OSError as error:
        return f"<p>{text(error)}</p>"


def _checkpoints(directory: Path) -> str:
    rows = [
        (each.timestep, ", ".join(sorted(each.names)), "" if each.score is None else f"{each.score:.6g}")
        for each in CheckpointDirectory(directory / CHECKPOINTS).checkpoints()
    ]
    return folded("checkpoints", table(("timestep", "files", "score"), rows)) if rows else ""
