"""What configurations come as: mappings, and objects of other kinds that hold settings by name."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from keepfast.errors import ConfigError, as_given

MISSING = "???"
"""What OmegaConf has for a value that somebody is yet to give."""

FORMS: dict[str, Callable[[Any], Iterable[str] | None]] = {
    "a dataclass": lambda it: [each.name for each in dataclasses.fields(it)] if dataclasses.is_dataclass(it) else None,
    "a Namespace": lambda it: list(vars(it)) if isinstance(it, argparse.Namespace | SimpleNamespace) else None,
    "a model of pydantic": lambda it: list(dict(it)) if isinstance(it, BaseModel) else None,
    "a class of attrs": lambda it: [each.name for each in getattr(type(it), "__attrs_attrs__", ())] or None,
    "a struct of msgspec": lambda it: getattr(type(it), "__struct_fields__", None),
    "a ConfigDict": lambda it: list(it.keys()) if type(it).__module__.startswith("ml_collections") else None,
}
"""What configurations come as, each with what returns the names of its settings, and None of anything else."""


def mapping_of(value: Any, path: str = "") -> Mapping[str, Any] | None:
    """Return what a configuration of any form holds, by key, each value as it is there; None of what is none.

    Args:
        value: the configuration, or a part of one.
        path: where that part is, for errors.

    Raises:
        ConfigError: if OmegaConf has no value for a key, or cannot make one; names it.
    """
    if type(value).__module__.startswith("omegaconf"):
        return _resolved(value, path)
    if isinstance(value, Mapping):
        if not isinstance(value, dict):
            _readable(value, path)
        return value
    if isinstance(value, type) or callable(value):  # a module of Flax is a dataclass too
        return None
    names = next((names for form in FORMS.values() if (names := form(value)) is not None), None)
    return None if names is None else {name: getattr(value, name, None) for name in names}


def _readable(config: Mapping[str, Any], path: str) -> None:
    try:
        dict(config)
    except Exception as error:
        where = f"`{path}`" if path else "the configuration"
        raise ConfigError(f"{where} is {as_given(config)}, which cannot be read: {error}") from error


def _resolved(config: Any, path: str) -> Mapping[str, Any] | None:
    """Return what a mapping of OmegaConf holds, its references resolved."""
    if not isinstance(config, Mapping):
        return None
    omega: Any = importlib.import_module("omegaconf").OmegaConf
    try:
        missing = sorted(omega.missing_keys(config))
        found = {} if missing else {key: config[key] for key in config}
    except Exception as error:
        where, reason = getattr(error, "full_key", path), str(error).splitlines()[0]
        raise ConfigError(f"`{where}` cannot be resolved: {reason}") from error
    if missing:
        raise without_values([f"{path}.{key}".lstrip(".") for key in missing])
    return found


def without_values(paths: Iterable[str]) -> ConfigError:
    """Return an error that names settings which have no value yet."""
    listed = ", ".join(f"`{path}`" for path in paths)
    return ConfigError(f"no value is given yet for {listed}: `{MISSING}` stands there; give one, or leave the key out")
