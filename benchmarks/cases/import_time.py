"""`import keepfast`, against `import numpy`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import AtMost, Peer, Row, Settings, compare

ROUNDS = 12


def rows(settings: Settings) -> Iterator[Row]:
    """Yield what importing costs, and what it costs until there is a class; the interpreter's own start is left out."""
    against = "import numpy"
    for statement, limit in (("import keepfast", AtMost(2)), ("from keepfast import Experiment", None)):
        peers = {against: Peer(lambda: seconds(against), limit)}
        yield from compare(statement, lambda statement=statement: seconds(statement), peers, rounds=ROUNDS)


def seconds(statement: str) -> float:
    """Return how long a fresh interpreter takes for a statement."""
    program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)
