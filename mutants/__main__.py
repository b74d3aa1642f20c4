"""Tries faults out: ``python -m mutants [NUMBER | FILE ...]``; all of them by default."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mutants.running import SECONDS, Verdict, Workshop, try_all, unsound
from mutants.table import PROJECT, Mutant, TableError, mutants


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the chosen faults out and return 0 if the tests notice every one of them."""
    asked = parse(arguments)
    try:
        chosen = choose(mutants(), asked.which)
        with tempfile.TemporaryDirectory(prefix="keepfast-mutants-") as directory:
            workshop = Workshop(PROJECT, Path(directory), seconds=asked.seconds)
            return run(chosen, workshop, asked.workers)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description="Shows that the tests notice small faults.")
    parser.add_argument("which", nargs="*", help="numbers of faults, or parts of the names of their files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many are tried at a time")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the tests of one may take")
    return parser.parse_args(arguments)


def choose(all_: Sequence[Mutant], which: Sequence[str]) -> list[Mutant]:
    """Return the faults of these numbers and files, all where none is asked for.

    Raises:
        TableError: if one asked for is not there.
    """
    chosen: dict[int, Mutant] = {}
    for one in which:
        found = [each for each in all_ if (str(each.number) == one if one.isdigit() else one in each.file)]
        if not found:
            raise TableError(f"there is no fault `{one}`; allowed: 1 to {len(all_)}, or a part of a file's name")
        chosen.update((each.number, each) for each in found)
    return [chosen[number] for number in sorted(chosen)] if which else list(all_)


def run(chosen: Sequence[Mutant], workshop: Workshop, workers: int) -> int:
    """Try faults out, tell of each, and return 0 if the tests notice every one of them."""
    start = time.perf_counter()
    failing = False
    for path, output in unsound(chosen, workshop, workers):
        failing = True
        print(f"the tests of {path} fail without any fault:\n{output}", flush=True)
    if failing:
        return 2
    counts: Counter[str] = Counter()
    for verdict in try_all(chosen, workshop, workers):
        counts[verdict.outcome] += 1
        tell(verdict)
    noticed = counts["killed"] + counts["hung"]
    hung = f", {counts['hung']} by hanging" if counts["hung"] else ""
    print(f"{noticed} of {len(chosen)} killed{hung}, in {time.perf_counter() - start:.0f} s")
    return 0 if noticed == len(chosen) else 1


def tell(verdict: Verdict) -> None:
    """Print a verdict; of a fault that lives, the change and the tests that were to notice it."""
    print(f"{verdict.outcome:<8} {verdict.mutant}", flush=True)
    if verdict.outcome == "broken":
        print(verdict.output, flush=True)
    if not verdict.noticed:
        listing = "\n".join(f"    {test}" for test in verdict.mutant.tests)
        print(f"{verdict.mutant.change()}\n  was not noticed by\n{listing}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
