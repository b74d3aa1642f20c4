"""What an agent may be given: models that are not there, settings that are left out, devices, a memory of its run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import keepfast
from keepfast.config import ExperimentConfig

Net = Any


class PPO(keepfast.Agent):
    """An agent that may lack a value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.checkpoint_modules["policy"] = self.models.get("policy", None)
        self.checkpoint_modules["value"] = self.models.get("value", None)


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"], **settings}}


def test_none_is_no_such_instance(net: Callable[..., Net], tmp_path: Path) -> None:
    """A role without a model runs, saves and loads; of a file that has one there is the warning, and nothing else."""
    whole = PPO({"policy": net(seed=1), "value": net(seed=2)}, cfg=cfg_in(tmp_path))
    path = whole.save(tmp_path / "agent.pt")
    agent = PPO({"policy": net(seed=3), "value": None}, cfg=cfg_in(tmp_path))
    agent.init({"timesteps": 4})
    with pytest.warns(keepfast.KeepfastWarning, match="^Cannot load the value module. The agent doesn't have such an"):
        report = agent.load(path)
    assert report.absent_modules == ("value",)
    for timestep in range(4):
        agent.post_interaction(timestep, 4)
    agent.close()
    saved = agent.save(tmp_path / "own.pt")
    other = PPO({"policy": net(seed=4)}, cfg=cfg_in(tmp_path))
    assert other.load(saved).absent_modules == ()
    np.testing.assert_array_equal(other.models["policy"].arrays["body"]["weight"], net(seed=1).arrays["body"]["weight"])


def test_a_module_that_is_none_cannot_be_asked_for(net: Callable[..., Net], tmp_path: Path) -> None:
    """A load of it by name is an error, as of any module that is not there."""
    path = PPO({"policy": net(), "value": net()}, cfg=cfg_in(tmp_path)).save(tmp_path / "agent.pt")
    with pytest.raises(keepfast.LoadMismatch, match="asked to load value, which the agent does not have"):
        PPO({"policy": net()}, cfg=cfg_in(tmp_path)).load(path, modules=["value"])


def test_an_experiment_takes_none_for_no_module(net: Callable[..., Net], tmp_path: Path) -> None:
    """What is registered as None is in no checkpoint."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=2) as experiment:
        experiment.register(policy=net(), value=None)
        experiment.step(0)
        experiment.step(1)
    modules = keepfast.Experiment(cfg_in(tmp_path))
    found = experiment.directory / "checkpoints" / "agent_2.safetensors"
    modules.register(policy=net())
    assert modules.resume(found) == 2
    modules.close()


@pytest.mark.parametrize("name", sorted(ExperimentConfig.model_fields))
def test_a_setting_that_is_none_is_left_out(name: str) -> None:
    """It has its default, in the level and by keyword."""
    default = getattr(ExperimentConfig(), name)
    assert getattr(ExperimentConfig({"experiment": {name: None}}), name) == default
    assert getattr(ExperimentConfig(**{name: None}), name) == default


def test_a_run_without_a_directory_and_name_is_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are None, as where they are not there at all."""
    monkeypatch.chdir(tmp_path)
    agent = PPO(cfg={"experiment": {"directory": None, "experiment_name": None, "wandb_kwargs": None}})
    assert agent.experiment_dir.parent == tmp_path / "runs"
    assert agent.experiment_dir.name.endswith("_PPO")


class Placing(keepfast.Backend):
    """A backend with two devices."""

    name = "placing"
    checkpoint_format = "safetensors"

    def recognizes(self, module: object) -> bool:
        return isinstance(module, Placed)

    def place(self, device: Any) -> Any:
        if device not in ("near", "far"):
            raise keepfast.InvalidValue(f"there is no device `{device}`; known: near, far")
        return device

    def capture(self, module: Any) -> Any:
        return module.arrays

    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        module.arrays, module.device = dict(state), device or module.device
        return module


class Placed:
    """A module that is on a device."""

    def __init__(self) -> None:
        self.arrays, self.device = {"x": np.zeros(2)}, "near"


@pytest.fixture
def placing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the backend with two devices in use."""
    from keepfast.plugins import backends

    found, made = backends._loaded, cast("Any", Placing)()
    monkeypatch.setattr(backends, "_loaded", lambda: iter([*found(), made]))


@pytest.mark.usefixtures("placing")
def test_a_load_puts_things_on_the_agents_device(net: Callable[..., Net], tmp_path: Path) -> None:
    """As a resume does; without a device each stays where it is, and modules of other frameworks do anyway."""
    for device, expected in ((None, "near"), ("far", "far")):
        agent = keepfast.Agent({"policy": Placed()}, device=device, cfg=cfg_in(tmp_path, checkpoint_interval=1))
        agent.checkpoint_modules["rest"] = [1.5, np.zeros(3)]
        path = agent.save(tmp_path / "agent.pt")
        agent.load(path)
        assert agent.models["policy"].device == expected
        agent.post_interaction(0, 2)
        agent.models["policy"].device = "near"
        assert agent.resume() == 1
        assert agent.models["policy"].device == expected
        agent.close()


@pytest.mark.usefixtures("placing")
def test_a_device_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    """By the agent and the experiment, which list what there is."""
    for models in ({"policy": Placed()}, None):
        with pytest.raises(keepfast.InvalidValue, match="no device `fra`; known: near, far"):
            keepfast.Agent(models, device="fra", cfg=cfg_in(tmp_path))
    with pytest.raises(keepfast.InvalidValue, match="no device `fra`"):
        keepfast.Experiment(cfg_in(tmp_path), device="fra")
    assert list(tmp_path.iterdir()) == []
