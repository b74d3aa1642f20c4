"""``keepfast metrics`` lists what agents track, and compares a run with it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

import keepfast
from keepfast.cli import app


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["metrics", *arguments])
    return done.exit_code, done.output


def write(directory: Path, *tags: str) -> None:
    with (directory / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "wall_time": 1.0, "scalars": dict.fromkeys(tags, 1.0)}) + "\n")


def test_the_table_is_listed() -> None:
    """Of one agent, in any case, or of all."""
    code, printed = run("cem", "--json")
    assert code == 0
    listed = json.loads(printed)["metrics"]
    assert {row["agent"] for row in listed} == {"CEM"}
    assert [tag for row in listed for tag in row["tags"]] == list(keepfast.metrics.tags("CEM"))
    assert "Mean disc. returns" in run("CEM")[1]
    assert len(json.loads(run("--json")[1])["metrics"]) == len(keepfast.metrics.catalogue) == 92


def test_a_run_is_compared_with_an_agent(tmp_path: Path) -> None:
    """With what is missing, and what is there under another name; the exit code says whether all is there."""
    tags = [tag for tag in keepfast.metrics.tags("CEM") if "disc." not in tag]
    write(tmp_path, *tags, "Coefficient / Mean discounted returns")
    code, printed = run("CEM", "--check", str(tmp_path), "--json")
    found = json.loads(printed)
    assert (code, found["missing"]) == (1, ["Coefficient / Mean disc. returns"])
    assert found["respelled"] == {"Coefficient / Mean disc. returns": "Coefficient / Mean discounted returns"}
    assert "there is" in run("CEM", "--check", str(tmp_path))[1]
    write(tmp_path, "Coefficient / Mean disc. returns")
    assert run("CEM", "--check", str(tmp_path))[0] == 0
