"""Runs one benchmark in this process: ``python -m benchmarks.one_case NAME DIRECTORY OUTPUT [--large]``."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

from benchmarks.measure import Settings


def main() -> None:
    """Write the rows of a benchmark to the output file; `benchmarks.__main__` reads them there."""
    name, directory, output, *flags = sys.argv[1:]
    case = importlib.import_module(f"benchmarks.cases.{name}")
    rows = list(case.rows(Settings(Path(directory), large="--large" in flags)))
    Path(output).write_bytes(pickle.dumps(rows))


if __name__ == "__main__":
    main()
