"""ExperimentConfig: what users write under ``"experiment"``."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias, cast, final, get_args

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from keepfast._system.arguments.documents import READERS
from keepfast._system.arguments.forms import FORMS, MISSING, mapping_of, without_values
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.arguments.settings import checked_place, is_secret, what_is_wrong, wrong_setting
from keepfast._system.disk.special import require_file
from keepfast._system.warnings import warn
from keepfast.errors import ConfigError, NotFound, as_given, nearest
from keepfast.tree import leaves

LEVEL = "experiment"
"""The level of an agent's configuration that holds these settings."""


Source: TypeAlias = Any
"""What configurations are given as: a mapping, an `ExperimentConfig`, a path, or an object of `FORMS`."""


def _as_string(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _default_writers() -> list[str | dict[str, Any]]:
    return ["tensorboard"]


def whole(value: Any) -> Any:
    """Return a float that is a whole number, such as 1e6, as an int, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Artifacts: TypeAlias = Literal["best", "checkpoints", "all", "none"]
"""Which files go to the writers that keep files."""

_WHOLE = BeforeValidator(whole)
_Whole = Annotated[int, _WHOLE]
_PluginName = Annotated[str, StringConstraints(min_length=1)]


@guarded_calls("__init__")
@final
class ExperimentConfig(BaseModel):
    """Holds the settings of one experiment, checked.

    Args:
        source: a mapping, or the path of a TOML, YAML or JSON file, with or without the level ``"experiment"``; or a
            configuration of OmegaConf, a dataclass, a Namespace, a model of pydantic. The level and the entries of
            `writers` may be so too.
        settings: single settings by keyword, which win over those of `source`.

    A setting that is None is one that is left out.

    Raises:
        ConfigError: if a key is unknown or a value not allowed; names the key, the value, what is allowed and the
            nearest known key.
        NotFound: if `source` names a file that does not exist.
        MissingDependency: if `source` is a YAML file and PyYAML is not installed.

    Example:
        >>> ExperimentConfig({"experiment": {"write_interval": 100}}, keep_last=3).keep_last
        3
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    directory: Annotated[str, BeforeValidator(_as_string)] = Field(
        "",
        examples=["experiments"],
        description="where experiments are stored, on an object store too; `runs` in the working directory if empty",
    )
    experiment_name: str = Field(
        "", examples=["ppo-walker"], description="the experiment's own directory; date, time and agent if empty"
    )
    write_interval: _Whole | Literal["auto"] = Field(
        "auto", examples=[1000], description="timesteps between writes; 0 or less disables"
    )
    checkpoint_interval: _Whole | Literal["auto"] = Field(
        "auto", examples=[50_000], description="timesteps between checkpoints; 0 or less disables"
    )
    checkpoint_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        examples=[600.0],
        description="seconds after which a checkpoint is due too, counted from the one before; never if None",
        json_schema_extra={"allowed": "a number above 0, or None"},
    )
    store_separately: bool = Field(False, examples=[True], description="store each module in a file of its own")
    wandb: bool = Field(False, examples=[True], description="also track with Weights & Biases")
    wandb_kwargs: dict[str, Any] = Field(
        default_factory=dict, examples=[{"project": "walker"}], description="arguments of wandb.init"
    )
    backend: _PluginName = Field(
        "auto", examples=["jax"], description='"torch", "jax" or a plugin\'s name; "auto" infers it'
    )
    writers: Annotated[list[_PluginName | dict[str, Any]], Field(strict=False)] = Field(
        default_factory=_default_writers,
        examples=[["tensorboard", {"name": "csv"}]],
        description='names, or {"name": ..., **options}',
        json_schema_extra={"allowed": "a list of names and mappings"},
    )
    checkpoint_format: _PluginName = Field(
        "auto", examples=["safetensors"], description="a format's name; \"auto\" is the backend's own"
    )
    keep_last: Annotated[int, Field(ge=1), _WHOLE] | None = Field(
        None, examples=[3], description="checkpoints to keep; all if None"
    )
    keep_every: Annotated[int, Field(ge=1), _WHOLE] | None = Field(
        None, examples=[100_000], description="timesteps whose multiples `keep_last` never removes"
    )
    keep_best: Annotated[int, Field(ge=0), _WHOLE] = Field(
        1, examples=[3], description="best checkpoints to keep; 0 keeps none"
    )
    best_metric: Annotated[str, StringConstraints(min_length=1)] = Field(
        "Reward / Total reward (mean)",
        examples=["Evaluation / Return"],
        description="the tag that says what is best",
        json_schema_extra={"allowed": "a tag"},
    )
    best_mode: Literal["max", "min"] = Field(
        "max", examples=["min"], description="whether more or less of it is better"
    )
    best_min_episodes: Annotated[int, Field(ge=0), _WHOLE] = Field(
        0, examples=[10], description="episodes that must have ended in the interval for it to be judged"
    )
    memory_checkpoint_interval: _Whole | Literal["auto"] = Field(
        "auto",
        examples=[100_000],
        description="timesteps between checkpoints that hold the memories too, each the first at or past a multiple; "
        "auto: each one",
    )
    memory_checkpoints: Literal["log", "whole"] = Field(
        "log",
        examples=["whole"],
        description="what a checkpoint holds of memories: the rows that were added, each in a file beside it that "
        "later ones share; or the whole memory, in its own file",
    )
    async_checkpoints: bool = Field(True, examples=[False], description="write checkpoints behind training")
    on_writer_error: Literal["warn", "raise"] = Field(
        "warn", examples=["raise"], description="what a failing writer does to the run"
    )
    artifacts: Artifacts = Field(
        "best",
        examples=["all"],
        description="which files go to the writers that keep files, once they are durable: the best checkpoints, every "
        "checkpoint, all of them and exported memories, or none; an entry of `writers` may have its own",
    )
    system_metrics: bool = Field(
        False,
        examples=[True],
        description="track what the process takes of CPU, memory and GPU, as `Resource / ...`, at each write",
    )
    distributed: Annotated[bool | Literal["auto"] | dict[str, int], BeforeValidator(checked_place)] = Field(
        "auto",
        examples=[{"rank": 0, "world_size": 4}],
        description="whether this process is one of a distributed run, of which rank 0 writes; auto: as its process "
        "group says, or RANK with a WORLD_SIZE above 1; False: it is a run of its own",
        json_schema_extra={"allowed": '"auto", False, or {"rank": r, "world_size": n} with 0 <= r < n'},
    )
    distributed_metrics: Literal["first", "mean"] = Field(
        "first",
        examples=["mean"],
        description="whose values a distributed run writes: those of rank 0, or those of all ranks, as if one process "
        "had tracked them, brought together once at each write",
    )
    distributed_memories: Literal["first", "each"] = Field(
        "first",
        examples=["each"],
        description="whose memories a distributed run checkpoints: those of rank 0, or each rank's own, which it "
        "resumes with",
    )
    distributed_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        600.0,
        examples=[60.0],
        description="how long the ranks of a distributed run wait for each other; where one is gone, that is told, and "
        "rank 0 goes on with what it has itself",
        json_schema_extra={"allowed": "a number above 0"},
    )
    provenance: bool | Literal["without_changes"] = Field(
        True,
        examples=["without_changes"],
        description="keep with each start where it comes from: command line, code, packages, machine, seeds; "
        '"without_changes" leaves out what differs from the commit of git and what is not tracked, False all of it',
    )
    autoreset: Literal["auto", "next_step", "same_step", "disabled"] = Field(
        "auto",
        examples=["same_step"],
        description="when vector environments reset; auto: as the environment says. Rows that only reset (`next_step`) "
        "are in no statistic",
    )
    running_episodes: Literal["restart", "continue"] = Field(
        "restart",
        examples=["continue"],
        description="what a resume makes of episodes that were under way: dropped, or continued by environments whose "
        "state comes back; with an environment among the restored modules, continue is the default",
    )

    upload_interval: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        60.0,
        examples=[10.0],
        description="seconds between uploads, where `directory` is on an object store; checkpoints go up at once",
        json_schema_extra={"allowed": "a number above 0"},
    )
    upload_patience: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        300.0,
        examples=[30.0],
        description="seconds that `wait` and `close` wait for uploads, before they say where it lies instead",
        json_schema_extra={"allowed": "a number of at least 0"},
    )
    seeds: Literal["mean", "each", "both"] = Field(
        "mean",
        examples=["each"],
        description="what is written where several seeds are trained side by side in one compiled loop: their mean, "
        "standard error, minimum and maximum; each as a run of its own, in `seeds`; or both",
    )

    def __init__(self, source: Source = None, /, **settings: Any) -> None:
        try:
            given = _plain(_without_nothing({**_experiment_level(_read(source)), **settings}))
        except RecursionError:
            raise ConfigError("a setting contains itself, or is nested deeper than can be followed") from None
        if odd := [key for key in given if not isinstance(key, str)]:
            raise ConfigError("\n".join(wrong_setting(key, given[key], _schemas()) for key in odd))
        if missing := [path for path, value in leaves(given) if isinstance(value, str) and value == MISSING]:
            raise without_values(missing)
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigError(what_is_wrong(error, given, _schemas())) from None
        except Exception as error:
            raise ConfigError(f"a setting cannot be looked at: {type(error).__name__} {error}") from error

    @classmethod
    def of(cls, cfg: Source) -> ExperimentConfig:
        """Return the configuration that a user's `cfg` means, whatever its form."""
        return cfg if isinstance(cfg, ExperimentConfig) else cls(cfg)

    def writer_table(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each writer's name and options, Weights & Biases included where it is switched on.

        Weights & Biases comes first wherever it is listed, so that it can take over what the event writers write, and
        has `wandb_kwargs` where its own options say nothing else.

        Raises:
            ConfigError: if an entry of `writers` has no name, or one name stands twice.
        """
        table: list[tuple[str, dict[str, Any]]] = []
        for entry in self.writers:
            options = {"name": entry} if isinstance(entry, str) else dict(entry)
            name = options.pop("name", None)
            if not isinstance(name, str):
                raise ConfigError(
                    f'an entry of `writers` has no "name": {as_given(entry)}; allowed: {{"name": ..., **options}}'
                )
            options.pop(_ARTIFACTS, None)
            table.append((name, options))
        names = [name for name, _ in table]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"`writers` names {', '.join(sorted(twice))} more than once; each writer goes there once")
        if not self.wandb and "wandb" not in names:
            return table
        others = [(name, options) for name, options in table if name != "wandb"]
        return [("wandb", {**self.wandb_kwargs, **dict(table).get("wandb", {})}), *others]

    def artifact_table(self) -> dict[str, Artifacts]:
        """Return which files each writer gets, by its name.

        Raises:
            ConfigError: if an entry of `writers` asks for something else.
        """
        names = [name for name, _ in self.writer_table()]
        entries = [entry for entry in self.writers if isinstance(entry, dict)]
        own = {entry["name"]: entry[_ARTIFACTS] for entry in entries if _ARTIFACTS in entry}
        for name, asked in own.items():
            if asked not in get_args(Artifacts):
                allowed = ", ".join(f'"{each}"' for each in get_args(Artifacts))
                raise ConfigError(f"`artifacts` of the writer `{name}` is {as_given(asked)}; allowed: {allowed}")
        return {name: own.get(name, self.artifacts) for name in names}


_ARTIFACTS = "artifacts"
"""What an entry of `writers` may have beside its name that is no option of the writer."""

_DEEPEST = 100
"""How deep a configuration may be nested: Python itself goes no further than a few hundred levels."""

MASK = "***"
"""What stands in the place of a secret."""


def masked(value: Any) -> Any:
    """Return a configuration without its secrets, at every depth; what is neither mapping nor list is kept as it is.

    A secret has a key that is, or ends with, ``api_key``, ``token``, ``password``, ``secret`` or another of their kind
    (``secret_access_key``, ``authorization``), in any case.

    Raises:
        ConfigError: if the configuration contains itself, with the path of the key, or is nested too deep.
    """
    return _masked(value, "", {})


def _masked(value: Any, path: str, above: Mapping[int, str]) -> Any:
    if type(value) in (str, int, float, bool):  # as most are
        return value
    inner = mapping_of(value, path)
    value = value if inner is None else inner
    if not isinstance(value, Mapping) and not _is_list(value):
        return value
    if id(value) in above:
        whole = f"`{above[id(value)]}`" if above[id(value)] else "the whole of it"
        raise ConfigError(f"the configuration contains itself: `{path}` is {whole}; give a copy without it")
    if len(above) >= _DEEPEST:
        raise ConfigError(f"the configuration is nested more than {_DEEPEST} deep; give one that is not")
    below = {**above, id(value): path}
    if isinstance(value, Mapping):
        return {
            key: MASK if is_secret(key, child) else _masked(child, f"{path}.{key}".lstrip("."), below)
            for key, child in value.items()
        }
    return [_masked(child, f"{path}.{number}".lstrip("."), below) for number, child in enumerate(value)]


@final
class Settings(dict[str, Any]):
    """An agent's settings by key, and by attribute as the object has them that they were given as.

    Args:
        settings: the settings.
        source: what they were given as.
    """

    def __init__(self, settings: Mapping[str, Any], source: Any = None) -> None:
        super().__init__(settings)
        self._source = None if isinstance(source, dict) else source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if hasattr(self._source, name):
            return getattr(self._source, name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the agent's configuration has no setting `{name}`") from None


def agent_settings(cfg: Source) -> tuple[ExperimentConfig, dict[str, Any]]:
    """Return the experiment's settings and the agent's whole configuration.

    An agent's configuration holds settings of its own beside ``"experiment"``. Where that level is absent, the
    configuration is either all the experiment's or all the agent's.

    Raises:
        ConfigError: if it mixes both on one level, or the experiment's settings are wrong.
    """
    if isinstance(cfg, ExperimentConfig):
        return cfg, {LEVEL: cfg.model_dump()}
    given = dict(_read(cfg))
    if LEVEL in given:
        config = ExperimentConfig(given)
        return config, {**given, LEVEL: config.model_dump()}
    known = given.keys() & ExperimentConfig.model_fields.keys()
    own = given.keys() - known
    if known and own:
        names = ", ".join(f"`{name}`" for name in sorted(known))
        raise ConfigError(f'{names} belong under "{LEVEL}" when the configuration has keys of the agent\'s own too')
    for key in own:
        if close := nearest(key, {LEVEL, *ExperimentConfig.model_fields}, cutoff=0.85):
            warn(f"`{key}` is taken for a setting of the agent's own; did you mean `{close}`?")
    config = ExperimentConfig(given if known else {})
    return config, {**({} if known else given), LEVEL: config.model_dump()}


def _without_nothing(given: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return settings without those that are None: whoever sets no value leaves it to the default."""
    return {key: value for key, value in given.items() if value is not None or key not in ExperimentConfig.model_fields}


def _experiment_level(given: Mapping[str, Any]) -> Mapping[str, Any]:
    level = given.get(LEVEL, given)
    if isinstance(level, ExperimentConfig):
        return level.model_dump(exclude_unset=True)
    settings = mapping_of(level, LEVEL)
    if settings is None:
        raise ConfigError(f'"{LEVEL}" is {as_given(level)} ({type(level).__name__}); allowed: a mapping of settings')
    return settings


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) or type(value).__name__ == "ListConfig"


