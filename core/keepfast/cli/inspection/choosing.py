"""Which runs of many are listed, and in which order."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
    "name": lambda run: run.path.name,
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
            (name, agent, steps, timesteps, best, changed, size), a setting by its dotted path, or a tag's latest value.
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


def _check(runs: list[Run], key: str) -> None:
    if key in _OWN or not runs or any(_fact(run, key) is not None for run in runs):
        return
    known = {*_OWN, *(name.removeprefix(f"{LEVEL}.") for run in runs for name in (*run.settings, *run.latest))}
    if key not in known:
        raise InvalidValue(f"no run has `{key}`{did_you_mean(key, known)}")
