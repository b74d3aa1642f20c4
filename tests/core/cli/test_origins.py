"""`keepfast runs`, `show`, `diff` and `tag` tell where runs come from and what they are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast

Called = tuple[int, str, str]

TAG = "Loss / Loss"


@pytest.fixture
def runs(tmp_path: Path, net: Callable[..., Any]) -> Path:
    """Return a directory of three runs, of which the last failed."""
    for number, rate in enumerate((1e-3, 3e-4, 3e-4)):
        cfg = {"directory": str(tmp_path), "experiment_name": f"run-{number}", "writers": ["jsonl"]}
        cfg |= {"checkpoint_interval": 2, "best_metric": TAG, "best_min_episodes": 0}
        try:
            with keepfast.Experiment({"experiment": cfg, "lr": rate, "seed": number}, timesteps=4) as experiment:
                experiment.register(net=net())
                for timestep in range(4):
                    experiment.track_data(TAG, float(number + timestep))
                    experiment.step(timestep)
                    if (number, timestep) == (2, 2):
                        raise ValueError("the environment broke")
        except ValueError:
            continue
    return tmp_path


def test_show_tells_where_a_run_comes_from(call: Callable[..., Called], runs: Path) -> None:
    """As text, and the same as a document."""
    code, out, err = call("show", runs / "run-2")
    assert (code, err) == (0, "")
    facts = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    assert facts["status"] == "failed: ValueError: the environment broke"
    assert {"started", "took", "command", "started in", "machine", "Python", "packages"} <= facts.keys()
    assert facts["seeds"].split(", ")[0] == "seed 2"
    digest = next(iter(keepfast_digests(runs / "run-2")))
    assert digest in out
    (start,) = json.loads(call("show", runs / "run-2", "--json")[1])["starts"]
    assert start["ended"]["error"] == "ValueError: the environment broke"
    assert start["provenance"]["packages"]["numpy"]


def keepfast_digests(run: Path) -> list[str]:
    rows = json.loads((run / "checkpoints" / "index.json").read_text())["checkpoints"]
    return [file["digest"] for row in rows for file in row["files"].values()]


def test_runs_are_found_by_how_they_ended(call: Callable[..., Called], runs: Path) -> None:
    """In a column where one did not finish, and as a condition."""
    assert "failed" in call("runs", runs)[1].splitlines()[3]
    found = json.loads(call("runs", runs, "--where", "status=failed", "--json")[1])["runs"]
    assert [(run["name"], run["status"]) for run in found] == [("run-2", "failed")]


def test_runs_are_grouped_by_a_setting(call: Callable[..., Called], runs: Path) -> None:
    """With the best of each group, and mean and deviation over its runs."""
    groups = json.loads(call("runs", runs, "--group", "lr", "--json")[1])["groups"]
    assert [(each["of"], each["count"], each["best"]) for each in groups] == [
        ({"lr": 0.001}, 1, 3),
        ({"lr": 0.0003}, 2, 4),
    ]
    assert groups[1]["mean"] == 4
    assert call("runs", runs, "--group", "lr")[1].splitlines()[2].split() == ["0.0003", "2", "4", "4", "0", "4"]
    assert call("runs", runs, "--group", "ls")[0] == 2


def test_a_run_is_named_and_tagged(call: Callable[..., Called], runs: Path) -> None:
    """It is shown so and found by both, until they are taken away."""
    assert call("tag", runs / "run-1", "good", "base", "--name", "my run") == (
        0,
        "name: my run\ntags: base, good\n",
        "",
    )
    assert "my run (run-1)" in call("runs", runs)[1]
    for condition in ("tag=good", "name=my run", "tag=BASE"):
        found = json.loads(call("runs", runs, "--where", condition, "--json")[1])["runs"]
        assert [(run["name"], run["tags"]) for run in found] == [("my run", ["base", "good"])]
    assert len(json.loads(call("runs", runs, "--where", "tag!=good", "--json")[1])["runs"]) == 2
    assert "tags: base, good" in call("show", runs / "run-1")[1]
    assert call("tag", runs / "run-1", "--remove", "good", "--name", "")[1] == "name: none\ntags: base\n"
    code, _, err = call("tag", runs / "run-1", "--remove", "good")
    assert (code, "has no tag `good`; it has: base" in err) == (2, True)
    assert call("tag", runs / "run-1", "\x1b[2J")[0] == 2


@pytest.mark.parametrize("text", ["{torn", "[]", '{"tags": 3}', '{"tags": [{"a": 1}], "name": ["x"]}', "[" * 100_000])
def test_a_label_of_any_content_is_read(call: Callable[..., Called], runs: Path, text: str) -> None:
    """A run is listed whatever its tags are said to be."""
    (runs / "run-1" / "tags.json").write_text(text)
    code, out, _ = call("runs", runs)
    assert (code, len(out.splitlines())) == (0, 4)


def test_diff_tells_how_two_runs_differ(call: Callable[..., Called], runs: Path) -> None:
    """In settings, in where they come from, and in what came out; nothing that is the same."""
    document = json.loads(call("diff", runs / "run-0", runs / "run-2", "--json")[1])
    assert document["settings"] == {"lr": [0.001, 0.0003], "seed": [0, 2]}
    assert document["provenance"]["ended.how"] == ["finished", "failed"]
    assert document["provenance"]["seeds.seed"] == [0, 2]
    assert not any(key.startswith(("packages", "machine", "python")) for key in document["provenance"])
    assert document["metrics"]["best score"] == [3, 4]
    out = call("diff", runs / "run-0", runs / "run-2")[1]
    assert ["lr", "0.001", "0.0003"] in [line.split() for line in out.splitlines()]
    assert call("diff", runs / "run-0", runs / "run-9")[0] == 1


@pytest.mark.parametrize(
    "starts",
    ["x", [1], [{"provenance": 3, "ended": "no"}], [{"provenance": {"git": [], "command": 3, "packages": "x"}}],
     [{"time": "\x1b[2J", "ended": {"how": 3, "error": [], "seconds": "x"}, "warnings": {"\x1b[2J": "y"}}]],
)  # fmt: skip
def test_starts_of_any_content_are_shown(call: Callable[..., Called], runs: Path, starts: Any) -> None:
    """Whoever wrote them, and nothing in them commands a terminal."""
    path = runs / "run-1" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "starts": starts}))
    for arguments in (("show", runs / "run-1"), ("runs", runs), ("diff", runs / "run-0", runs / "run-1")):
        code, out, err = call(*arguments)
        assert (code, err) == (0, "")
        assert "\x1b[2J" not in out
