"""The report, in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast.report.writing import write_report
from tests.pages.browser import look, needs_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report on six runs with long names."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for seed in range(3):
        for lr in (0.1, 0.01):
            (run := root / "runs" / f"a-run-of-quite-a-long-name-{lr}-{seed}").mkdir(parents=True)
            config = {"lr": lr, "seed": seed, "experiment": {}, "a.setting.of.a.very.long.name" * 3: "value" * 40}
            (run / "config.json").write_text(json.dumps({"agent": "PPO", "timesteps": 100, "config": config}))
            tags = ("Loss / Policy loss", "Loss / Value loss", "Reward / Total reward (mean)")
            rows = (
                {"step": step, "wall_time": 1.0, "scalars": {tag: step * lr + rng.normal() for tag in tags}}
                for step in range(1, 101)
            )
            (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def fail(path: Path, error: Exception) -> Any:
        raise AssertionError(f"{path}: {error}")

    return write_report([root / "runs"], root / "report.html", fail)[0]


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_a_report_fits_its_window(report: Path, width: int) -> None:
    """On a phone and on a screen: nothing hangs over, each chart is drawn and can be read, and nothing is loaded."""
    found = look(report, width)
    assert found["width"] == width
    assert found["needed"] <= found["width"]
    assert (found["pictures"], found["of"]) == (3, 3)
    assert found["smallest"] >= 8
    assert found["loaded"] == []
    assert found["text"] > 1000


def brightness(color: str) -> float:
    return float(np.mean([int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(", ")]))


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_is_light_or_dark_as_its_reader_wants(report: Path, dark: bool) -> None:
    """Ground and ink stand out from each other either way."""
    found = look(report, 1000, dark=dark)
    assert (brightness(found["ground"]) < 60) == dark
    assert (brightness(found["ink"]) > 200) == dark
