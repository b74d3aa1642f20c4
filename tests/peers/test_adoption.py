"""What the pages on adoption show runs as it stands there: killed and started again it ends as if it had not been."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.testing.checkpoint_store import assert_same

PAGES = {"stable-baselines3": ("stable_baselines3", 1), "rsl-rl": ("rsl_rl", 2), "lightning": ("lightning", 1)}
"""By the name of a page: the library that it is about, and which of its programs is the one after the adoption."""

BEFORE = {
    "rsl-rl": """
import sys
sys.path.insert(0, {project!r})
from tests.peers.test_rsl_rl_attached import OnPolicyRunner, Points, configuration, keepfast, torch
torch.manual_seed(5)
env, train_cfg, device = Points(), configuration("plain"), "cpu"
""",
    "lightning": """
import warnings
warnings.simplefilter("ignore")
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
seed_everything(1)
class Module(BoringModel):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        self.log("loss", loss)
        return loss
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))
module = Module()
""",
}
"""By the name of a page: what its readers have already, an environment and a configuration."""

BESIDE = ("time/", "Perf/", "performance/")
"""How tags begin whose values are the clock's."""


def programs(project: Path, page: str) -> list[str]:
    text = (project / "docs" / "adopt" / f"{page}.md").read_text("utf-8")
    before = BEFORE.get(page, "").format(project=str(project))
    return [before + each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def started(program: str, directory: Path) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=directory, env={**os.environ, "MPLBACKEND": "agg"}, **pipes
    )


def finished(program: str, directory: Path) -> None:
    process = started(program, directory)
    try:
        _, errors = process.communicate(timeout=280)
    finally:
        process.kill()  # of no consequence where it has ended
    assert process.returncode == 0, errors


def killed_at_its_first_checkpoint(program: str, directory: Path) -> None:
    process = started(program, directory)
    while not (found := list(directory.glob("runs/*/checkpoints/agent_*"))) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert found, errors
    assert process.returncode == -signal.SIGKILL, "the program had come to its end before it was killed"


def last_checkpoint(directory: Path) -> dict[str, Any]:
    paths = [path for path in directory.glob("runs/*/checkpoints/agent_*") if path.suffix != ".json"]
    return dict(keepfast.read_checkpoint(max(paths, key=lambda path: int(path.stem.rpartition("_")[2]))))


def metrics(directory: Path) -> dict[str, Any]:
    (run,) = directory.glob("runs/*")
    read = keepfast.read_metrics(run)
    return {tag: (each.steps, each.values) for tag, each in read.items() if not tag.startswith(BESIDE)}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_killed_and_started_again_ends_as_if_it_had_not_been(page: str, project: Path, tmp_path: Path) -> None:
    """SIGKILL at the first checkpoint; the last one, and all metrics, are bit for bit those of an uninterrupted run."""
    library, number = PAGES[page]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = programs(project, page)[number]
    finished(program, tmp_path / "through")
    killed_at_its_first_checkpoint(program, tmp_path / "killed")
    finished(program, tmp_path / "killed")
    through, killed = last_checkpoint(tmp_path / "through"), last_checkpoint(tmp_path / "killed")
    assert through.keys() == killed.keys()
    for name in through:
        assert_same(without_times(killed[name]), without_times(through[name]), name)
    expected, found = metrics(tmp_path / "through"), metrics(tmp_path / "killed")
    assert expected.keys() == found.keys()
    assert expected
    for tag, columns in expected.items():
        for ours, theirs in zip(found[tag], columns, strict=True):
            np.testing.assert_array_equal(ours, theirs, tag)


def without_times(node: Any) -> Any:
    """Return a tree without what the clock told: the ages of episodes, and rates of steps."""
    if isinstance(node, dict):
        if "keys" in node and "values" in node:
            kept = [(key, value) for key, value in zip(node["keys"], node["values"], strict=True) if is_no_time(key)]
            return [[key, without_times(value)] for key, value in kept]
        if "names" in node and "values" in node:
            kept = [(key, value) for key, value in zip(node["names"], node["values"], strict=True) if is_no_time(key)]
            return [[key, without_times(value)] for key, value in kept]
        return {key: without_times(value) for key, value in node.items() if is_no_time(key)}
    return [without_times(each) for each in node] if isinstance(node, list | tuple) else node


def is_no_time(key: Any) -> bool:
    return key not in ("t", "episode_times", "logger.tot_time") and not (
        isinstance(key, str) and key.startswith(BESIDE)
    )


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_before_the_adoption_runs_too(page: str, project: Path, tmp_path: Path) -> None:
    """It is what the library's own users write."""
    library, number = PAGES[page]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for program in programs(project, page)[:number]:
        finished(program, tmp_path)
