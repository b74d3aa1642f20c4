"""Agent is an experiment with an agent's calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any


class PPO(keepfast.Agent):
    """An agent that learns nothing."""


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"rollouts": 16, "experiment": {"directory": str(directory), "writers": ["jsonl"], **settings}}


def train(agent: keepfast.Agent, timesteps: int = 20) -> None:
    for timestep in range(timesteps):
        agent.record_transition(None, None, np.ones(2), None, np.ones(2), np.zeros(2), {}, timestep, timesteps)
        agent.post_interaction(timestep, timesteps)
    agent.close()


def test_an_agent_works_as_it_is(net: Callable[..., Net], tmp_path: Path) -> None:
    """Models given to Agent itself are tracked, checkpointed and loaded back without a class of one's own."""
    agent = keepfast.Agent({"policy": net(seed=1)}, cfg=cfg_in(tmp_path))
    agent.init(trainer_cfg={"timesteps": 20})
    train(agent)
    other = keepfast.Agent({"policy": net(seed=2)}, cfg=cfg_in(tmp_path))
    report = other.load(agent.experiment_dir / "checkpoints" / "agent_20.safetensors")
    assert sorted(report.loaded) == ["policy.body.bias", "policy.body.weight", "policy.head.bias", "policy.head.weight"]
    assert report.timestep == 20
    expected = net(seed=1).arrays["head"]["weight"]
    np.testing.assert_array_equal(other.models["policy"].arrays["head"]["weight"], expected)


def test_init_is_not_needed(net: Callable[..., Net], tmp_path: Path) -> None:
    """An agent that is never initialised takes its length from the first timestep."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    train(agent, 200)
    names = {path.name for path in (agent.experiment_dir / "checkpoints").iterdir()}
    assert {f"agent_{step}.safetensors" for step in range(20, 201, 20)} <= names


def test_the_directory_is_named_after_the_class_and_made_by_init(net: Callable[..., Net], tmp_path: Path) -> None:
    """An agent that only loads and acts leaves no directory."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    assert agent.experiment_dir.name.endswith("_PPO")
    assert not agent.experiment_dir.exists()
    agent.init()
    assert agent.experiment_dir.is_dir()
    agent.close()


def test_saving_is_durable_when_it_returns(net: Callable[..., Net], tmp_path: Path) -> None:
    """`save` writes every module to the file that was named, and `load` brings them back."""
    agent = PPO({"policy": net(seed=1), "value": net(seed=2)}, cfg=cfg_in(tmp_path))
    path = agent.save(tmp_path / "deep" / "agent.pt")
    other = PPO({"policy": net(seed=3), "value": net(seed=4)}, cfg=cfg_in(tmp_path))
    assert other.load(path)
    np.testing.assert_array_equal(other.models["value"].arrays["body"]["weight"], net(seed=2).arrays["body"]["weight"])


def test_fewer_modules_are_a_warning(net: Callable[..., Net], tmp_path: Path) -> None:
    """A module of the file that the agent lacks is warned of, and the rest is loaded."""
    path = PPO({"policy": net(seed=1), "value": net()}, cfg=cfg_in(tmp_path)).save(tmp_path / "agent.pt")
    agent = PPO({"policy": net(seed=2)}, cfg=cfg_in(tmp_path))
    with pytest.warns(keepfast.KeepfastWarning, match="^Cannot load the value module. The agent doesn't have such an"):
        report = agent.load(path)
    assert report.absent_modules == ("value",)
    np.testing.assert_array_equal(agent.models["policy"].arrays["body"]["weight"], net(seed=1).arrays["body"]["weight"])


def test_a_separately_stored_module_loads_by_itself(net: Callable[..., Net], tmp_path: Path) -> None:
    """The file of one module is loaded into that module of the agent and no other."""
    agent = PPO({"policy": net(seed=1), "value": net(seed=2)}, cfg=cfg_in(tmp_path, store_separately=True))
    train(agent, 10)
    other = PPO({"policy": net(seed=3), "value": net(seed=4)}, cfg=cfg_in(tmp_path))
    other.load(agent.experiment_dir / "checkpoints" / "value_10.safetensors")
    np.testing.assert_array_equal(other.models["value"].arrays["body"]["weight"], net(seed=2).arrays["body"]["weight"])
    np.testing.assert_array_equal(other.models["policy"].arrays["body"]["weight"], net(seed=3).arrays["body"]["weight"])


