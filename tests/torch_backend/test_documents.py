"""What the README and the guide show for PyTorch runs as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.both_backends.documents import ReadmeSuite, code_of, run
from tests.torch_backend.framework import Torch


class TestReadme(Torch, ReadmeSuite):
    heading = "PyTorch"
    memories = ".pt"


def test_the_guide_runs_on_torch(project: Path, tmp_path: Path) -> None:
    """Every block of the guide runs, one after the other, and a second run finds that all is done."""
    code = code_of((project / "docs" / "getting-started.md").read_text("utf-8"))
    run(code, tmp_path)
    run(code, tmp_path)
    assert (tmp_path / "runs" / "cartpole" / "checkpoints" / "agent_100.pt").exists()


def test_the_page_on_episodes_runs(project: Path, tmp_path: Path) -> None:
    """Every block of the page runs, one after the other, without a warning."""
    pytest.importorskip("gymnasium")
    code = code_of((project / "docs" / "episodes.md").read_text("utf-8"))
    assert code.count("assert ") == 7
    run("import warnings\nwarnings.simplefilter('error')\n" + code, tmp_path)
