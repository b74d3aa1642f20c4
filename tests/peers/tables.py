"""The tables of what was found with other libraries: ``python -m tests.peers.tables FOLDER`` prints them once more.

The folder holds what `tests/suite/record.py` wrote, a file for each line of libraries, named after it. A test that
failed in any of them is told, and makes the exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

Row = dict[str, str]
MARK = "table: "
"""What the name of a property begins with that is a row of a table."""


def tables(properties: Iterable[tuple[str, Row]]) -> dict[str, list[Row]]:
    """Return the rows of each table by its title, in their order."""
    found: dict[str, list[Row]] = {}
    for name, row in properties:
        if name.startswith(MARK):
            found.setdefault(name.removeprefix(MARK), []).append(row)
    return {title: sorted(rows, key=lambda row: row[""].lower()) for title, rows in found.items()}


def lines(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table: its columns, and the rows below them."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def main(folder: Path) -> int:
    """Print the tables of all lines, what was skipped and why, and what became of the tests."""
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    properties = [tuple(each) for record in records.values() for each in record["properties"]]
    for title, rows in tables(properties).items():
        print(f"\n{title}\n{'-' * len(title)}")
        print(*lines(rows), sep="\n")
    print()
    for name, record in records.items():
        outcomes = record["outcomes"]
        print(f"{name}: {', '.join(f'{number} {kind}' for kind, number in counts(outcomes.values()).items())}")
        for test, outcome in sorted(outcomes.items()):
            if outcome != "passed":
                print(f"  {outcome}: {test}")
    failed = sum(counts(record["outcomes"].values())["failed"] for record in records.values())
    print(f"\n{failed} tests failed" if failed else "\nall of it holds")
    return int(failed > 0 or not records)


def counts(outcomes: Iterable[str]) -> Counter[str]:
    """Return how many tests passed, were skipped and failed."""
    return Counter(outcome.partition(":")[0] for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
