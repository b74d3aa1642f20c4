"""What is wrong with the settings that somebody gave: which key, what was given, what is allowed."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from keepfast.errors import as_given, nearest

Schemas = Mapping[str, Mapping[str, Any]]
"""By name, the JSON schema of each setting there is."""

_SECRET = re.compile(
    r"(^|_)((api|access|private|secret|auth)_?keys?|token|secrets?|password|passwd|passphrase|authorization|credentials?)$"
)


def what_is_wrong(error: ValidationError, given: Mapping[str, Any], schemas: Schemas) -> str:
    """Return one line for each wrong key or value."""
    keys = dict.fromkeys(str(detail["loc"][0]) for detail in error.errors())
    return "\n".join(wrong_setting(key, given.get(key), schemas) for key in keys)


def wrong_setting(key: Any, value: Any, schemas: Schemas) -> str:
    """Return the line about one key, and the nearest of the known ones where it is none of them."""
    if key in schemas:
        allowed, meaning = allowed_by(schemas[key]), schemas[key]["description"]
        return f"`{key}` is {as_given(value)} ({type(value).__name__}); allowed: {allowed} ({meaning})"
    close = nearest(str(key), schemas)
    hint = f" Did you mean `{close}`?" if close else ""
    return f"unknown key `{key}` (given {as_given(value)}); known: {', '.join(sorted(schemas))}.{hint}"


def allowed_by(schema: Mapping[str, Any]) -> str:
    """Return which values the JSON schema of a setting allows; one that has better words for it says ``allowed``."""
    match schema:
        case {"allowed": str(words)}:
            return words
        case {"anyOf": [*alternatives, {"type": "null"}]}:
            return f"{allowed_by({'anyOf': alternatives})}, or None"
        case {"anyOf": alternatives}:
            return " or ".join(map(allowed_by, alternatives))
        case {"enum": values}:
            return " or ".join(f'"{value}"' for value in values)
        case {"const": value}:
            return f'"{value}"'
        case {"type": "integer"}:
            return f"an int of at least {schema['minimum']}" if "minimum" in schema else "an int"
        case {"type": "string"}:
            return "a non-empty string" if "minLength" in schema else "a string"
    return {"boolean": "True or False", "object": "a mapping with string keys"}[schema["type"]]


def checked_place(value: Any) -> Any:
    """Return a setting of `distributed`, once it is known to make sense."""
    if value == "auto" or value is False:
        return value
    if not isinstance(value, Mapping) or value.keys() != {"rank", "world_size"}:
        raise ValueError("no place")
    rank, size = value["rank"], value["world_size"]
    if type(rank) is not int or type(size) is not int or not 0 <= rank < size:
        raise ValueError("no such rank")
    return dict(value)


def is_secret(key: object, value: object) -> bool:
    """Say whether a key is that of a secret, ``wandbApiKey`` and ``HF-TOKEN`` too; a switch is none."""
    return _names_a_secret(str(key)) and not (value is None or isinstance(value, bool) or value == "")


@functools.lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    """Say whether a key is that of a secret, ``wandbApiKey`` and ``HF-TOKEN`` too."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key).lower()
    return _SECRET.search(re.sub(r"[^a-z0-9]+", "_", words).strip("_")) is not None
