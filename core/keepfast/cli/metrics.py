"""``keepfast metrics``: what agents track, and whether a run has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from keepfast import metrics as table
from keepfast.cli import console
from keepfast.errors import InvalidValue


def metrics(
    agent: Annotated[str | None, typer.Argument(help="The agent, as PPO; all if none is named.")] = None,
    check: Annotated[Path | None, typer.Option(help="A run whose metrics are compared with the agent's.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List the metrics that agents track, or compare those of a run with them."""
    if check is not None:
        _compare(check, agent, as_json=as_json)
        return
    if agent is not None:
        table.tags(agent)  # raises where there is no such agent
    rows = [row for row in table.catalogue if agent is None or row.agent.lower() == agent.lower()]
    if as_json:
        listed = [{"agent": row.agent, "tags": list(row.tags), "always": row.always} for row in rows]
        console.print_json({"kind": "metrics", "metrics": listed})
        return
    shown = console.table("agent", "tag", "tracked")
    for row in rows:
        for tag in row.tags:
            shown.add_row(Text(row.agent), Text(tag), Text("always" if row.always else "on request"))
    console.output().print(shown)


def _compare(run: Path, agent: str | None, *, as_json: bool) -> None:
    if agent is None:
        raise InvalidValue("`--check` compares a run with an agent; name it: keepfast metrics PPO --check RUN")
    report = table.check(run, agent)
    found: dict[str, Any] = {
        name: list(getattr(report, name)) for name in ("missing", "disabled", "present", "further")
    } | {"respelled": dict(report.respelled)}
    if as_json:
        console.print_json({"kind": "check", "agent": report.agent, **found})
    else:
        console.output().print(Text(str(report)))
        for tag in report.further:
            console.output().print(Text(f"  not in the table: {tag}"))
    if not report:
        raise typer.Exit(1)
