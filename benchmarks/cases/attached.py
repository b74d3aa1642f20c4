"""What an attached agent costs beyond its training, beside its library's own tracking and saving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.measure import AtMost, Row, Settings, installed

OTHER_SKRL = "KEEPFAST_SKRL"
"""Names a folder with the other line of skrl than the one that is installed."""

ROUNDS = 5


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for PPO and SAC of each line of skrl, and one for PPO of stable-baselines3."""
    places = [""] * installed("skrl") + [os.environ[OTHER_SKRL]] * (OTHER_SKRL in os.environ)
    wanted = [(kind, place) for place in places for kind in ("skrl PPO", "skrl SAC")]
    wanted += [("sb3 PPO", "")] * installed("stable_baselines3")
    for number, (kind, place) in enumerate(wanted):
        yield from _rows(kind, place, settings, str(number))


def _rows(kind: str, place: str, settings: Settings, folder: str) -> Iterator[Row]:
    path = os.pathsep.join(each for each in (place, os.environ.get("PYTHONPATH")) if each)
    command = [sys.executable, "-m", "benchmarks.attached", kind, str(settings.directory / folder), str(ROUNDS)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    told = json.loads(done.stdout)
    name = f"{kind.split()[1]} of {told['library']}"
    cost = {each: _cost(told["taken"], each) for each in told["taken"] if each != "alone"}
    yield Row(f"{name}, attached", "its own tracking and saving", cost["attached"], cost["own"], AtMost(1))
    yield Row(f"{name}, of that the tracking", "its own tracking", cost["tracking"], cost["own tracking"])
    saving = (max(cost[both] - cost[one], _LEAST) for both, one in (("attached", "tracking"), ("own", "own tracking")))
    yield Row(f"{name}, of that the saving", "its own saving", *saving)


_LEAST = 1e-3
"""The least that is told of a difference of seconds."""


def _cost(taken: Mapping[str, Sequence[float]], name: str) -> float:
    """Return what a round takes more than one that only trains, each where it was disturbed least."""
    return max(min(taken[name]) - min(taken["alone"]), _LEAST)
