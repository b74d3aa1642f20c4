"""`keepfast plugins`: what it lists of which plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast
from keepfast.cli.plugins import rows
from keepfast.plugins import PluginRegistry, lazy
from keepfast.plugins.hookspecs import hookimpl

Row = tuple[str, str, str, str, str]


def listed(extra_path: Path | None = None) -> list[list[str]]:
    """Run the command in a process of its own and return its rows, each cut at two or more spaces."""
    environment = {**os.environ, "PYTHONPATH": str(extra_path or "")}
    finished = subprocess.run(
        [sys.executable, "-m", "keepfast.cli", "plugins"], capture_output=True, text=True, env=environment, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in finished.stdout.splitlines()]


def writers(**table: Callable[..., Any]) -> SimpleNamespace:
    @hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return table

    return SimpleNamespace(keepfast_writers=keepfast_writers)


def install(site: Path, name: str, entry_point: str) -> None:
    """Lay down what pip would of a distribution with one plugin."""
    information = site / f"{name}-1.2.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    (information / "entry_points.txt").write_text(f"[keepfast]\n{entry_point}\n")


@pytest.mark.runs_in("core", "all")
def test_built_in_plugins_are_listed_with_kind_distribution_and_version():
    """Backends, writers and formats stand in the table, one line each, whether or not their packages are installed."""
    table = listed()
    assert table[0] == ["name", "kind", "distribution", "version", "status"]
    found = {(row[0], row[1]): row[2:4] for row in table[1:]}
    for expected in (("torch", "backend"), ("jax", "backend"), ("tensorboard", "writer"), ("jsonl", "writer")):
        assert found[expected] == ["keepfast", keepfast.__version__]
    assert ("safetensors", "checkpoint format") in found
    assert ("csv", "memory format") in found


def test_what_is_missing_is_told_with_the_command_that_installs_it():
    """A plugin whose packages are absent is listed as such, the command whole."""
    known = PluginRegistry()
    known.register(writers(here=lazy("json:loads"), away=lazy("x:Y", requires=("no_such_thing",), extra="all")), "mine")
    status = {row[0]: row[4] for row in rows(known)}
    assert status["here"] == "ready"
    assert status["away"] == 'needs `no_such_thing`, which is not installed; run: pip install "keepfast[all]"'


def test_a_name_claimed_twice_is_shown_as_a_conflict():
    """Both rows say that the name is taken twice; other rows are not touched."""
    known = PluginRegistry()
    known.register(writers(same=lazy("json:loads"), fine=lazy("json:loads")), "first")
    known.register(writers(same=lazy("json:loads")), "second")
    found: list[Row] = list(rows(known))
    assert [(row[2], row[4]) for row in found if row[0] == "same"] == [
        ("first", "conflict: 2 plugins claim this name; uninstall all but one"),
        ("second", "conflict: 2 plugins claim this name; uninstall all but one"),
    ]
    assert [row[4] for row in found if row[0] == "fine"] == ["ready"]


def test_installed_plugins_are_listed_and_broken_ones_with_their_cause(tmp_path: Path):
    """A third party's writer stands beside the built-in ones; a plugin that cannot be imported harms no other."""
    modules = {
        "lost": "raise ImportError('its\\nlibrary is gone')",
        "wrong": "1 / 0",
        "good": "import keepfast\n@keepfast.hookimpl\ndef keepfast_writers():\n    return {'mine': dict}\n",
    }
    for name, module in modules.items():
        (tmp_path / f"{name}_plugin.py").write_text(module)
        install(tmp_path, f"{name}-dist", f"{name} = {name}_plugin")
    table = listed(tmp_path)
    assert ["lost", "plugin", "lost-dist", "1.2.3", "broken: ImportError: its library is gone"] in table
    assert ["wrong", "plugin", "wrong-dist", "1.2.3", "broken: ZeroDivisionError: division by zero"] in table
    assert ["mine", "writer", "good-dist", "1.2.3", "ready"] in table
    assert len(table) == len(listed()) + len(modules)
