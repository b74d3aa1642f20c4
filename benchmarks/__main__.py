"""Measures Keepfast against its peers: ``python -m benchmarks [NAMES] [--large] [--json FILE] [--markdown FILE]``."""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks import cases, report
from benchmarks.measure import Row

NAMES = sorted(module.name for module in pkgutil.iter_modules(cases.__path__))


def main() -> int:
    """Run the benchmarks, show the table, and return 1 if one of them broke."""
    arguments = parse()
    console = Console(width=None if sys.stdout.isatty() else 200)
    results: dict[str, list[Row]] = {}
    broken = []
    for name in arguments.names or NAMES:
        start = time.perf_counter()
        found = run_case(name, arguments)
        if isinstance(found, str):
            broken.append(name)
            console.print(f"[bold red]{name} broke[/]", found, sep="\n", highlight=False, markup=True)
            continue
        results[name] = found
        console.print(f"[dim]{name}: {time.perf_counter() - start:.0f} s[/]")
    console.print(report.table(results))
    if arguments.json:
        report.write_json(results, arguments.json)
    if arguments.markdown:
        report.write_markdown(results, arguments.markdown)
    return 1 if broken else 0


def parse() -> argparse.Namespace:
    """Return what the user asks for."""
    listing = "\n".join(f"  {name:<22}{_first_line(name)}" for name in NAMES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Keepfast against its peers, as ratios within one run.",
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all by default")
    parser.add_argument("--large", action="store_true", help="also what takes minutes: 512 MB states, 700 MB memories")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks in a file, too")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where files are written; on a real disk (default: here)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"unknown benchmark `{min(unknown)}`; known: {', '.join(NAMES)}")
    return arguments


def _first_line(name: str) -> str:
    spec = importlib.util.find_spec(f"benchmarks.cases.{name}")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text().removeprefix('"""').partition("\n")[0].removesuffix('"""')


def run_case(name: str, arguments: argparse.Namespace) -> list[Row] | str:
    """Run a benchmark in a process of its own; return its rows, or what it said when it broke."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=arguments.directory.resolve()) as directory:
        output = Path(directory) / "rows"
        work = Path(directory) / "work"
        work.mkdir()
        command = [sys.executable, "-m", "benchmarks.one_case", name, str(work), str(output)]
        flags = ["--large"] if arguments.large else []
        done = subprocess.run([*command, *flags], check=False, capture_output=True, text=True)
        if done.returncode:
            return (done.stdout + done.stderr)[-4000:]
        rows: list[Row] = pickle.loads(output.read_bytes())
        return rows


if __name__ == "__main__":
    sys.exit(main())