def _plain(value: Any, path: str = "") -> Any:
    """Return settings of any form in Python's own containers, and numbers of NumPy as Python's.

    Objects among the arguments for writers, `wandb.Settings` for one, are theirs and stay what they are.
    """
    is_setting = "." not in path or (path.startswith("writers.") and path.count(".") == 1)
    is_plain = isinstance(value, Mapping) or type(value).__module__.startswith("omegaconf")
    inner = mapping_of(value, path) if is_setting or is_plain else None
    if inner is not None:
        return {key: _plain(child, f"{path}.{key}".lstrip(".")) for key, child in inner.items()}
    if _is_list(value):
        made = [_plain(child, f"{path}.{number}".lstrip(".")) for number, child in enumerate(value)]
        return tuple(made) if type(value) is tuple else made
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value.value if isinstance(value, enum.Enum) and not isinstance(value, str) else value


def _read(source: Source) -> Mapping[str, Any]:
    if source is None:
        return {}
    if (mapping := mapping_of(source)) is not None:
        masked(mapping)  # raises where it contains itself
        return mapping
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"a configuration is {as_given(source)} ({type(source).__name__}); allowed: a mapping or a path, or "
            f"{', '.join(FORMS)}"
        )
    path = Path(source)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"cannot tell the format of `{path}`; allowed: {', '.join(READERS)}")
    try:
        require_file(path)
        content = reader(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no configuration file `{path}`") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"`{path}` holds a {type(content).__name__} at its top; allowed: a mapping of settings")
    return content


@functools.cache
def _schemas() -> Mapping[str, Any]:
    """Return the JSON schema of each setting."""
    return cast(Mapping[str, Any], ExperimentConfig.model_json_schema()["properties"])
