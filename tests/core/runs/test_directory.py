"""The directory of one run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.runs.directory import open_run_directory, run_directory


def test_the_default_name_is_date_time_and_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs/yy-mm-dd_HH-MM-SS-microseconds_AGENT` below the working directory; nothing is made yet."""
    monkeypatch.chdir(tmp_path)
    directory = run_directory(keepfast.ExperimentConfig(), "PPO")
    assert directory.parent == tmp_path / "runs"
    assert re.fullmatch(r"\d\d-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_PPO", directory.name)
    assert list(tmp_path.iterdir()) == []


def test_the_configured_names_are_taken(tmp_path: Path) -> None:
    """`directory` and `experiment_name` together give the path."""
    config = keepfast.ExperimentConfig(directory=tmp_path / "a", experiment_name="first")
    assert run_directory(config, "PPO") == tmp_path / "a" / "first"


def test_the_configuration_is_stored_in_it(tmp_path: Path) -> None:
    """config.json says which agent, how long, with what settings and versions; objects appear as text."""
    config: dict[str, Any] = {"experiment": {"keep_last": 3}, "space": object}
    open_run_directory(tmp_path / "run", "PPO", 1000, config)
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (document["agent"], document["timesteps"]) == ("PPO", 1000)
    assert document["config"] == {"experiment": {"keep_last": 3}, "space": "<class 'object'>"}
    assert document["versions"]["keepfast"] == keepfast.__version__


def test_a_place_that_cannot_be_written_in_is_told(tmp_path: Path) -> None:
    """The error names the directory, the cause and what to set."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        keepfast.DirectoryError, match=r"cannot use `.*run`.*: Not a directory; set `directory`"
    ) as raised:
        open_run_directory(tmp_path / "file" / "run", "PPO", None, {})
    assert isinstance(raised.value, OSError)


def test_what_is_not_finite_is_stored_in_strict_json(tmp_path: Path) -> None:
    """config.json can be read by whatever reads JSON, which has no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    open_run_directory(tmp_path / "run", "PPO", None, {"clip": float("inf"), "scale": [float("nan")]})
    document = json.loads((tmp_path / "run" / "config.json").read_text(), parse_constant=refuse)
    assert document["config"] == {"clip": "Infinity", "scale": ["NaN"]}


@pytest.mark.parametrize("config", [{("a", "b"): 1}, {"nested": {1: 2, None: 3}}], ids=str)
def test_keys_that_json_has_no_words_for_are_stored_as_text(tmp_path: Path, config: dict[Any, Any]) -> None:
    """An agent's own configuration may have any keys; they do not keep a run from starting."""
    open_run_directory(tmp_path / "run", "PPO", None, config)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]
