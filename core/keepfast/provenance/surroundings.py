"""What a run is trained on, and by which seeds, as far as anybody tells."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from keepfast.errors import shown
from keepfast.tree import leaves

_SEED = re.compile(r"(^|[._])(random_?)?seeds?$", re.IGNORECASE)


def environment_id(env: object) -> str:
    """Return the id that an environment is registered by, or else the name of its class."""
    try:
        bare = getattr(env, "unwrapped", env)
        for layer in (env, bare):
            name = getattr(getattr(layer, "spec", None), "id", None)
            if isinstance(name, str):
                return shown(name)
        kind = type(bare)
    except Exception:  # noqa: BLE001  (an environment that cannot be asked is named by its class)
        kind = type(env)
    return shown(f"{kind.__module__}.{kind.__qualname__}")


def seeds_of(config: Mapping[str, Any], frameworks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the seeds that a configuration, the interpreter and frameworks tell, each by where it is from."""
    found = {path: value for path, value in leaves(config) if _SEED.search(path) and _is_seed(value)}
    if (told := os.environ.get("PYTHONHASHSEED", "random")) != "random":
        found["PYTHONHASHSEED"] = shown(told)
    return found | {name: told["seed"] for name, told in frameworks.items() if "seed" in told}


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
