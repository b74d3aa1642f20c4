"""What users write under "experiment", and what they are told when it is wrong."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pydantic
import pytest
from pydantic import BaseModel

import keepfast
from keepfast import ExperimentConfig
from keepfast.config import agent_settings, masked

SETTINGS = {
    "directory": "runs",
    "experiment_name": "first",
    "write_interval": 100,
    "checkpoint_interval": "auto",
    "store_separately": True,
    "wandb": False,
    "wandb_kwargs": {"project": "x", "tags": ["a"]},
    "backend": "torch",
    "writers": ["tensorboard", {"name": "jsonl", "indent": 2}],
    "checkpoint_format": "safetensors",
    "keep_last": 3,
    "keep_every": 1000,
    "keep_best": 2,
    "best_metric": "Loss / x",
    "best_mode": "min",
    "best_min_episodes": 5,
    "memory_checkpoint_interval": 500,
    "memory_checkpoints": "whole",
    "async_checkpoints": False,
    "on_writer_error": "raise",
    "distributed": {"rank": 0, "world_size": 2},
    "distributed_metrics": "mean",
    "distributed_memories": "each",
    "distributed_seconds": 60.0,
    "autoreset": "same_step",
    "running_episodes": "continue",
    "seeds": "both",
    "checkpoint_seconds": 60.0,
    "provenance": False,
    "system_metrics": True,
    "artifacts": "all",
    "upload_interval": 10.0,
    "upload_patience": 0.0,
}


def test_the_defaults_are_those_of_the_documentation() -> None:
    """Without any setting, every documented key has its documented value."""
    assert ExperimentConfig().model_dump() == {
        "directory": "",
        "experiment_name": "",
        "write_interval": "auto",
        "checkpoint_interval": "auto",
        "store_separately": False,
        "wandb": False,
        "wandb_kwargs": {},
        "backend": "auto",
        "writers": ["tensorboard"],
        "checkpoint_format": "auto",
        "keep_last": None,
        "keep_every": None,
        "keep_best": 1,
        "best_metric": "Reward / Total reward (mean)",
        "best_mode": "max",
        "best_min_episodes": 0,
        "memory_checkpoint_interval": "auto",
        "memory_checkpoints": "log",
        "async_checkpoints": True,
        "on_writer_error": "warn",
        "distributed": "auto",
        "distributed_metrics": "first",
        "distributed_memories": "first",
        "distributed_seconds": 600.0,
        "autoreset": "auto",
        "running_episodes": "restart",
        "seeds": "mean",
        "upload_interval": 60.0,
        "upload_patience": 300.0,
        "checkpoint_seconds": None,
        "provenance": True,
        "system_metrics": False,
        "artifacts": "best",
    }


@pytest.mark.parametrize("level", [True, False], ids=["with the level", "without it"])
@pytest.mark.parametrize("form", ["dict", "keywords", "proxy", "toml", "yaml", "yml", "json", "string path"])
def test_every_form_means_the_same(tmp_path: Path, form: str, level: bool) -> None:
    """A mapping, keyword arguments and files of each kind give equal configurations, with and without the level."""
    nested: dict[str, Any] = {"experiment": SETTINGS} if level else SETTINGS
    config: ExperimentConfig
    if form == "dict":
        config = ExperimentConfig(nested)
    elif form == "keywords":
        config = ExperimentConfig(**SETTINGS)
    elif form == "proxy":
        config = ExperimentConfig(MappingProxyType(OrderedDict(nested)))
    else:
        path = written(tmp_path, "json" if form == "string path" else form, nested)
        config = ExperimentConfig(str(path) if form == "string path" else path)
    assert config.model_dump() == SETTINGS
    assert ExperimentConfig.of(config) is config


def written(directory: Path, suffix: str, content: dict[str, Any]) -> Path:
    path = directory / f"config.{suffix}"
    if suffix == "toml":
        level = content.get("experiment")
        path.write_text(("[experiment]\n" if level else "") + toml(level or content))
    else:
        path.write_text(json.dumps(content))  # JSON is YAML too
    return path


def toml(settings: dict[str, Any]) -> str:
    def value(given: Any) -> str:
        if isinstance(given, dict):
            return "{" + ", ".join(f"{key} = {value(item)}" for key, item in given.items()) + "}"
        if isinstance(given, list):
            return "[" + ", ".join(map(value, given)) + "]"
        return json.dumps(given)

    return "\n".join(f"{key} = {value(given)}" for key, given in settings.items())


@dataclasses.dataclass
class Writer:
    name: str = "jsonl"
    indent: int = 2


@dataclasses.dataclass
class Settings:
    """What a user of tyro has under "experiment"."""

    write_interval: int = 100
    keep_last: float = 3.0
    writers: list[Any] = dataclasses.field(default_factory=lambda: ["tensorboard", Writer()])
    wandb_kwargs: Any = dataclasses.field(default_factory=lambda: {"tags": ["a"]})


@dataclasses.dataclass
class Configuration:
    lr: float = 0.001
    experiment: Settings = dataclasses.field(default_factory=Settings)


class Model(BaseModel):
    write_interval: int = 100
    keep_last: int = 3
    writers: list[Any] = pydantic.Field(default_factory=lambda: ["tensorboard", Writer()])
    wandb_kwargs: Any = pydantic.Field(default_factory=lambda: argparse.Namespace(tags=["a"]))


class Mode(enum.Enum):
    LESS = "min"


NESTED = {
    "write_interval": 100,
    "keep_last": 3,
    "writers": ["tensorboard", {"name": "jsonl", "indent": 2}],
    "wandb_kwargs": {"tags": ["a"]},
}
FORMS: dict[str, Callable[[], Any]] = {
    "a dataclass": Settings,
    "a dataclass within another": Configuration,
    "a Namespace": lambda: argparse.Namespace(**vars(Settings())),
    "a Namespace within another": lambda: SimpleNamespace(lr=0.001, experiment=SimpleNamespace(**vars(Settings()))),
    "a model of pydantic": Model,
    "a model within a mapping": lambda: {"lr": 0.001, "experiment": Model()},
    "numbers of NumPy": lambda: {**NESTED, "write_interval": np.int64(100), "keep_last": np.array(3)},
    "floats that are whole": lambda: {**NESTED, "write_interval": 1e2, "keep_last": np.float32(3)},
}


@pytest.mark.parametrize("form", FORMS)
def test_configurations_of_other_libraries_mean_the_same(form: str) -> None:
    """Objects, at the top and at every depth, are taken for the mappings and lists that they stand for."""
    config, whole = agent_settings(FORMS[form]())
    expected = ExperimentConfig(NESTED)
    assert config == expected
    assert ExperimentConfig(FORMS[form]()) == expected
    assert whole["experiment"] == expected.model_dump()
    assert json.loads(json.dumps(whole["experiment"])) == expected.model_dump()


@pytest.mark.needs("omegaconf")
def test_a_configuration_of_omegaconf_means_the_same() -> None:
    """With references resolved, made of a mapping, of a dataclass, or lying within a mapping."""
    from omegaconf import OmegaConf

    made = OmegaConf.create(
        {
            "interval": 100,
            "experiment": {
                **NESTED,
                "write_interval": "${interval}",
                "wandb_kwargs": {"tags": ["a"], "group": "${experiment.writers.1}"},
            },
        }
    )
    other = {**NESTED, "wandb_kwargs": {"tags": ["a"], "group": {"name": "jsonl", "indent": 2}}}
    assert ExperimentConfig(made) == ExperimentConfig(other)
    assert ExperimentConfig(OmegaConf.structured(Settings)) == ExperimentConfig(NESTED)
    config, whole = agent_settings({"experiment": OmegaConf.create(NESTED), "optim": OmegaConf.create({"lr": [1]})})
    assert config == ExperimentConfig(NESTED)
    assert whole["optim"].lr == [1]  # what is the agent's own stays what it is
    assert masked(whole)["optim"] == {"lr": [1]}
    assert type(config.wandb_kwargs["tags"]) is list
    assert type(ExperimentConfig(made).wandb_kwargs["group"]) is dict


@pytest.mark.needs("omegaconf")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"experiment": {"write_interval": "???"}}, "no value is given yet for `experiment.write_interval`: `???`"),
        ({"write_interval": "???", "wandb_kwargs": {"a": "???"}}, "for `wandb_kwargs.a`, `write_interval`: `???`"),
        ({"lr": {"start": "???"}, "experiment": {}}, "no value is given yet for `lr.start`: `???` stands there"),
        ({"experiment": {"write_interval": "${none}"}}, "`experiment.write_interval` cannot be resolved: .*'none'"),
    ],
)
def test_a_value_that_omegaconf_has_not_is_named(given: Any, told: str) -> None:
    """A missing value, and a reference to nothing, are told by their keys."""
    from omegaconf import OmegaConf

    with pytest.raises(keepfast.ConfigError, match=re.escape(told).replace(r"\.\*", ".*")):
        agent_settings(OmegaConf.create(given))


def test_objects_among_the_arguments_of_writers_stay_what_they_are() -> None:
    """They are for libraries that have classes of their own, as `wandb.Settings` is."""
    settings = Writer()
    config = ExperimentConfig({"wandb_kwargs": {"settings": settings}, "writers": [{"name": "x", "options": settings}]})
    assert config.wandb_kwargs["settings"] is settings
    assert config.writer_table() == [("x", {"options": settings})]


def test_a_missing_value_is_named_in_any_form() -> None:
    """A file of OmegaConf's that was read by another library has them too."""
    with pytest.raises(keepfast.ConfigError, match=r"for `keep_last`, `wandb_kwargs.project`: `\?\?\?` stands there"):
        ExperimentConfig({"keep_last": "???", "wandb_kwargs": {"project": "???"}})


