"""What an agent holds is checked when it is registered, and when the agent starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast

UNKNOWN: list[tuple[Any, str]] = [
    (object(), r"(?s)the module `x`: .*builtins\.object"),
    ({"deep": [np.zeros(1), object()]}, r"the module `x`: `deep\.1` is a builtins\.object"),
    (SimpleNamespace(mean=1.0, call=len), r'(?s)the module `x`: .*register keepfast\.attributes\(it, "mean"'),
    (np.array([object()]), "(?s)the module `x`: .*NumPy array of Python objects"),
    ({"rng": np.random.default_rng(0), "bad": object()}, r"(?s)the module `x\.bad`: .*builtins\.object"),
    (1.5, r"`x` is a float, which is replaced, not changed"),
]


def start(directory: Path, **modules: Any) -> keepfast.Agent:
    agent = keepfast.Agent(
        {}, cfg={"experiment": {"directory": str(directory), "experiment_name": "run", "writers": []}}
    )
    agent.checkpoint_modules.update(modules)
    return agent


@pytest.mark.parametrize(("module", "match"), UNKNOWN)
def test_what_cannot_be_kept_is_refused_at_init(module: Any, match: str, tmp_path: Path) -> None:
    """Not at the first checkpoint: the error names the key, and no directory is made."""
    agent = start(tmp_path, policy=np.zeros(2), x=module)
    with pytest.raises(keepfast.UnsupportedModule, match=match):
        agent.init({"timesteps": 10})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "match"), UNKNOWN)
def test_what_cannot_be_kept_is_refused_at_register(module: Any, match: str, tmp_path: Path) -> None:
    """The error names the key, and nothing of what was registered with it is."""
    with keepfast.Experiment({"directory": str(tmp_path), "writers": []}) as experiment:
        with pytest.raises(keepfast.UnsupportedModule, match=match):
            experiment.register(policy=np.zeros(2), x=module)
        experiment.register(policy=np.zeros(2))


def test_what_an_agent_holds_is_kept_from_its_start(tmp_path: Path) -> None:
    """All that can be kept is taken as it is."""
    agent = start(tmp_path, policy=np.zeros(2), rng=np.random.default_rng(0), deep={"a": [np.zeros(1), 2.0]})
    agent.init({"timesteps": 10})
    agent.close()
