"""What an agent holds is checked when it is registered, and when the agent starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


CONTAINED: list[Any] = []
CONTAINED.append(CONTAINED)

UNSTORED: list[tuple[Any, str, str]] = [
    (np.array(["text"]), r"`x` has the dtype <U4, .* the format `safetensors` keeps it", "pt"),
    (np.zeros(2, "M8[s]"), r"`x` has the dtype datetime64\[s\]", "pt"),
    ({"deep": [np.zeros(2, np.longdouble)]}, r"`x\.deep\.0` has the dtype float128", "pt"),
    ({"a.b": np.zeros(1), "a": {"b": np.zeros(1)}}, r"two entries of the tree have the path `a\.b`", "pt safetensors"),
    ({"a": {object()}}, r"`x\.a\S*` is a builtins\.object", "pt safetensors"),
    ({"a": {1: 0.5, "1": 0.5}}, r"two keys of `a` read the same", "pt safetensors"),
    ({"a": CONTAINED}, r"the module `x` contains itself", "pt safetensors"),
]
"""What can be captured and not stored: how the error goes on, and the formats that it is of."""

WAYS: dict[str, Callable[[keepfast.Agent, dict[str, Any]], Any]] = {
    "one by one": lambda agent, new: [agent.checkpoint_modules.__setitem__(*each) for each in new.items()],
    "update": lambda agent, new: agent.checkpoint_modules.update(new),
    "update by keyword": lambda agent, new: agent.checkpoint_modules.update(**new),
    "or": lambda agent, new: setattr(agent, "checkpoint_modules", agent.checkpoint_modules.__ior__(new)),
    "a default": lambda agent, new: [agent.checkpoint_modules.setdefault(*each) for each in new.items()],
    "another table": lambda agent, new: setattr(agent, "checkpoint_modules", {**agent.checkpoint_modules, **new}),
}
"""How modules are put into an agent's table."""


def start(directory: Path, checkpoint_format: str = "auto", **modules: Any) -> keepfast.Agent:
    settings: Mapping[str, Any] = {
        "directory": str(directory),
        "experiment_name": "run",
        "writers": [],
        "checkpoint_format": checkpoint_format,
        "checkpoint_interval": 100,
    }
    agent = keepfast.Agent({}, cfg={"experiment": settings})
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


@pytest.mark.parametrize(
    ("module", "match", "checkpoint_format"),
    [(module, match, each) for module, match, formats in UNSTORED for each in formats.split()],
)
def test_what_the_format_cannot_hold_is_refused_before_there_is_a_checkpoint(
    module: Any, match: str, checkpoint_format: str, tmp_path: Path
) -> None:
    """At init, at register, and where it is put there later, and the error names the module and the path."""
    agent = start(tmp_path / "one", checkpoint_format, x=module)
    with pytest.raises(keepfast.UnsupportedModule, match=f"(?s)the module `x`.*{match}|{match}"):
        agent.init({"timesteps": 10})
    other = start(tmp_path / "other", checkpoint_format, policy=np.zeros(2))
    other.init({"timesteps": 10})
    with pytest.raises(keepfast.UnsupportedModule, match=match):
        other.checkpoint_modules["x"] = module
    with pytest.raises(keepfast.UnsupportedModule, match=match):
        other.experiment.register(x=module)
    other.close()
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("module", [each for each, _, formats in UNSTORED if formats == "pt"])
def test_what_another_format_holds_comes_back_from_it(module: Any, tmp_path: Path) -> None:
    """A refusal is of the format, not of the module."""
    agent = start(tmp_path, "safetensors", x=module)
    agent.init({"timesteps": 10})
    agent.write_checkpoint(1)
    agent.close()
    assert start(tmp_path, "safetensors", x=module).load(tmp_path / "run")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("module", "match"), UNKNOWN)
def test_what_cannot_be_kept_is_refused_as_it_is_put_into_the_table(
    module: Any, match: str, way: str, tmp_path: Path
) -> None:
    """After init too, not at the first checkpoint: the table is what it was, and training goes on."""
    agent = start(tmp_path, policy=np.zeros(2))
    agent.init({"timesteps": 200})
    for timestep in range(98):
        agent.post_interaction(timestep, 200)
    with pytest.raises(keepfast.UnsupportedModule, match=match):
        WAYS[way](agent, {"x": module})
    assert list(agent.checkpoint_modules) == ["policy"]
    WAYS[way](agent, {"x": np.zeros(3), "y": np.ones(1)})
    for timestep in range(98, 200):
        agent.post_interaction(timestep, 200)
    agent.close()
    found = keepfast.read_checkpoint(tmp_path / "run" / "checkpoints" / "agent_100.safetensors")
    assert list(found) == ["policy", "x", "y"]


def test_what_cannot_be_kept_is_refused_at_the_first_step(tmp_path: Path) -> None:
    """Where it was put into what a module is made of, after init."""
    agents: dict[str, Any] = {"one": {"w": np.zeros(2), "rng": np.random.default_rng(0)}}
    agent = start(tmp_path, agents=agents)
    agent.init({"timesteps": 200})
    agents["two"] = object()
    with pytest.raises(keepfast.UnsupportedModule, match=r"`agents\.two`.*builtins\.object"):
        agent.post_interaction(0, 200)
    del agents["two"]
    agent.post_interaction(0, 200)
    agent.close()


def test_a_module_that_there_is_not_is_put_into_the_table_as_before(tmp_path: Path) -> None:
    """None stands for it, also after init, and what was removed may be anything again."""
    agent = start(tmp_path, policy=np.zeros(2))
    agent.init({"timesteps": 10})
    agent.checkpoint_modules["value"] = None
    del agent.checkpoint_modules["policy"]
    agent.checkpoint_modules[1] = np.zeros(1)  # type: ignore[index]
    assert agent.checkpoint_modules.setdefault("value", 1.5) is None
    agent.post_interaction(0, 10)
    agent.close()
