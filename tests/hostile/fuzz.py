"""A bounded, seeded fuzz over all readers: honest files are changed, and read in child processes, under limits.

``python -m tests.hostile.fuzz COUNT`` changes each honest file so often, and prints what went wrong. ``COUNT FIRST
PROCESSES`` begins with a later number, so that a long fuzz can be run in parts, in so many processes. A case is the
name of a file and a number, and is made again by ``python -m tests.hostile.fuzz --case NAME NUMBER PATH``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from tests.hostile.changing import changed
from tests.hostile.honest import Honest, honest

FIRST_SEED = "keepfast"
SECONDS = 10
"""How long the processor may be busy with one file; what a file of a few kilobytes takes is milliseconds."""

_AT_ONCE = 2_000
"""How many files one child process reads at most."""


@final
@dataclass
class Found:
    """What came of a fuzz.

    Attributes:
        files: how many files were read.
        became: how many became what: ``value``, ``refused``, ``noticed``, ``same``.
        faults: by the case, what went wrong.
        honest: the names of the files that were changed.
    """

    files: int = 0
    became: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    honest: set[str] = field(default_factory=set)


def content_of(each: Honest, number: int) -> bytes:
    """Return the changed content of a case, always the same."""
    chosen = random.Random(f"{FIRST_SEED} {each.name} {number}")
    return changed(each.content, chosen, is_pickle=each.is_pickle)


def fuzz(first: int, count: int, processes: int = 2) -> Found:
    """Change every honest file `count` times, and read each in a child process.

    Args:
        first: the number of the first case of each file.
        count: how many cases of each file there are.
        processes: how many child processes work on them at once.
    """
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fuzz") as made:
        names = [each.name for each in honest(Path(made))]
    found.honest = set(names)
    parts = [names[index::processes] for index in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        for part in pool.map(lambda part: _by_child(part, first, count), parts):
            found.files += part.files
            found.became += part.became
            found.faults |= part.faults
    return found


def _by_child(names: list[str], first: int, count: int) -> Found:
    """Have a child process read the cases of some files; after one that it does not outlive, another goes on."""
    found = Found()
    waiting = [(index, number) for index in range(len(names)) for number in range(first, first + count)]
    while waiting:
        some = waiting[:_AT_ONCE]
        child = subprocess.run(
            [sys.executable, "-m", "tests.hostile.fuzzed"],
            input=json.dumps({"names": names, "cases": some}),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
        )
        told = [json.loads(line) for line in child.stdout.splitlines()]
        if len(told) < len(some):
            told.append(f"fault: the process ended, {child.returncode}: {child.stderr[-600:]}")
        for (index, number), what in zip(some, told, strict=False):
            found.files += 1
            found.became[what.partition(":")[0]] += 1
            if what.startswith("fault"):
                found.faults[f"{names[index]} {number}"] = what
                print(f"{names[index]} {number}: {what}", file=sys.stderr, flush=True)
        waiting = waiting[len(told) :]
    return found


def main() -> None:
    """Run it for the command line."""
    if sys.argv[1:2] == ["--case"]:
        name, number, path = sys.argv[2:]
        with tempfile.TemporaryDirectory(prefix="fuzz") as made:
            (each,) = (each for each in honest(Path(made)) if each.name == name)
        Path(path).mkdir(parents=True, exist_ok=True)
        print(each.place(Path(path), content_of(each, int(number))))
        return
    given = [int(argument) for argument in sys.argv[1:]]
    count, first, processes = given + [0, 0, os.cpu_count() or 2][len(given) :]
    found = fuzz(first, count, processes)
    print(f"{found.files:,} files of {len(found.honest)} kinds: {dict(found.became)}; faults: {len(found.faults)}")
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    main()
