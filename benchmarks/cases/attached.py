"""What an attached agent costs beyond its training, beside its library's own tracking and saving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks.measure import AtMost, Row, Settings, installed

OTHER_SKRL = "KEEPFAST_SKRL"
"""Names a folder with the other line of skrl than the one that is installed."""

ROUNDS = 11


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for PPO and SAC of each line of skrl, and one for PPO of stable-baselines3."""
    places = [""] * installed("skrl") + [os.environ[OTHER_SKRL]] * (OTHER_SKRL in os.environ)
    wanted = [(kind, place) for place in places for kind in ("skrl PPO", "skrl SAC")]
    wanted += [("sb3 PPO", "")] * installed("stable_baselines3")
    for number, (kind, place) in enumerate(wanted):
        yield _row(kind, place, settings, str(number))


def _row(kind: str, place: str, settings: Settings, folder: str) -> Row:
    path = os.pathsep.join(each for each in (place, os.environ.get("PYTHONPATH")) if each)
    command = [sys.executable, "-m", "benchmarks.attached", kind, str(settings.directory / folder), str(ROUNDS)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    told = json.loads(done.stdout)
    name = f"{kind.split()[1]} of {told['library']}"
    cost = {each: _cost(told["taken"], each) for each in ("attached", "own")}
    return Row(f"{name}, attached", "its own tracking and saving", cost["attached"], cost["own"], AtMost(1))


def _cost(taken: Mapping[str, Sequence[float]], name: str) -> float:
    """Return the median of what a round took more than the one beside it that only trained."""
    return max(median(more - alone for more, alone in zip(taken[name], taken["alone"], strict=True)), 1e-6)
