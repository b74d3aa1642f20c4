"""What the README and the guide show for PyTorch runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


def code_of(text: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def run(code: str, directory: Path) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_runs_on_torch(project: Path, tmp_path: Path) -> None:
    """The README's thirty lines train, checkpoint, export and load, and leave the files it lists."""
    text = (project / "README.md").read_text()
    section = text.partition("### On PyTorch")[2].partition("### On JAX")[0]
    assert "entries loaded from agent_200.pt" in run(code_of(section), tmp_path)
    experiment = tmp_path / "runs" / "first-torch-run"
    names = {path.name for path in (experiment / "checkpoints").iterdir()} - {".index.lock"}
    assert names == {
        "index.json",
        "best_agent.pt",
        *(f"agent_{step}.pt" for step in range(20, 201, 20)),
    }
    assert (experiment / "config.json").exists()
    assert (experiment / "metrics.jsonl").exists()
    assert list(experiment.glob("events.out.tfevents.*"))
    assert list((tmp_path / "memory").glob("*_memory_*.pt"))


def test_the_guide_runs_on_torch(project: Path, tmp_path: Path) -> None:
    """Every block of the guide runs, one after the other, and a second run finds that all is done."""
    code = code_of((project / "docs" / "getting-started.md").read_text())
    run(code, tmp_path)
    run(code, tmp_path)
    assert (tmp_path / "runs" / "cartpole" / "checkpoints" / "agent_100.pt").exists()
