"""Which runs of many are listed, and in which order."""

from __future__ import annotations

import math
import operator
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from keepfast.config import LEVEL
from keepfast.errors import InvalidValue, did_you_mean
from keepfast.runs.reading import Run

_CONDITION = re.compile(r"\s*(?P<key>[^=<>!]+?)\s*(?P<sign><=|>=|!=|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)

_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}

_OWN: Mapping[str, Callable[[Run], Any]] = {
    "name": lambda run: run.label.name or run.path.name,
    "tag": lambda run: run.label.tags,
    "status": lambda run: run.status or None,
    "error": lambda run: run.error,
    "began": lambda run: run.began,
    "seconds": lambda run: run.seconds,
    "agent": lambda run: run.agent,
    "steps": lambda run: run.steps,
    "timesteps": lambda run: run.timesteps,
    "best": lambda run: run.best_score,
    "changed": lambda run: run.changed,
    "size": lambda run: run.size,
}
"""What every run has, by the name it is asked for."""


def chosen(runs: Iterable[Run], where: Iterable[str], sort: str | None, *, reverse: bool = False) -> list[Run]:
    """Return the runs that meet all conditions, in the order asked for.

    Args:
        runs: the runs.
        where: conditions: ``lr=3e-4``, ``best>100``, ``agent!=PPO``. What is asked for is one of a run's own facts
            (name, tag, status, error, agent, steps, timesteps, best, began, seconds, changed, size), a setting by its
            dotted path, or a tag's latest value.
        sort: what to sort by, one of the same. The best comes first, else the lowest; runs without it come last.
        reverse: whether the other way round.

    Raises:
        InvalidValue: if a condition is none, or no run has what is asked for; lists what there is.
    """
    known = list(runs)
    for condition in where:
        known = _meeting(known, condition)
    if sort is None:
        return known
    _check(known, sort)
    having = [run for run in known if _fact(run, sort) is not None]
    ordered = sorted(having, key=lambda run: _rank(run, sort), reverse=reverse)
    return [*ordered, *(run for run in known if _fact(run, sort) is None)]


def _meeting(runs: list[Run], condition: str) -> list[Run]:
    parts = _CONDITION.fullmatch(condition)
    if parts is None:
        raise InvalidValue(
            f"`{condition}` is no condition; allowed: a name, one of {' '.join(_SIGNS)}, and a value, such as lr=3e-4"
        )
    key, compare = parts["key"], _SIGNS[parts["sign"]]
    _check(runs, key)
    return [run for run in runs if _meets(_fact(run, key), compare, parts["value"])]


def _meets(fact: Any, compare: Callable[[Any, Any], bool], value: str) -> bool:
    """Compare as numbers where both are, and else as texts."""
    if fact is None:
        return compare is operator.ne
    if isinstance(fact, tuple):  # each of its tags is one
        having = value.casefold() in map(_text, fact)
        return having if compare is operator.eq else not having if compare is operator.ne else False
    number, wanted = _number(fact), _number(value)
    if number is not None and wanted is not None:
        return compare(number, wanted)
    return compare(_text(fact), value.casefold())


def _text(fact: Any) -> str:
    return str(fact).casefold()


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _rank(run: Run, key: str) -> tuple[bool, float, str]:
    fact = _fact(run, key)
    number = _number(fact)
    if number is None:
        return True, 0.0, _text(fact)
    return False, -number if key == "best" and run.best_mode == "max" else number, ""


def _fact(run: Run, key: str) -> Any:
    if key in _OWN:
        return _OWN[key](run)
    if key in run.settings:
        return run.settings[key]
    if f"{LEVEL}.{key}" in run.settings:
        return run.settings[f"{LEVEL}.{key}"]
    latest = run.latest.get(key)
    return None if latest is None else latest.value


@final
@dataclass(frozen=True)
class Group:
    """The runs that have the same of something.

    Attributes:
        values: what they have, a value for each key; None where they have none.
        runs: the runs.
    """

    values: tuple[Any, ...]
    runs: list[Run]

    def facts(self) -> dict[str, Any]:
        """Return what there is to tell of them: the best of their best scores, its mean and deviation, most steps."""
        scores = [run.best_score for run in self.runs if run.best_score is not None]
        steps = [run.steps for run in self.runs if run.steps is not None]
        least_is_best = any(run.best_mode == "min" for run in self.runs)
        return {
            "count": len(self.runs),
            "best": (min if least_is_best else max)(scores, default=None),
            "mean": statistics.fmean(scores) if scores else None,
            "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
            "steps": max(steps, default=None),
        }


def grouped(runs: Iterable[Run], keys: Sequence[str]) -> list[Group]:
    """Return the runs in groups that have the same of each key, in the order of their first runs.

    Raises:
        InvalidValue: if no run has what is asked for; lists what there is.
    """
    known = list(runs)
    for key in keys:
        _check(known, key)
    groups: dict[str, Group] = {}
    for run in known:
        values = tuple(_grouping(_fact(run, key)) for key in keys)
        groups.setdefault(repr(values), Group(values, [])).runs.append(run)
    return list(groups.values())


def _grouping(fact: Any) -> Any:
    return ", ".join(fact) if isinstance(fact, tuple) else fact


def _check(runs: list[Run], key: str) -> None:
    if key in _OWN or not runs or any(_fact(run, key) is not None for run in runs):
        return
    known = {*_OWN, *(name.removeprefix(f"{LEVEL}.") for run in runs for name in (*run.settings, *run.latest))}
    if key not in known:
        raise InvalidValue(f"no run has `{key}`{did_you_mean(key, known)}")
