"""A writer of somebody else's distribution, installed as users install it and found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("pip", "hatchling", "editables"),
    pytest.mark.xdist_group("third party"),  # which is installed once
]


@pytest.fixture(scope="module")
def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the example into a folder of its own, and return the environment that finds it."""
    target = tmp_path_factory.mktemp("site")
    example = project / "examples" / "plugins" / "keepfast-sqlite"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(example)],
        check=True,
        timeout=120,
    )
    return {**os.environ, "PYTHONPATH": str(target)}


def run(environment: dict[str, str], *arguments: str, directory: Path) -> str:
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=directory, timeout=120, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_it_fulfils_the_contract(installed: dict[str, str], project: Path, tmp_path: Path) -> None:
    """The example's own tests, which inherit the contract that Keepfast ships, pass against the installed one."""
    tests = project / "examples" / "plugins" / "keepfast-sqlite" / "tests"
    printed = run(
        installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path),
        str(tests), directory=tmp_path,
    )  # fmt: skip
    assert "passed" in printed
    assert "skipped" not in printed


def test_a_run_uses_it_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    """A run that names it in `writers` keeps its metrics there, with the given option."""
    script = """
        import sqlite3, keepfast
        cfg = {"directory": "runs", "experiment_name": "run", "write_interval": 10, "checkpoint_interval": 0,
               "writers": ["jsonl", {"name": "sqlite", "file_name": "own.db"}]}
        with keepfast.Experiment(cfg, name="PPO", timesteps=30) as experiment:
            for timestep in range(30):
                experiment.track_data("Loss / Policy loss", float(timestep // 10))
                experiment.step(timestep)
        rows = sqlite3.connect("runs/run/own.db").execute("select step, tag, value from scalars order by step")
        print(rows.fetchall())
    """
    printed = run(installed, "-W", "error", "-c", textwrap.dedent(script), directory=tmp_path)
    tag = "Loss / Policy loss"
    assert printed.strip() == str([(10, tag, 0.0), (20, tag, 1.0), (30, tag, 2.0)])


def test_it_is_listed_with_its_distribution(installed: dict[str, str], tmp_path: Path) -> None:
    """The listing of plugins names its distribution, version and status."""
    script = """
        import keepfast
        for provided in keepfast.plugins.registry().provided("writer"):
            print(provided.name, provided.distribution, provided.version, provided.status)
    """
    printed = run(installed, "-c", textwrap.dedent(script), directory=tmp_path)
    assert "sqlite keepfast-sqlite 1.0.0 ready" in printed.splitlines()
