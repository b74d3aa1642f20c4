"""The tests of peers, and cases like theirs, over the product: the session `suites` installs and downloads them.

At the end it prints, for each suite, its cases, those that passed, and those that do not apply, each with its reason.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SOURCES = os.environ.get("KEEPFAST_SUITES", "")
"""The folder into which the session has downloaded the sources of peers; where there is none, no suite is run."""

collect_ignore_glob = [] if SOURCES else ["test_*.py"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a peer's test writes beside itself lie in a temporary folder."""
    monkeypatch.chdir(tmp_path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what became of each suite."""
    outcomes: dict[str, Counter[str]] = {}
    reasons: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            file, _, case = report.nodeid.partition("::")
            suite = Path(file).stem.removeprefix("test_")
            outcomes.setdefault(suite, Counter())[outcome] += 1
            if outcome == "skipped":
                reasons.setdefault(suite, []).append(f"{case}: {_reason(report)}")
    terminalreporter.section("suites")
    for suite, counts in sorted(outcomes.items()):
        told = f"{suite}: {counts.total()} cases, {counts['passed']} passed"
        failed = counts["failed"] + counts["error"]
        terminalreporter.line(f"{told}, {failed} failed, {counts['skipped']} not applicable")
        for reason in reasons.get(suite, []):
            terminalreporter.line(f"    {reason}")


def _reason(report: Any) -> str:
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")
