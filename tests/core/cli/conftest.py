"""The command line, run in the process of the test."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import pytest

from keepfast import cli

Called = tuple[int, str, str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Return a function that runs ``keepfast`` with its arguments: the exit code, stdout and stderr."""

    def run(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["keepfast", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces for good
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run
