"""What agents are to track, as ``keepfast metrics`` prints it: of all, of one, and beside what a run has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import typer

from keepfast.errors import InvalidValue, NotFound, did_you_mean
from keepfast.metrics import CataloguedMetric, MetricsReport, agents, check, load_catalogue, tags


def expected(agent: str | None, run: Path | None, form: str) -> str:
    """Return what agents track, or one of them, or how a run compares with it.

    Raises:
        InvalidValue: if there is no such agent, or it is not to be printed like that.
        NotFound: if what was given is neither a run that is there nor an agent.
        Exit: with 1, once it was printed, if a run lacks a tag.
    """
    if form == "parquet":
        raise InvalidValue("what agents track is printed as csv, json or markdown")
    if run is not None:
        return _compared(run, agent, form)
    if agent is not None and agent.lower() not in {name.lower() for name in agents()}:
        raise NotFound(f"there is no run at `{agent}`, and no agent of that name{did_you_mean(agent, agents())}")
    rows = [row for row in load_catalogue() if agent is None or row.agent.lower() == agent.lower()]
    return _FORMS[form](rows)


def _compared(run: Path, agent: str | None, form: str) -> str:
    if agent is None:
        raise InvalidValue(f"--check compares with an agent; give one: {', '.join(agents())}")
    report = check(run, agent)
    told = json.dumps({"kind": "metrics", **dataclasses.asdict(report)}) if form == "json" else _listed(report)
    if report:
        return f"{told}\n"
    typer.echo(told)
    raise typer.Exit(1)


def _listed(report: MetricsReport) -> str:
    lines = [f"{report.agent}: {len(report.present)} tags as in the table"]
    lines += [f"missing: {tag}" for tag in report.missing]
    lines += [f"not enabled: {tag}" for tag in report.disabled]
    lines += [f"spelled differently: {tag} is there as {near}" for tag, near in report.respelled.items()]
    lines += [f"not in the table: {tag}" for tag in report.extra]
    return "\n".join(lines)


def _as_lines(rows: list[CataloguedMetric]) -> str:
    several = len({row.agent for row in rows}) > 1
    lines = ["agent,tag,tracked"] if several else ["tag,tracked"]
    for row in rows:
        when = "always" if row.always else "when enabled"
        lines += [f"{f'{row.agent},' * several}{tag},{when}" for tag in row.tags]
    return "\n".join(lines) + "\n"


def _as_json(rows: list[CataloguedMetric]) -> str:
    names = dict.fromkeys(row.agent for row in rows)
    table = {name: {"tags": tags(name), "always": tags(name, enabled=False)} for name in names}
    return json.dumps({"kind": "agents", "agents": table}) + "\n"


def as_markdown(rows: list[CataloguedMetric]) -> str:
    """Return the table for a page: a row a metric, a column an agent."""
    names = list(dict.fromkeys(row.agent for row in rows))
    marks = {(row.agent, row.group, row.metric): "always" if row.always else "if enabled" for row in rows}
    lines = [f"| {' | '.join(['Metric', *names])} |", f"|{' --- |' * (len(names) + 1)}"]
    for group, metric in sorted({(row.group, row.metric) for row in rows}):
        cells = [marks.get((name, group, metric), "") for name in names]
        lines.append(f"| {' | '.join([f'{group} / {metric}', *cells])} |")
    return "\n".join(lines) + "\n"


_FORMS = {"csv": _as_lines, "json": _as_json, "markdown": as_markdown}
