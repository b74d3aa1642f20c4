"""The directory of one run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast
from keepfast.runs.directory import ConfigFile, run_directory


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
    ConfigFile(tmp_path / "run").store("PPO", 1000, config)
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
        ConfigFile(tmp_path / "file" / "run").store("PPO", None, {})
    assert isinstance(raised.value, OSError)


def test_what_is_not_finite_is_stored_in_strict_json(tmp_path: Path) -> None:
    """config.json can be read by whatever reads JSON, which has no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    ConfigFile(tmp_path / "run").store("PPO", None, {"clip": float("inf"), "scale": [float("nan")]})
    document = json.loads((tmp_path / "run" / "config.json").read_text(), parse_constant=refuse)
    assert document["config"] == {"clip": "Infinity", "scale": ["NaN"]}


@pytest.mark.parametrize("config", [{("a", "b"): 1}, {"nested": {1: 2, None: 3}}], ids=str)
def test_keys_that_json_has_no_words_for_are_stored_as_text(tmp_path: Path, config: dict[Any, Any]) -> None:
    """An agent's own configuration may have any keys; they do not keep a run from starting."""
    ConfigFile(tmp_path / "run").store("PPO", None, config)
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


def start(directory: Path, **config: Any) -> dict[str, Any]:
    """Start a run in a directory, and return what its config.json says."""
    ConfigFile(directory).store("PPO", 10, config)
    return dict(json.loads((directory / "config.json").read_text()))


def test_each_start_is_kept_with_what_it_changed(tmp_path: Path) -> None:
    """The configuration is the latest start's; those before are listed, the first one first, and what changed."""
    start(tmp_path, lr=1, net={"layers": [64], "bias": True})
    start(tmp_path, lr=1, net={"layers": [64], "bias": True})
    stored = start(tmp_path, lr=2, net={"layers": [64, 64], "bias": True}, seed=3)
    assert stored["config"]["lr"] == 2
    first, second, third = stored["starts"]
    assert first["config"] == {"lr": 1, "net": {"layers": [64], "bias": True}}
    assert "config" not in second
    assert third["config"] == stored["config"]
    assert third["changed"] == {"lr": [1, 2], "net.layers": [[64], [64, 64]], "seed": [None, 3]}
    assert all(each["versions"]["keepfast"] == keepfast.__version__ for each in stored["starts"])


def test_what_an_agent_tells_later_is_the_same_start(tmp_path: Path) -> None:
    """A configuration that is stored again by the same run is none of another start."""
    file = ConfigFile(tmp_path)
    for rate in (1, 2):
        file.store("PPO", 10, {"lr": rate})
    (only,) = json.loads((tmp_path / "config.json").read_text())["starts"]
    assert only["config"] == {"lr": 2}


@pytest.mark.parametrize("text", ["{torn", "[]", '{"config": 1}', '{"config": {}, "starts": [1]}'])
def test_a_configuration_that_is_not_ours_keeps_no_run_from_starting(tmp_path: Path, text: str) -> None:
    """It is replaced, as before."""
    (tmp_path / "config.json").write_text(text)
    assert len(start(tmp_path, lr=1)["starts"]) == 1


def test_a_start_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    """Its file told one configuration, which is the first start's."""
    (tmp_path / "config.json").write_text('{"agent": "PPO", "timesteps": 5, "config": {"lr": 1}}')
    first, second = start(tmp_path, lr=2)["starts"]
    assert (first["timesteps"], first["config"]) == (5, {"lr": 1})
    assert second["changed"] == {"lr": [1, 2]}


SECRETS = ["api_key", "API_KEY", "apikey", "wandb_api_key", "wandbApiKey", "hf_token", "HF-TOKEN", "password", "secret"]
SECRETS += ["aws_secret_access_key", "private_key", "secretKey", "client_secret", "Authorization", "credentials"]


@pytest.mark.parametrize("key", SECRETS)
def test_secrets_are_masked(tmp_path: Path, key: str) -> None:
    """At any depth, in the file and in what writers get; the configuration itself stays as it is."""
    config = {"login": [{"deep": {key: "hunter2"}}], key: "hunter2", "experiment": {"writers": ["jsonl"]}}
    with keepfast.Experiment(config, directory=tmp_path) as experiment:
        told = experiment._recorder.agent_config
    text = (tmp_path / "config.json").read_text()
    assert "hunter2" not in text
    assert json.loads(text)["config"]["login"] == [{"deep": {key: "***"}}]
    assert told["login"] == [{"deep": {key: "***"}}]
    assert config["login"] == [{"deep": {key: "hunter2"}}]


@pytest.mark.parametrize(("key", "value"), [("max_tokens", 5), ("use_token", True), ("token", None), ("keys", "a")])
def test_what_is_no_secret_is_told(tmp_path: Path, key: str, value: Any) -> None:
    """A number of tokens, a switch and nothing are not masked."""
    assert start(tmp_path, **{key: value})["config"] == {key: value}


def test_secrets_reach_the_writer_they_are_for(tmp_path: Path) -> None:
    """Options of a writer are given to it as they are, and masked in the file."""
    given: list[Any] = []

    @keepfast.hookimpl
    def keepfast_writers() -> dict[str, Any]:
        return {"noting": lambda context, api_key: given.append((context.config, api_key)) or _Silent()}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "noting-writer")
    try:
        cfg = {"writers": [{"name": "noting", "api_key": "hunter2"}]}
        with keepfast.Experiment(cfg, directory=tmp_path) as experiment:
            assert experiment.writer.writers.keys() == {"noting"}
    finally:
        keepfast.plugins.registry().unregister(plugin)
    ((told, key),) = given
    assert key == "hunter2"
    assert "hunter2" not in f"{told}{(tmp_path / 'config.json').read_text()}"


class _Silent(keepfast.Writer):
    """A writer that keeps nothing."""

    def write_scalars(self, scalars: Any, step: int, wall_time: float) -> None:
        """Keep nothing."""


@pytest.mark.parametrize("level", ["experiment", "net"])
def test_a_configuration_that_contains_itself_is_told_by_its_key(tmp_path: Path, level: str) -> None:
    """The error names the path of the key, and nothing is made."""
    kwargs: dict[str, Any] = {}
    kwargs["again"] = [kwargs]
    cfg = {level: {"wandb_kwargs": kwargs}}
    with pytest.raises(keepfast.ConfigError, match=rf"`{level}.wandb_kwargs.again.0` is `{level}.wandb_kwargs`"):
        keepfast.Experiment(cfg, directory=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_one_value_in_two_places_is_no_circle(tmp_path: Path) -> None:
    """What is shared is written twice."""
    shared = {"layers": [64]}
    assert start(tmp_path, actor=shared, critic=shared)["config"] == {"actor": shared, "critic": shared}


def test_the_mode_of_the_configuration_is_kept(tmp_path: Path) -> None:
    """`chmod 600 config.json` survives the next start."""
    start(tmp_path, lr=1)
    (tmp_path / "config.json").chmod(0o600)
    start(tmp_path, lr=2)
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
