"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from tests.both_backends.framework import Framework


class ReadmeSuite(Framework):
    """Runs the README's example of a backend."""

    heading: ClassVar[str]
    memories: ClassVar[str]
    """The extension of the memories that the example exports, with the dot."""

    def test_the_readme_runs(self, project: Path, tmp_path: Path) -> None:
        """The README's thirty lines train, checkpoint, export and load, and leave the files it lists."""
        section = (project / "README.md").read_text("utf-8").partition(f"\n### On {self.heading}\n")[2]
        printed = run(code_of(section.partition("\n### ")[0]), tmp_path)
        assert f"entries loaded from agent_200{self.extension}" in printed
        experiment = tmp_path / "runs" / f"first-{self.backend}-run"
        names = {path.name for path in (experiment / "checkpoints").iterdir()}
        periodic = (f"agent_{step}{self.extension}" for step in range(20, 201, 20))
        assert names == {"index.json", f"best_agent{self.extension}", *periodic}
        assert (experiment / "config.json").exists()
        assert (experiment / "metrics.jsonl").exists()
        assert list(experiment.glob("events.out.tfevents.*"))
        assert list((tmp_path / "memory").glob(f"*_memory_*{self.memories}"))


def code_of(text: str) -> str:
    """Return the Python blocks of a page, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def run(code: str, directory: Path) -> str:
    """Run a program in a directory and return what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout
