"""The example that takes a PPO of stable-baselines3 to Flax, as it stands there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3")

EXAMPLE = Path(__file__).parents[2] / "examples" / "from_elsewhere" / "sb3_ppo_into_flax.py"


@pytest.mark.filterwarnings("ignore")
def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It trains, migrates with the normaliser, and finds the same actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["example", "64"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "reader stable_baselines3" in told
    difference = re.search(r"differ by at most (\S+)", told)
    assert difference is not None
    assert float(difference[1]) < 1e-5
