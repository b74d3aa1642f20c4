"""The kinds of files that configurations are read from."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any, final

from keepfast.errors import MissingDependency


def _read_yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingDependency("a YAML configuration needs PyYAML; run: pip install pyyaml") from None

    @final
    class Loader(yaml.SafeLoader):
        """Takes 1e6 for a number, as everybody but YAML 1.1 does."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)  # noqa: S506  (it is a safe one)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")


READERS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": json.loads,
}
"""What reads a file's text, by the extension of its name."""
