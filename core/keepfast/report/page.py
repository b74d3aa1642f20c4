"""A report as one page of HTML that loads nothing and runs no code."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from keepfast._version import __version__
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.checkpoints.segments import bytes_told
from keepfast.errors import shown
from keepfast.pictures.chart import COLORS, Chart
from keepfast.pictures.vector import DARK, LIGHT, STYLE, colors, drawn
from keepfast.provenance.described import described
from keepfast.provenance.starts import ENDED
from keepfast.report.gathering import Told, differences, groups_of, label_of

MOST_BYTES = 480_000
"""How large a page becomes at most; what has no place there is named."""

_CHART_BYTES = 300_000
"""How many of them charts take."""

_MOST_POINTS, _FEWEST_POINTS, _POINT_BYTES = 400, 24, 8.0
_MOST_ROWS = 100

_CSS = """
:root{color-scheme:light dark;--ground:#fff;--ink:#16181d;--line:#d9dce3;--soft:#f4f5f8}
@media(prefers-color-scheme:dark){:root{--ground:#12141a;--ink:#e6e8ee;--line:#333846;--soft:#1b1e27}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1rem;font:16px/1.5 system-ui,sans-serif}
body{background:var(--ground);color:var(--ink)}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .3rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0}
th,td{border-bottom:1px solid var(--line);overflow-wrap:break-word}
th{font-weight:600;white-space:nowrap}td{min-width:4rem;max-width:36rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0;padding:.5rem;background:var(--soft);border-radius:.5rem;min-width:0}
figcaption{font-size:.9rem;font-weight:600;overflow-wrap:anywhere}svg{width:100%;height:auto;display:block}
.key{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin-right:.4rem}
.keys{display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;list-style:none;font-size:.9rem}
details{border-top:1px solid var(--line);padding:.4rem 0}summary{cursor:pointer;font-weight:600;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem;background:var(--soft);padding:.5rem;border-radius:.5rem}
footer{margin-top:2rem;font-size:.8rem;opacity:.75}
"""


def page(told: Sequence[Told], charts: Sequence[Chart], factor: float) -> str:
    """Return the page on runs.

    Args:
        told: the runs.
        charts: the charts of their tags.
        factor: how much the thick lines are smoothed, for who reads it.
    """
    title = told[0].label if len(told) == 1 else f"{len(told)} runs"
    dark = f"@media(prefers-color-scheme:dark){{{colors(DARK)}}}"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{_CSS}{STYLE}{colors(LIGHT)}{dark}</style></head><body><h1>{_text(title)}</h1>"
    )
    now = dt.datetime.now().astimezone().isoformat(timespec="minutes")
    foot = f"<footer>Made by Keepfast {__version__} on {_text(now)}.</footer></body></html>\n"
    parts = [head, *_overview(told), *_curves(told, charts, factor)]
    room = MOST_BYTES - sum(len(part.encode()) for part in (*parts, foot))
    return "".join([*parts, *_each(told, room), foot])


def _overview(told: Sequence[Told]) -> Iterator[str]:
    columns = ("run", "agent", "status", "steps", "best score", "took", "tags")
    yield "<h2>Runs</h2>" + _table(columns, map(_summary, told))
    if len(told) > 1:
        different = differences(told)
        yield "<h2>What differs</h2>"
        rows = ([key, *map(_value, values)] for key, values in different.items())
        yield _table(["setting", *(each.label for each in told)], rows) if different else "<p>No setting.</p>"


def _summary(told: Told) -> list[str]:
    run = told.run
    of = "" if run.timesteps is None else f" of {run.timesteps:,}"
    score = "" if run.best_score is None else f"{run.best_score:.6g} ({run.best_metric})"
    took = "" if run.seconds is None else f"{dt.timedelta(seconds=round(run.seconds))}"
    status = run.status + (f": {run.error}" if run.error else "")
    return [told.label, run.agent or "", status, f"{run.steps or 0:,}{of}", score, took, ", ".join(run.label.tags)]


def _curves(told: Sequence[Told], charts: Sequence[Chart], factor: float) -> Iterator[str]:
    if not charts:
        yield "<h2>Curves</h2><p>Nothing was tracked.</p>"
        return
    keys = "".join(
        f'<li><span class="key k{place % COLORS}"></span>{_text(label_of(group))}</li>'
        for place, group in enumerate(groups_of(told))
    )
    has_bands = any(line.spread is not None for each in charts for line in each.lines)
    bands = "; a band is the deviation over seeds" if has_bands else ""
    yield f'<h2>Curves</h2><ul class="keys">{keys}</ul>'
    yield f"<p>Smoothed by {factor:g}{bands}. Thin lines are what was measured.</p>"
    drawable, points = _affordable(charts)
    for group, members in groupby(drawable, key=lambda chart: chart.tag.partition(" / ")[0]):
        yield f'<h3>{_text(group)}</h3><div class="charts">'
        yield from (
            f"<figure><figcaption>{_text(each.tag)}</figcaption>{drawn(each, points)}</figure>" for each in members
        )
        yield "</div>"
    if left := charts[len(drawable) :]:
        names = ", ".join(chart.tag for chart in left[:_MOST_ROWS])
        yield f"<p>{len(left)} more tags have no place here: {_text(names, 2000)}</p>"


def _affordable(charts: Sequence[Chart]) -> tuple[Sequence[Chart], int]:
    """Return the charts that there is room for, the first ones, and how many points each of their curves has."""
    curves = [sum(1 for _ in chart.curves()) for chart in charts]
    most, used = 0, 0.0
    for count in curves:
        used += 1500 + count * _FEWEST_POINTS * _POINT_BYTES
        if used > _CHART_BYTES:
            break
        most += 1
    room = _CHART_BYTES - 1500 * most
    points = int(room / (_POINT_BYTES * max(sum(curves[:most]), 1)))
    return charts[:most], max(_FEWEST_POINTS, min(_MOST_POINTS, points))


def _each(told: Sequence[Told], room: int) -> Iterator[str]:
    """Yield what there is to tell of each run, of as many as there is room for."""
    yield "<h2>Each run</h2>"
    for place, each in enumerate(told):
        part = _details(each, is_open=len(told) == 1)
        room -= len(part.encode())
        if room < 1000:
            names = ", ".join(other.label for other in told[place:])
            yield f"<p>No place was left for {_text(names, 300)}; a report of fewer runs has it.</p>"
            return
        yield part


def _details(told: Told, *, is_open: bool) -> str:
    run = told.run
    start = run.starts[-1] if run.starts else {}
    parts = [
        _section("Checkpoints", _checkpoints(told)),
        _section("Memory", _pairs(_memory(told, start))),
        _section("Where it comes from", _pairs(described(start))),
        _section("Starts", _starts(run.starts)),
        _section("Warnings", _warnings(run.starts)),
        _section("Settings", _pairs(run.settings.items())),
    ]
    return f"<details{' open' if is_open else ''}><summary>{_text(told.label)}</summary>{''.join(parts)}</details>"


def _section(title: str, inner: str) -> str:
    return f"<h3>{title}</h3>{inner or '<p>None.</p>'}"


def _checkpoints(told: Told) -> str:
    rows = (
        (
            "" if each.timestep is None else f"{each.timestep:,}",
            ", ".join(sorted(each.names)),
            ", ".join(each.modules),
            "" if each.score is None else f"{each.score:.6g}",
            bytes_told(told.run.path / CHECKPOINTS, each),
            ", ".join(file.digest for file in each.files.values()),
        )
        for each in told.run.checkpoints
    )
    return _table(("timestep", "files", "modules", "score", "bytes", "digest"), rows) if told.run.checkpoints else ""


def _memory(told: Told, start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a run took of memory and disk."""
    ended = start.get(ENDED)
    peak = ended.get("peak_memory") if isinstance(ended, Mapping) else None
    if isinstance(peak, int):
        yield "process, at most", f"{peak / 2**20:,.0f} MB"
    for tag, series in told.metrics.items():
        if tag.startswith("Resource / ") and "emory" in tag and len(series.values):
            yield tag, f"{series.values.max():.6g} at most, {series.values[-1]:.6g} at the end"
    yield "files of the run", f"{told.run.size / 2**20:,.1f} MB"
    memories = sorted(told.run.path.glob("memory/*"))[:_MOST_ROWS] if told.run.path.is_dir() else []
    for path in memories:
        if path.is_file():
            yield f"exported memory {path.name}", f"{path.stat().st_size:,} bytes"


def _starts(starts: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for start in starts[-_MOST_ROWS:]:
        ended, resumed = (start.get(key) for key in (ENDED, "resumed"))
        how = ended if isinstance(ended, Mapping) else {}
        went_on = resumed.get("checkpoint", "") if isinstance(resumed, Mapping) else ""
        rows.append(
            [start.get("time", ""), how.get("how", ""), how.get("error") or "", how.get("timestep", ""), went_on]
        )
    return _table(("started", "ended", "why", "timesteps", "resumed from"), rows) if rows else ""


def _warnings(starts: Sequence[Mapping[str, Any]]) -> str:
    told = [start["warnings"] for start in starts if isinstance(start.get("warnings"), Mapping)]
    counts: dict[str, int] = {}
    for warnings in told:
        for text, count in warnings.items():
            counts[text] = counts.get(text, 0) + (count if isinstance(count, int) else 1)
    rows = ((f"{count}", text) for text, count in counts.items())
    return _table(("times", "warning"), rows) if counts else ""


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
    rows = [(key, _value(value)) for key, value in pairs]
    return _table((), rows) if rows else ""


def _value(value: Any) -> str:
    return "" if value is None else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    listed = list(rows)
    head = f"<tr>{''.join(f'<th>{_text(column)}</th>' for column in columns)}</tr>" if columns else ""
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell, 600)}</td>' for cell in row)}</tr>" for row in listed[:_MOST_ROWS])
    more = f"<p>and {len(listed) - _MOST_ROWS:,} more</p>" if len(listed) > _MOST_ROWS else ""
    return f'<div class="wide"><table>{head}{body}</table></div>{more}'


def _text(text: object, most: int = 200) -> str:
    return html.escape(shown(text, most))
