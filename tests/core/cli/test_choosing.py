"""`keepfast runs --where ... --sort ...`: which runs are listed, in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import keepfast

Called = tuple[int, str, str]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a directory with three runs of different settings and losses."""
    for name, rate, loss, agent in (("one", 3e-4, 2.0, "PPO"), ("two", 1e-3, 10.0, "PPO"), ("ten", 0.0003, 9.0, "DQN")):
        experiment = {"directory": str(tmp_path), "experiment_name": name, "writers": ["jsonl"]}
        cfg = {
            "experiment": {**experiment, "best_metric": "loss", "best_mode": "min"},
            "lr": rate,
            "net": {"act": "ELU"},
        }
        with keepfast.Experiment(cfg, name=agent, timesteps=10) as made:
            made.log({"loss": loss}, step=5 if name == "ten" else 10)
    return tmp_path


def listed(call: Callable[..., Called], runs: Path, *options: str) -> list[str]:
    code, out, err = call("runs", runs, "--json", *options)
    assert (code, err) == (0, "")
    return [run["name"] for run in json.loads(out)["runs"]]


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["lr=3e-4"], {"one", "ten"}),
        (["lr!=3e-4"], {"two"}),
        (["lr>0.0005"], {"two"}),
        (["loss<=9"], {"one", "ten"}),
        (["best<3"], {"one"}),
        (["agent=ppo"], {"one", "two"}),
        (["net.act=ELU", "steps>=10"], {"one", "two"}),
        (["best_mode=min", "name=ten"], {"ten"}),
        (["experiment.best_mode = max"], set()),
    ],
)
def test_conditions_choose_runs(
    call: Callable[..., Called], runs: Path, conditions: list[str], names: set[str]
) -> None:
    """By settings, own facts and latest values; numbers count as numbers, however they are spelled."""
    options = [option for condition in conditions for option in ("--where", condition)]
    assert set(listed(call, runs, *options)) == names


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["best"], ["one", "ten", "two"]),
        (["best", "--reverse"], ["two", "ten", "one"]),
        (["loss"], ["one", "ten", "two"]),
        (["name"], ["one", "ten", "two"]),
        (["agent"], ["ten", "one", "two"]),
    ],
)
def test_runs_are_sorted(call: Callable[..., Called], runs: Path, options: list[str], names: list[str]) -> None:
    """The best first, as its mode has it, and else from the lowest; those without it come last."""
    (runs / "void").mkdir()
    (runs / "void" / "config.json").write_text('{"agent": "Z", "timesteps": null, "config": {}}')
    assert listed(call, runs, "--sort", *options) == [*names, "void"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--where", "lr"], "is no condition"),
        (["--where", "lrr=1"], "Did you mean `lr`?"),
        (["--sort", "bset"], "`best`?"),
    ],
)
def test_what_no_run_has_is_told(call: Callable[..., Called], runs: Path, options: list[str], said: str) -> None:
    """With the nearest of what there is."""
    code, out, err = call("runs", runs, *options)
    assert (code, out) == (2, "")
    assert said in err
