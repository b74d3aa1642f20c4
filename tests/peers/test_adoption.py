"""What the pages on adoption show runs as it stands there: killed and started again it ends as if it had not been."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast.testing.checkpoint_store import assert_same
from tests.peers.killing import finished, killed_at_its_first_checkpoint, last_checkpoint, metrics, without_times

PAGES = {
    "stable-baselines3": ("stable_baselines3", 1),
    "sbx": ("sbx", 1),
    "rsl-rl": ("rsl_rl", 2),
    "rl-games": ("rl_games", 1),
    "rl-games, SAC": ("rl_games", 2),
    "gymnasium": ("gymnasium", 0),
    "lightning": ("lightning", 1),
}
"""By the name of a page: the library that it is about, and which of its programs is the one after the adoption."""

ON_THE_PAGE = {
    "sbx": ("stable-baselines3", "from stable_baselines3 import", "from sbx import"),
    "rl-games, SAC": ("rl-games", "import", "import"),
}
"""By the name of what has no page of its own: the page that it is on, and what is written otherwise."""

WITHOUT_BEFORE = {"rl-games, SAC", "gymnasium"}
"""What has no program of its own before the adoption: lines that name ours are counted."""

BEFORE = {
    "rsl-rl": """
import sys
sys.path.insert(0, {project!r})
from tests.peers.test_rsl_rl_attached import OnPolicyRunner, Points, configuration, keepfast, torch
torch.manual_seed(5)
env, train_cfg, device = Points(), configuration("plain"), "cpu"
""",
    "rl-games": """
import sys
sys.path.insert(0, {project!r})
from tests.peers import rl_games_agents as zoo
zoo.register()
Runner, configuration = zoo.Runner, zoo.configuration("continuous", epochs=60)
""",
    "rl-games, SAC": """
import sys
sys.path.insert(0, {project!r})
import keepfast
from tests.peers import rl_games_agents as zoo
runner = zoo.runner("SAC", epochs=60)
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


def programs(project: Path, page: str) -> list[str]:
    name, theirs, ours = ON_THE_PAGE.get(page, (page, "", ""))
    text = (project / "docs" / "adopt" / f"{name}.md").read_text("utf-8")
    before = BEFORE.get(page, "").format(project=str(project))
    found = re.findall(r"^ *```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return [before + textwrap.dedent(each).replace(theirs, ours) for each in found]


def lines_added(project: Path, page: str, number: int) -> int:
    """Return how many lines of the program after the adoption the one before has not, but for imports and the end."""
    passed_over = ("import ", "from ", "experiment.close()")
    program = programs(project, page)
    after = [line for line in program[number].splitlines() if line.strip() and not line.startswith(passed_over)]
    if page in WITHOUT_BEFORE:
        return sum("keepfast." in line or "experiment" in line for line in after)
    return sum(line not in program[number - 1].splitlines() for line in after)


UNLIKE = {"sbx": {"env"}, "rl-games": {"env"}, "rl-games, SAC": {"env"}, "gymnasium": {"env"}}
"""What of a checkpoint differs from run to run: environments have generators, of spaces too, that the machine seeds."""

MOST_LINES = 3

DISTRIBUTIONS = {"sbx": "sbx-rl", "rsl_rl": "rsl-rl-lib"}
"""By the name of a package: that of its distribution, where it is another."""


@pytest.mark.parametrize("page", PAGES)
def test_what_is_killed_and_started_again_ends_as_if_it_had_not_been(
    page: str, project: Path, tmp_path: Path, tabled: Any
) -> None:
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
    for name in through.keys() - UNLIKE.get(page, set()):
        assert_same(without_times(killed[name]), without_times(through[name]), name)
    expected, found = metrics(tmp_path / "through"), metrics(tmp_path / "killed")
    assert expected.keys() == found.keys()
    assert expected
    for tag, columns in expected.items():
        for ours, theirs in zip(found[tag], columns, strict=True):
            np.testing.assert_array_equal(ours, theirs, tag)
    lines = lines_added(project, page, number)
    assert lines <= MOST_LINES or page == "gymnasium"  # whose loop is one's own
    found = {"version": metadata.version(DISTRIBUTIONS.get(library, library)), "lines": str(lines)}
    tabled("libraries beside skrl", page, {**found, "killed and resumed": "bit for bit"})


@pytest.mark.parametrize("page", sorted(PAGES.keys() - WITHOUT_BEFORE))
def test_what_a_page_shows_before_the_adoption_runs_too(page: str, project: Path, tmp_path: Path) -> None:
    """It is what the library's own users write."""
    library, number = PAGES[page]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for program in programs(project, page)[:number]:
        finished(program, tmp_path)


def test_agents_of_skrl_are_attached_in_three_lines_too(project: Path) -> None:
    """That they go on after a kill is shown by `test_skrl_attached.py`, of each of them."""
    assert lines_added(project, "skrl", 1) <= MOST_LINES
