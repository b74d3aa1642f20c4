"""Tells whether each test passed somewhere: ``python tests/suite/guard.py FOLDER core torch jax all``.

The folder holds what `record.py` wrote, a file or more for each session, named after its environment. A test that is
there with everything installed, and passed in no session, is told and makes the exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

EVERYTHING = "all"
"""The environment in which every test can be collected."""

EXCUSED = {
    "needs a CUDA device": "few machines have one; run the marker gpu where there is one",
    "writes four gigabytes": "the session crash does; archives of their layout are in every run",
    "this user, root for one, may read everything": "who may read every file cannot be refused one",
    "this system has no /dev/full": "only Linux has a disk that is always full",
}
"""The reasons for a skip that are a machine's, with why no session of this one can do better."""


@final
@dataclass
class Session:
    """What was recorded in one environment."""

    collected: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)


def read(folder: Path, environments: list[str]) -> dict[str, Session]:
    """Return what was recorded in each environment; those that left no record are missing."""
    sessions = {}
    for environment in environments:
        for path in sorted([*folder.glob(f"{environment}.json"), *folder.glob(f"{environment}-*.json")]):
            content = json.loads(path.read_text(encoding="utf-8"))
            session = sessions.setdefault(environment, Session())
            session.collected.update(content["collected"])
            session.outcomes.update(content["outcomes"])
    return sessions


def passed_nowhere(sessions: dict[str, Session]) -> dict[str, list[str]]:
    """Return what was collected with everything installed and passed in no session, with what became of it.

    A module that was skipped as a whole there, so that none of its tests was collected, is among them.
    """
    everything = sessions[EVERYTHING]
    skipped_modules = everything.outcomes.keys() - everything.collected
    return {
        name: [f"{outcome} in {environment}" for environment, outcome in outcomes.items()]
        for name in sorted(everything.collected | skipped_modules)
        if "passed" not in (outcomes := outcomes_of(name, sessions)).values()
    }


def outcomes_of(name: str, sessions: dict[str, Session]) -> dict[str, str]:
    """Return what became of a test in each environment that it ran in."""
    return {
        environment: session.outcomes[name] for environment, session in sessions.items() if name in session.outcomes
    }


def excuse_of(outcomes: list[str]) -> str | None:
    """Return the reason, if it is a machine's, for which a test was skipped wherever it was."""
    return next((reason for reason in EXCUSED if outcomes and all(reason in outcome for outcome in outcomes)), None)


def main(folder: Path, environments: list[str]) -> int:
    """Print how many tests passed where, and those that passed nowhere."""
    sessions = read(folder, environments)
    if missing := [environment for environment in environments if environment not in sessions]:
        print(f"no session recorded the tests of: {', '.join(missing)}; run all of them, as `python -m nox` does")
        return 1
    for environment, session in sessions.items():
        print(f"{environment}: {Counter(session.outcomes.values())['passed']} tests passed")
    found = passed_nowhere(sessions)
    excuses = Counter(excuse_of(outcomes) for outcomes in found.values())
    for reason in excuses.keys() & EXCUSED.keys():
        print(f"{excuses[reason]} skipped: {reason} ({EXCUSED[reason]})")
    for name, outcomes in found.items():
        if excuse_of(outcomes) is None:
            print(f"passed nowhere: {name}: {'; '.join(outcomes) or 'no session ran it'}")
    print(f"{len(sessions[EVERYTHING].collected)} tests, {excuses[None]} of them without a session where they passed")
    return int(excuses[None] > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
