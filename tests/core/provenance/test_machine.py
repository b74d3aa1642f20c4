"""The machine and what is installed on it."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from keepfast.provenance.machine import call, machine, packages, python


def test_every_installed_package_is_listed_with_its_version() -> None:
    """As the interpreter's own metadata tell, which are a hundred times as slow to read."""
    told = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version
        for each in reversed(list(metadata.distributions()))
        if str(getattr(each, "_path", "")).endswith(".dist-info")
    }
    assert told.items() <= packages().items()


def test_what_runs_is_told() -> None:
    """Python, the machine, and how the process was called."""
    assert python()["version"].endswith(sys.version.split()[0])
    assert {"host", "system", "cpu", "cores"} <= machine().keys()
    assert call()["directory"] == str(Path.cwd())
    assert len(call()["command"]) == min(len(sys.orig_argv), 200)


def test_a_working_directory_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start there is possible all the same."""
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert call()["directory"] is None
    monkeypatch.chdir(tmp_path)
