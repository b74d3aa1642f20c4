"""Which metrics each agent tracks; the facts are in ``catalogue.csv`` beside this file, and plugins may add agents."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, final

from keepfast._system.arguments.checks import listed, truth
from keepfast._system.arguments.guarding import guarded
from keepfast._system.notebook.tables import table, text
from keepfast.errors import InvalidValue, PluginConflict, as_given, did_you_mean, nearest
from keepfast.metrics.reading import read_metrics
from keepfast.plugins.discovery import Provided, registry

_STATISTICS = ("max", "min", "mean")
"""What is kept of the metrics that each step or episode contributes to."""

_WITH_STATISTICS = ("Reward", "Episode")


@final
@dataclass(frozen=True)
class CataloguedMetric:
    """A metric that an agent tracks.

    Attributes:
        agent: ``"PPO"`` for example.
        group: what TensorBoard groups by, ``"Loss"`` for example.
        metric: ``"Policy loss"`` for example.
        always: whether it is tracked in every case, and not only where the agent's configuration enables it.
    """

    agent: str
    group: str
    metric: str
    always: bool

    @property
    def tags(self) -> tuple[str, ...]:
        """Return the tags it is written under."""
        tag = f"{self.group} / {self.metric}"
        if self.group in _WITH_STATISTICS:
            return tuple(f"{tag} ({statistic})" for statistic in _STATISTICS)
        return (tag,)


@functools.cache
def _built_in() -> tuple[CataloguedMetric, ...]:
    text = resources.files(__package__).joinpath("catalogue.csv").read_text("utf-8")
    return tuple(
        CataloguedMetric(row["agent"], row["group"], row["metric"], row["tracked"] == "always")
        for row in csv.DictReader(text.splitlines())
    )


def load_catalogue() -> tuple[CataloguedMetric, ...]:
    """Return the whole table, by agent, group and metric, with the agents that plugins add.

    Raises:
        PluginConflict: if a plugin adds an agent that is there already; names both.
        InvalidValue: if what it gives of one are no metrics of that agent.
    """
    return (*_built_in(), *(row for provided in registry().provided("agent") for row in _rows_of(provided)))


def agents() -> tuple[str, ...]:
    """Return the names of the agents of the table, those of plugins last."""
    return tuple(dict.fromkeys(row.agent for row in load_catalogue()))


def _rows_of(provided: Provided) -> tuple[CataloguedMetric, ...]:
    name, owner = provided.name, f"{provided.distribution} {provided.version}".strip()
    if name.lower() in {row.agent.lower() for row in _built_in()}:
        raise PluginConflict(f"the agent `{name}` of {owner} is in the table already; give it another name")
    rows = tuple(registry().get("agent", name)())
    if all(isinstance(row, CataloguedMetric) and row.agent == name for row in rows):
        return rows
    raise InvalidValue(f"the agent `{name}` of {owner} gives {as_given(rows)}; allowed: `CataloguedMetric`s of it")


@final
@dataclass(frozen=True)
class MetricsReport:
    """How the tags of a run compare with what its agent is to track.

    Attributes:
        agent: the agent.
        missing: the tags that it tracks in every case and that are there under no name.
        disabled: the tags that it tracks only when enabled and that are there under no name.
        present: the tags of the table that are there.
        further: the tags that are there and not in the table.
        respelled: the tags of the table that are there under another name: that of the run, the nearest.
        extra: of the further tags, those that are no tag of the table under another name either.
    """

    agent: str
    missing: tuple[str, ...]
    disabled: tuple[str, ...]
    present: tuple[str, ...]
    further: tuple[str, ...]
    respelled: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Say whether nothing is missing."""
        return not self.missing

    def _repr_html_(self) -> str:
        rows = [("missing", tag, self.respelled.get(tag, "")) for tag in self.missing]
        rows += [("not enabled", tag, self.respelled.get(tag, "")) for tag in self.disabled]
        rows += [("there", tag, "") for tag in self.present] + [("further", tag, "") for tag in self.further]
        return f"<p>{text(self)}</p>" + table(("", "tag", "is it this one?"), rows)

    def __str__(self) -> str:
        told = f"missing {', '.join(self.missing)}" if self.missing else "all expected tags are there"
        others = "".join(f"; there is `{near}` for `{tag}`" for tag, near in self.respelled.items())
        return f"{self.agent}: {told}{others}"


@guarded
def tags(agent: str, *, enabled: bool = True) -> tuple[str, ...]:
    """Return the tags an agent tracks.

    Args:
        agent: its name as in the table, in any case: ``"PPO"``.
        enabled: whether to include those that are tracked only when enabled in the agent's configuration.

    Raises:
        InvalidValue: if the table has no such agent; lists the agents and the nearest.

    Example:
        >>> tags("Q-learning")[0]
        'Episode / Total timesteps (max)'
    """
    if not isinstance(agent, str):
        raise InvalidValue(f"an agent is {as_given(agent)} ({type(agent).__qualname__}); allowed: its name as text")
    known = load_catalogue()
    rows = [row for row in known if row.agent.lower() == agent.lower()]
    if not rows:
        raise InvalidValue(f"unknown agent `{agent}`{did_you_mean(agent, {row.agent for row in known})}")
    every = truth("enabled", enabled)
    return tuple(tag for row in rows if every or row.always for tag in row.tags)


@guarded
def check(run_or_tags: str | Path | Iterable[str] | Mapping[str, Any], agent: str) -> MetricsReport:
    """Compare the tags of a run with those its agent is to track.

    Args:
        run_or_tags: a run's directory, or the tags themselves (what `keepfast.read_metrics` returns will do).
        agent: its name as in the table.

    Raises:
        InvalidValue: if the table has no such agent, or the tags are none.
        NotFound: if there is no such run.
    """
    expected, always = tags(agent), tags(agent, enabled=False)
    found = set(read_metrics(run_or_tags) if isinstance(run_or_tags, str | Path) else _own_tags(run_or_tags))
    further = tuple(sorted(found.difference(expected)))
    spellings = {tag: same for tag in expected if tag not in found and (same := _spellings(tag, further))}
    absent = [tag for tag in expected if tag not in found and tag not in spellings]
    others = {spelling for same in spellings.values() for spelling in same}
    return MetricsReport(
        agent,
        missing=tuple(tag for tag in absent if tag in always),
        disabled=tuple(tag for tag in absent if tag not in always),
        present=tuple(tag for tag in expected if tag in found),
        further=further,
        respelled={tag: same[0] for tag, same in spellings.items()},
        extra=tuple(tag for tag in further if tag not in others),
    )


def _own_tags(given: Any) -> list[str]:
    found = listed("run_or_tags", given, "a run's directory, or tags")
    if all(isinstance(tag, str) for tag in found):
        return found
    raise InvalidValue(f"`run_or_tags` is {as_given(given)}; allowed: a run's directory, or tags, which are text")


_SAME = 0.8
"""How much two spellings of one metric have in common at least."""

_STATISTIC = re.compile(r"\s*\((?:max|min|mean)\)\s*$", re.IGNORECASE)


def _spellings(tag: str, further: Sequence[str]) -> list[str]:
    """Return the tags that a run has in the place of one of the table: with a statistic at its end, or nearly it."""
    plain = _STATISTIC.sub("", tag).casefold()
    same = [each for each in further if _STATISTIC.sub("", each).casefold() == plain]
    if same:
        return sorted(same, key=lambda each: not each.casefold().endswith("(mean)"))
    group = tag.partition(" / ")[0]
    near = nearest(tag, [each for each in further if each.partition(" / ")[0] == group], cutoff=_SAME)
    return [near] if near is not None else []
