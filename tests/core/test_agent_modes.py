"""An agent has the modes that trainers set, and settings in the form they were given in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.config import Settings


class Mode:
    """A model that has a mode, by either of the ways that libraries have."""

    def __init__(self, setter: bool) -> None:
        self.mode, self.training = "", True
        if setter:
            self.set_mode = lambda mode: setattr(self, "mode", mode)

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"

    def state_dict(self) -> dict[str, Any]:
        return {"x": np.ones(2)}

    def load_state_dict(self, state: Any) -> None: ...


@pytest.mark.parametrize("setter", [True, False])
def test_models_follow_the_mode(setter: bool) -> None:
    """Whichever call sets it; models without one, and roles without a model, are left alone."""
    model = Mode(setter)
    agent = keepfast.Agent({"policy": model, "value": None, "plain": np.zeros(2)})
    assert agent.training
    for call, told, training in (
        (lambda: agent.set_mode("eval"), "eval", True),
        (lambda: agent.set_running_mode("eval"), "eval", False),
        (lambda: agent.enable_training_mode(True), "eval", True),
        (lambda: agent.enable_training_mode(True, apply_to_models=True), "train", True),
        (lambda: agent.enable_models_training_mode(False), "eval", True),
    ):
        call()
        assert (model.mode, agent.training) == (told, training)
    with pytest.raises(keepfast.InvalidValue, match='`mode` is \'test\'; allowed: "train" or "eval"'):
        agent.set_mode("test")
    with pytest.raises(keepfast.InvalidValue, match="`mode` is None"):
        agent.set_running_mode(None)  # type: ignore[arg-type]


def test_a_load_leaves_networks_to_be_evaluated(tmp_path: Path) -> None:
    """Those that were loaded; a resume leaves each in its mode."""
    agent = keepfast.Agent(
        {"policy": Mode(False), "value": Mode(False)}, cfg={"directory": str(tmp_path), "writers": ["jsonl"]}
    )
    path = agent.save(tmp_path / "agent.pt")
    agent.load(path, modules=["policy"])
    assert [agent.models[role].mode for role in ("policy", "value")] == ["eval", ""]
    agent.models["policy"].mode = "train"
    agent.resume(path)
    assert agent.models["policy"].mode == "train"
    agent.close()


@dataclasses.dataclass
class Cfg:
    """Settings as an object that completes itself."""

    rate: Any = 1e-3
    experiment: dict[str, Any] = dataclasses.field(default_factory=lambda: {"write_interval": 7})

    def expand(self) -> None:
        self.rate = [self.rate]


def test_settings_are_had_by_key_and_by_attribute() -> None:
    """Of an object as it has them, once it completed itself; of a mapping as they stand there."""
    agent = keepfast.Agent(cfg=Cfg())
    assert (agent.cfg.rate, agent.cfg["rate"], agent.cfg["experiment"]["write_interval"]) == ([1e-3], [1e-3], 7)
    assert (agent.write_interval, agent.checkpoint_interval) == (7, "auto")
    assert keepfast.Agent(cfg={"rollouts": 16, "experiment": {}}).cfg.rollouts == 16
    with pytest.raises(AttributeError, match="has no setting `absent`"):
        _ = Settings({"a": 1}).absent
    with pytest.raises(AttributeError):
        _ = Settings({"_a": 1})._a


def test_of_several_memories_the_first_is_the_agents() -> None:
    """The others are kept for it."""
    for given in (["a", "b"], ("a", "b")):
        agent = keepfast.Agent(memory=given, state_space=3)
        assert (agent.memory, agent.secondary_memories, agent.state_space) == ("a", ["b"], 3)
    assert (keepfast.Agent(memory=[]).memory, keepfast.Agent().secondary_memories) == (None, [])


def test_steps_may_tell_observations_from_states(tmp_path: Path) -> None:
    """All by keyword, as agents of the newer line call."""
    agent = keepfast.Agent(cfg={"directory": str(tmp_path), "writers": ["jsonl"], "write_interval": 1})
    step = dict.fromkeys(("observations", "states", "actions", "next_observations", "next_states", "infos"))
    ended = {"terminated": np.ones(2), "truncated": np.zeros(2)}
    agent.record_transition(**step, **ended, rewards=np.ones(2), timestep=0, timesteps=4)
    agent.post_interaction(timestep=0, timesteps=4)
    assert (agent.write_interval, agent.checkpoint_interval) == (1, 1)
    agent.close()
    assert keepfast.read_metrics(agent.experiment_dir)["Reward / Total reward (mean)"].values.tolist() == [1.0]
