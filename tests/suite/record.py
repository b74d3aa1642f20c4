"""Writes down what became of every test, for `guard.py`; loaded by ``-p tests.suite.record --record FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the file to write to."""
    parser.addoption("--record", metavar="FILE", type=Path, help="write what became of every test to a JSON file")


def pytest_configure(config: pytest.Config) -> None:
    """Record where a file is given; each worker of xdist hands its part to the process that started it."""
    if file := config.getoption("record"):
        config.pluginmanager.register(Record(file), "record of the tests")


@final
class Record:
    """What was collected, before any mark or name chose among it, and what became of each test that ran.

    Attributes:
        collected: the ids of all tests there are.
        outcomes: by id, ``"passed"``, ``"failed"``, or ``"skipped: "`` and the reason; of a module that was skipped
            as a whole, so that none of its tests was collected, under the module's id.
        properties: what tests that passed noted of themselves, by pytest's ``record_property``.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.collected: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.properties: list[tuple[str, object]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.collected = [item.nodeid for item in items]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.outcomes[report.nodeid] = f"skipped: {_reason(report)}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _without_group(report.nodeid)
        if report.skipped:
            self.outcomes[name] = f"skipped: {_reason(report)}"
        elif report.failed:
            self.outcomes[name] = "failed"
        elif report.when == "call":
            self.outcomes[name] = "passed"
            self.properties += report.user_properties

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        given = getattr(node, "workeroutput", {}).get("record", {"collected": [], "outcomes": {}})
        self.collected = self.collected or given["collected"]
        self.outcomes = {**given["outcomes"], **self.outcomes}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        content = {"collected": self.collected, "outcomes": self.outcomes, "properties": self.properties}
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["record"] = content
        else:
            self._file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _without_group(name: str) -> str:
    """Return a test's own id, to which xdist appends ``@`` and the group that the test runs with."""
    at = name.rfind("@")
    return name[:at] if at > name.rfind("]") else name