def test_a_member_of_an_enumeration_is_its_value() -> None:
    """As structured configurations have them."""
    assert ExperimentConfig(best_mode=Mode.LESS).best_mode == "min"


def test_a_number_with_an_exponent_is_one_in_yaml_too(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e3 as text; a text that only begins so stays one."""
    path = tmp_path / "config.yaml"
    path.write_text("write_interval: 1e3\nexperiment_name: 1e3x\nkeep_last: 2.0")
    config = ExperimentConfig(path)
    assert (config.write_interval, config.experiment_name, config.keep_last) == (1000, "1e3x", 2)


@pytest.mark.parametrize("cfg", [object(), 5, [1], Settings, len])
def test_what_is_no_configuration_is_told(cfg: Any) -> None:
    """The error lists what may be given."""
    with pytest.raises(
        keepfast.ConfigError, match="allowed: a mapping or a path, or a dataclass, a Namespace, a model"
    ):
        ExperimentConfig(cfg)


def test_keywords_win_over_the_source() -> None:
    """A single setting beside a mapping replaces its own key alone."""
    config = ExperimentConfig({"experiment": {"keep_last": 3, "keep_best": 2}}, keep_last=5)
    assert (config.keep_last, config.keep_best) == (5, 2)


def test_an_agents_own_keys_beside_the_level_are_no_business_of_the_experiment() -> None:
    """With the level present, other keys belong to the agent."""
    config, whole = agent_settings({"learning_rate": 1e-3, "experiment": {"keep_last": 3}})
    assert config.keep_last == 3
    assert whole["learning_rate"] == 1e-3
    assert whole["experiment"] == config.model_dump()


def test_an_agents_configuration_without_the_level_is_all_its_own() -> None:
    """A configuration that has none of the experiment's keys leaves the experiment at its defaults."""
    config, whole = agent_settings({"learning_rate": 1e-3})
    assert config == ExperimentConfig()
    assert whole == {"learning_rate": 1e-3, "experiment": config.model_dump()}


def test_mixing_both_on_one_level_is_an_error() -> None:
    """The error says which keys belong below."""
    with pytest.raises(keepfast.ConfigError, match=r'`keep_best`, `keep_last` belong under "experiment"'):
        agent_settings({"learning_rate": 1e-3, "keep_last": 3, "keep_best": 1})


def test_a_path_is_a_directory_too() -> None:
    """`directory` takes a pathlib.Path."""
    assert ExperimentConfig(directory=Path("a") / "b").directory == str(Path("a") / "b")


def test_a_configuration_may_be_the_level_itself() -> None:
    """It keeps to what was set, so that a default stays one."""
    config = ExperimentConfig({"experiment": ExperimentConfig(keep_last=3), "lr": 1})
    assert config.model_fields_set == {"keep_last"}
    assert config == ExperimentConfig(keep_last=3)
    assert agent_settings({"experiment": config, "lr": 1})[1] == {"experiment": config.model_dump(), "lr": 1}


def test_the_callers_mapping_stays_as_it_is() -> None:
    """Neither the mapping nor what is in it changes."""
    given = {"experiment": {"wandb": True, "wandb_kwargs": {"project": "x"}, "writers": [{"name": "jsonl", "a": 1}]}}
    before = json.dumps(given)
    ExperimentConfig(given).writer_table()[0][1]["project"] = "y"
    assert json.dumps(given) == before


WRONG = [
    ("directory", 5, "a string"),
    ("experiment_name", 22, "a string"),
    ("write_interval", 1.5, 'an int or "auto"'),
    ("write_interval", "100", 'an int or "auto"'),
    ("write_interval", True, 'an int or "auto"'),
    ("checkpoint_interval", "never", 'an int or "auto"'),
    ("store_separately", "yes", "True or False"),
    ("wandb", 1, "True or False"),
    ("wandb_kwargs", ["project"], "a mapping with string keys"),
    ("wandb_kwargs", {1: 2}, "a mapping with string keys"),
    ("backend", "", "a non-empty string"),
    ("backend", 1, "a non-empty string"),
    ("writers", "tensorboard", "a list of names and mappings"),
    ("writers", [5], "a list of names and mappings"),
    ("checkpoint_format", 3, "a non-empty string"),
    ("keep_last", 0, "an int of at least 1, or None"),
    ("keep_every", -1, "an int of at least 1, or None"),
    ("keep_best", -1, "an int of at least 0"),
    ("best_metric", "", "a tag"),
    ("best_mode", "maximum", '"max" or "min"'),
    ("best_min_episodes", 0.5, "an int of at least 0"),
    ("memory_checkpoint_interval", "never", 'an int or "auto"'),
    ("memory_checkpoints", "rows", '"log" or "whole"'),
    ("async_checkpoints", "no", "True or False"),
    ("on_writer_error", "ignore", '"warn" or "raise"'),
    ("distributed_metrics", "sum", '"first" or "mean"'),
    ("distributed_memories", True, '"first" or "each"'),
    ("distributed_seconds", 0, "a number above 0"),
    ("distributed", {"rank": 2}, '"auto", False, or {"rank": r, "world_size": n} with 0 <= r < n'),
    ("autoreset", "NextStep", '"auto" or "next_step" or "same_step" or "disabled"'),
    ("running_episodes", "drop", '"restart" or "continue"'),
    ("seeds", "all", '"mean" or "each" or "both"'),
    ("checkpoint_seconds", 0, "a number above 0, or None"),
    ("upload_interval", 0, "a number above 0"),
    ("upload_patience", -1, "a number of at least 0"),
    ("provenance", "some", 'True or False or "without_changes"'),
    ("system_metrics", "yes", "True or False"),
    ("artifacts", "last", '"best" or "checkpoints" or "all" or "none"'),
]
"""Of each setting: its key, a value that it cannot have, and what the error says is allowed."""


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_value_names_the_key_the_value_and_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    """The error is one line, and a ValueError."""
    with pytest.raises(keepfast.ConfigError) as raised:
        ExperimentConfig({key: value})
    assert str(raised.value).startswith(f"`{key}` is {value!r} ({type(value).__name__}); allowed: {allowed} (")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_every_key_has_its_wrong_value_in_the_table_above() -> None:
    """Each field of the configuration can be named in an error, and says itself what is allowed there."""
    assert {key for key, *_ in WRONG} == set(ExperimentConfig.model_fields) == set(SETTINGS)


@pytest.mark.parametrize(
    ("key", "meant"),
    [("write_intervall", "write_interval"), ("keeplast", "keep_last"), ("checkpoint_intervals", "checkpoint_interval")],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, meant: str) -> None:
    """The error names the key, what was given, every known key and the likely one."""
    with pytest.raises(keepfast.ConfigError) as raised:
        ExperimentConfig({"experiment": {key: 10}})
    assert str(raised.value) == (
        f"unknown key `{key}` (given 10); known: {', '.join(sorted(SETTINGS))}. Did you mean `{meant}`?"
    )


def test_everything_wrong_is_told_at_once() -> None:
    """Three mistakes make three lines."""
    with pytest.raises(keepfast.ConfigError) as raised:
        ExperimentConfig({"keep_last": 0, "best_mode": "up", "zzz": 1})
    assert [line.split("`")[1] for line in str(raised.value).splitlines()] == ["keep_last", "best_mode", "zzz"]


def test_a_key_that_is_no_string_is_an_unknown_key() -> None:
    """YAML makes numbers of unquoted keys; they are told like any other unknown key."""
    with pytest.raises(keepfast.ConfigError, match=r"unknown key `1` \(given 2\)"):
        ExperimentConfig({1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("given", [5, "x", None, [1]])
def test_a_level_that_is_no_mapping_is_told(given: Any) -> None:
    """The error gives the value and what is allowed."""
    with pytest.raises(keepfast.ConfigError, match=r'"experiment" is .*; allowed: a mapping of settings'):
        ExperimentConfig({"experiment": given})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.toml", b"keep_last = ", "broken.toml` cannot be read: "),
        ("broken.json", b"{", "broken.json` cannot be read: "),
        ("broken.yaml", b"a: [", "broken.yaml` cannot be read: "),
        ("binary.json", b"\xff\xfe\x00", "binary.json` cannot be read: "),
        ("list.json", b"[1]", "list.json` holds a list at its top; allowed: a mapping of settings"),
        ("empty.yaml", b"", "empty.yaml` holds a NoneType at its top"),
        ("config.ini", b"", r"cannot tell the format of `.*config.ini`; allowed: .toml, .yaml, .yml, .json"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The error names the file and what is wrong with it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(keepfast.ConfigError, match=message):
        ExperimentConfig(tmp_path / name)


def test_a_directory_of_a_files_name_is_told(tmp_path: Path) -> None:
    """What the operating system refuses to read is a configuration error with its reason."""
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(keepfast.ConfigError, match=r"config.toml` cannot be read: .*directory"):
        ExperimentConfig(tmp_path / "config.toml")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    """The error is the FileNotFoundError a caller would expect."""
    with pytest.raises(keepfast.NotFound, match="there is no configuration file") as raised:
        ExperimentConfig(tmp_path / "config.toml")
    assert isinstance(raised.value, FileNotFoundError)


def test_yaml_without_its_library_says_what_to_install(tmp_path: Path) -> None:
    """PyYAML is not a dependency; who gives a YAML file is told to install it."""
    path = tmp_path / "config.yaml"
    path.write_text("keep_last: 3")
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "import keepfast\n"
        "try: keepfast.ExperimentConfig(sys.argv[1])\n"
        "except keepfast.MissingDependency as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert ended.stdout == "a YAML configuration needs PyYAML; run: pip install pyyaml\n"


def test_the_writer_table_lists_names_and_options() -> None:
    """Names and mappings become rows, in order, and the options are the mapping's other keys."""
    config = ExperimentConfig(writers=["tensorboard", {"name": "jsonl", "indent": 2}])
    assert config.writer_table() == [("tensorboard", {}), ("jsonl", {"indent": 2})]
    assert ExperimentConfig(writers=[]).writer_table() == []


@pytest.mark.parametrize("switched_on", [False, True])
@pytest.mark.parametrize(
    ("writers", "options"),
    [
        (["tensorboard", "wandb"], {"project": "x", "mode": "offline"}),
        (["wandb", "tensorboard"], {"project": "x", "mode": "offline"}),
        (["tensorboard", {"name": "wandb", "project": "y"}], {"project": "y", "mode": "offline"}),
    ],
)
def test_weights_and_biases_comes_first_wherever_it_is_listed(
    writers: list[Any], options: dict[str, Any], switched_on: bool
) -> None:
    """It starts before the event writers, so that it can follow them, and has `wandb_kwargs` beside its own options."""
    config = ExperimentConfig(wandb=switched_on, wandb_kwargs={"project": "x", "mode": "offline"}, writers=writers)
    assert config.writer_table() == [("wandb", options), ("tensorboard", {})]


def test_weights_and_biases_need_not_be_listed() -> None:
    """`wandb: True` puts it before the others; without, and unlisted, its arguments switch nothing on."""
    config = ExperimentConfig(wandb=True, wandb_kwargs={"project": "x"})
    assert config.writer_table() == [("wandb", {"project": "x"}), ("tensorboard", {})]
    assert ExperimentConfig(wandb_kwargs={"project": "x"}).writer_table() == [("tensorboard", {})]


@pytest.mark.parametrize("entry", [{}, {"prefix": "> "}, {"name": 5}])
def test_a_writer_without_a_name_is_told(entry: dict[str, Any]) -> None:
    """The error shows the entry and what is allowed."""
    with pytest.raises(keepfast.ConfigError, match=r'an entry of `writers` has no "name": \{'):
        ExperimentConfig(writers=[entry]).writer_table()


def test_a_writer_listed_twice_is_told() -> None:
    """One name stands once, in whatever form."""
    with pytest.raises(keepfast.ConfigError, match="names jsonl more than once"):
        ExperimentConfig(writers=["jsonl", {"name": "jsonl"}]).writer_table()
