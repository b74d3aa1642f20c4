"""What the pages about metrics and writers show runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


def run(*arguments: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_on_metrics_runs(project: Path, tmp_path: Path) -> None:
    """Every block of the page runs, one after the other."""
    printed = run("-W", "error", "-c", "\n".join(blocks(project / "docs" / "metrics.md")), directory=tmp_path)
    assert "a run 0.01" in printed
    assert "Reward / Total reward (mean)" in printed


@pytest.mark.slow
def test_the_writer_of_the_tutorial_is_complete(project: Path, tmp_path: Path) -> None:
    """The tutorial's writer passes the tutorial's tests, and serves a run that names it."""
    writer, hook, cfg, tests = blocks(project / "docs" / "your-writer.md")
    (tmp_path / "my_writer.py").write_text(writer + hook, "utf-8")
    (tmp_path / "test_my_writer.py").write_text(tests, "utf-8")
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_writer.py", directory=tmp_path)
    assert re.search(r"\d+ passed", printed)
    script = f"""
import keepfast, my_writer
keepfast.plugins.registry().register(my_writer, "my writer")
{cfg}
cfg["experiment"]["experiment_name"] = "run"
with keepfast.Experiment(cfg, timesteps=10) as experiment:
    for timestep in range(10):
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)
"""
    run("-W", "error", "-c", script, directory=tmp_path)
    lines = (tmp_path / "runs" / "run" / "values.txt").read_text().splitlines()
    assert lines == [f"{step + 1}\t{float(step)}\ta" for step in range(10)]
