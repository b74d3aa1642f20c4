"""What the README shows for JAX runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")


def test_the_readme_runs_on_jax(project: Path, tmp_path: Path) -> None:
    """The README's thirty lines train, checkpoint, export and load, and leave the files it lists."""
    text = (project / "README.md").read_text()
    section = text.partition("### On JAX")[2].partition("### What lies on disk")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "entries loaded from agent_200.safetensors" in done.stdout
    experiment = tmp_path / "runs" / "first-jax-run"
    names = {path.name for path in (experiment / "checkpoints").iterdir()}
    periodic = (f"agent_{step}.safetensors" for step in range(20, 201, 20))
    assert names - {".index.lock"} == {"index.json", "best_agent.safetensors", *periodic}
    assert list(experiment.glob("events.out.tfevents.*"))
    assert list((tmp_path / "memory").glob("*_memory_*.npz"))
