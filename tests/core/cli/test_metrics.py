"""`keepfast metrics`: what a run tracked, for other programs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import keepfast

Called = tuple[int, str, str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 5}
    with keepfast.Experiment(cfg, timesteps=10) as experiment:
        for timestep in range(10):
            experiment.track_data("Loss, policy", float(timestep))
            experiment.track_data("lr", 0.1)
            experiment.step(timestep)
    return experiment.directory


def test_every_value_is_printed_in_each_form(call: Callable[..., Called], run: Path) -> None:
    """As csv with a row for each, and as one JSON document, of all tags or some."""
    code, out, err = call("metrics", run)
    assert (code, err) == (0, "")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["step", "wall_time", "tag", "value"]
    assert [(row[0], row[2], row[3]) for row in rows[1:]] == [
        ("5", "Loss, policy", "2.0"),
        ("5", "lr", "0.1"),
        ("10", "Loss, policy", "7.0"),
        ("10", "lr", "0.1"),
    ]
    for form in (["--format", "json"], ["--json"]):
        found = json.loads(call("metrics", run, "--tag", "lr", *form)[1])
        assert found["kind"] == "series"
        assert found["tags"].keys() == {"lr"}
        assert found["tags"]["lr"]["steps"] == [5, 10]
        assert found["tags"]["lr"]["values"] == [0.1, 0.1]


@pytest.mark.needs("pyarrow")
def test_parquet_goes_into_a_file(call: Callable[..., Called], run: Path, tmp_path: Path) -> None:
    """Which is replaced with --force alone."""
    from pyarrow import parquet

    target = tmp_path / "metrics.parquet"
    assert call("metrics", run, "--format", "parquet", "--output", target)[0] == 0
    assert parquet.read_table(target).to_pydict()["value"] == [2.0, 0.1, 7.0, 0.1]
    code, _, err = call("metrics", run, "--output", target)
    assert code == 2
    assert "is there already; --force replaces it" in err
    assert call("metrics", run, "--output", target, "--force")[0] == 0
    assert target.read_text().startswith("step,wall_time,tag,value\n")


def test_a_tag_that_is_not_there_is_answered_with_the_nearest(call: Callable[..., Called], run: Path) -> None:
    """And nothing is printed."""
    code, out, err = call("metrics", run, "--tag", "Loss policy")
    assert (code, out) == (2, "")
    assert "Did you mean `Loss, policy`?" in err


def test_what_an_agent_tracks_is_printed(call: Callable[..., Called]) -> None:
    """Of one agent, in any case, or of all; as csv, JSON or a table for a page."""
    code, out, _ = call("metrics", "ppo")
    assert code == 0
    assert out.splitlines()[0] == "tag,tracked"
    assert "Loss / Entropy loss,when enabled" in out.splitlines()
    assert "SARSA,Reward / Total reward (mean),always" in call("metrics")[1].splitlines()
    listed = json.loads(call("metrics", "SAC", "--json")[1])["agents"]["SAC"]
    assert "Coefficient / Entropy coefficient" in listed["always"]
    assert call("metrics", "--format", "markdown")[1].startswith("| Metric | A2C |")


def test_a_run_is_checked_against_an_agent(call: Callable[..., Called], run: Path) -> None:
    """It exits with 1 where a tag is missing, with 0 where none is; each way it tells all differences."""
    code, out, _ = call("metrics", "--check", run, "Q-learning")
    assert code == 1
    assert "missing: Reward / Total reward (mean)" in out.splitlines()
    assert "not in the table: lr" in out.splitlines()
    tags = keepfast.metrics.tags("Q-learning")
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "wall_time": 1.0, "scalars": dict.fromkeys(tags, 1.0)}))
    code, out, _ = call("metrics", "--check", run, "q-learning", "--json")
    assert code == 0
    assert json.loads(out)["missing"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["PP0"], 1, "there is no run at `PP0`, and no agent of that name.*Did you mean `PPO`"),
        (["PPO", "--format", "parquet"], 2, "is printed as csv, json or markdown"),
        (["--check", "."], 2, "--check compares with an agent; give one: A2C"),
        ([".", "--format", "markdown"], 2, "markdown is for what agents track"),
    ],
)
def test_what_cannot_be_printed_is_told(
    call: Callable[..., Called], arguments: list[str], code: int, told: str
) -> None:
    """With what is meant, or allowed."""
    found = call("metrics", *arguments)
    assert found[0] == code
    assert re.search(told, found[2].replace("\n", " "))