def test_writing_out_of_turn(net: Callable[..., Net], tmp_path: Path) -> None:
    """`write_tracking_data` and `write_checkpoint` write at once, under the timestep they are given."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    agent.init(trainer_cfg={"timesteps": 10_000})
    agent.track_data("Resource / CPU usage", 12.0)
    agent.write_tracking_data(7, 10_000)
    agent.write_checkpoint(7, 10_000)
    agent.wait()
    (line,) = (agent.experiment_dir / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 7
    assert json.loads(line)["scalars"] == {"Resource / CPU usage": 12.0}
    assert (agent.experiment_dir / "checkpoints" / "agent_7.safetensors").exists()
    agent.close()
    agent.close()


def test_the_writer_takes_summary_writer_calls(net: Callable[..., Net], tmp_path: Path) -> None:
    """`agent.writer.add_scalar` writes past all intervals."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    agent.writer.add_scalar("Resource / CPU usage", np.float32(12.0), global_step=1000)
    agent.close()
    (line,) = (agent.experiment_dir / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 1000


def test_settings_of_the_agent_stand_beside_the_experiment(tmp_path: Path) -> None:
    """`cfg` keeps the agent's own settings; the experiment's on the same level as them are an error."""
    agent = PPO(cfg=cfg_in(tmp_path))
    assert agent.cfg["rollouts"] == 16
    assert agent.cfg["experiment"]["keep_best"] == 1
    with pytest.raises(keepfast.ConfigError, match='`write_interval` belong under "experiment"'):
        PPO(cfg={"rollouts": 16, "write_interval": 10})


def test_models_are_described_in_the_configuration(net: Callable[..., Net], tmp_path: Path) -> None:
    """What writers keep of the configuration has the agent's, the models' and the trainer's settings."""
    policy = net()
    policy.cfg = {"hidden": 64}
    agent = PPO({"policy": policy}, cfg=cfg_in(tmp_path))
    agent.init(trainer_cfg={"timesteps": 5, "headless": True})
    stored = json.loads((agent.experiment_dir / "config.json").read_text())["config"]
    assert stored["rollouts"] == 16
    assert stored["models"] == {"policy": {"hidden": 64}}
    assert stored["trainer"] == {"timesteps": 5, "headless": True}
    agent.close()


def test_init_after_the_first_use_still_tells_the_length(net: Callable[..., Net], tmp_path: Path) -> None:
    """An agent that was used before `init` takes the trainer's settings over."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    agent.track_data("Loss / Loss", 1.0)
    agent.init(trainer_cfg={"timesteps": 500})
    assert agent.experiment.write_interval == 5
    stored = json.loads((agent.experiment_dir / "config.json").read_text())
    assert stored["timesteps"] == 500
    assert stored["config"]["trainer"] == {"timesteps": 500}
    with pytest.warns(keepfast.KeepfastWarning, match="`step` was never called"):
        agent.close()


def test_the_table_of_modules_can_be_replaced(net: Callable[..., Net], tmp_path: Path) -> None:
    """What is assigned to `checkpoint_modules` after `init` is what checkpoints hold."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    agent.init(trainer_cfg={"timesteps": 10})
    agent.checkpoint_modules = {"only": net()}
    train(agent, 10)
    other = PPO({"only": net(seed=1)}, cfg=cfg_in(tmp_path))
    assert other.load(agent.experiment_dir / "checkpoints" / "agent_10.safetensors")


def test_a_mistyped_key_is_told(tmp_path: Path) -> None:
    """A key of the agent's own that is nearly one of ours is warned of."""
    with pytest.warns(keepfast.KeepfastWarning, match="`write_intervl`.*did you mean `write_interval`"):
        PPO(cfg={"write_intervl": 5})
    with pytest.raises(keepfast.InvalidValue, match=r"`models` is \[1\] \(list\); allowed: a mapping"):
        PPO([1])  # type: ignore[arg-type]


def test_a_memory_tells_whose_it_is() -> None:
    """An agent puts its class into its memory's metadata, which the memory's files tell, unless a name is there."""
    own, told = SimpleNamespace(metadata={}), SimpleNamespace(metadata={"agent": "SAC"})
    for memory in (own, told, SimpleNamespace(), SimpleNamespace(metadata=None), None):
        PPO(memory=memory)
    assert (own.metadata, told.metadata) == ({"agent": "PPO"}, {"agent": "SAC"})


class Hooked(keepfast.Agent):
    """An agent that has its say whenever something is written, as agents of skrl do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.called: list[tuple[str, int | None, int | None]] = []

    def write_tracking_data(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        self.called.append(("write", timestep, timesteps))
        self.track_data("Extra / Norm", 2.0)
        super().write_tracking_data(timestep, timesteps)

    def write_checkpoint(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        self.called.append(("checkpoint", timestep, timesteps))
        super().write_checkpoint(timestep, timesteps)


def test_a_subclass_has_its_say_when_something_is_due(net: Callable[..., Net], tmp_path: Path) -> None:
    """Overridden `write_tracking_data` and `write_checkpoint` are called with completed timesteps and the length."""
    agent = Hooked({"policy": net()}, cfg=cfg_in(tmp_path, write_interval=5, checkpoint_interval=10))
    agent.init(trainer_cfg={"timesteps": 20})
    train(agent)
    writes = [("write", step, 20) for step in (5, 10, 15, 20)]
    assert agent.called == [*writes[:2], ("checkpoint", 10, 20), *writes[2:], ("checkpoint", 20, 20)]
    assert keepfast.read_metrics(agent.experiment_dir)["Extra / Norm"].steps.tolist() == [5, 10, 15, 20]
    assert (agent.experiment_dir / "checkpoints" / "agent_20.safetensors").exists()


def test_a_closed_agent_takes_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """What would be lost after close is an error."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path))
    train(agent)
    for call in (lambda: agent.track_data("a", 1.0), agent.write_checkpoint, agent.resume, lambda: train(agent)):
        with pytest.raises(keepfast.UsageError, match="was closed"):
            call()
