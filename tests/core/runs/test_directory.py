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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("n" * 300, "a part of it has 300 bytes"),
        ("a/" + "ä" * 128, "a part of it has 256 bytes"),
        ("a\0b", "it holds NUL"),
        (".", 'a part of it is "."'),
        ("a/../b", 'a part of it is ".."'),
        ("a//b", "a part of it is empty"),
        ("/a", "a part of it is empty"),
        ("a/", "a part of it is empty"),
    ],
)
def test_a_name_that_no_directory_can_have_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """The error gives the name and what is wrong with it, before anything is made."""
    with pytest.raises(keepfast.InvalidValue, match=rf"`experiment_name` is .*, which names no directory: {reason}"):
        keepfast.Experiment({"directory": tmp_path, "experiment_name": name})
    with pytest.raises(keepfast.InvalidValue, match=r"`directory` is .*, which names no directory: it holds NUL"):
        keepfast.Experiment({"directory": f"{tmp_path}/\0"})
    assert list(tmp_path.iterdir()) == []


def test_the_agent_s_name_is_part_of_the_directory_s(tmp_path: Path) -> None:
    """Where the settings name none, it is what is wrong."""
    with pytest.raises(keepfast.InvalidValue, match=r"`name` is 'nnn.*, which names no directory"):
        keepfast.Experiment({"directory": tmp_path}, name="n" * 300)


def test_directories_are_taken_at_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one stays where it was when the working directory changes, and `~` is the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with keepfast.Experiment({"experiment_name": "a", "writers": ["jsonl"]}, directory=Path("own")) as experiment:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        experiment.track_data("Loss / Loss", 1.0)
        experiment.step(0)
    assert (tmp_path / "own" / "metrics.jsonl").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    config = keepfast.ExperimentConfig(directory="~/runs", experiment_name="a")
    assert run_directory(config, "PPO") == tmp_path / "home" / "runs" / "a"
