"""Policies that rsl_rl trained, of its versions 3, 4 and 5, act alike in PyTorch and in Flax, on raw observations."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("rsl_rl")

import torch
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from tests.peers.acting import HIDDEN, Actor, assert_acts_alike

pytestmark = pytest.mark.filterwarnings("ignore")

LINE = int(version("rsl-rl-lib").partition(".")[0])
ENVS, LENGTH = 8, 20


class Env:
    """A state that is pushed about; what the runner asks of an environment."""

    num_envs, num_actions, max_episode_length, device = ENVS, 2, LENGTH, "cpu"
    cfg: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.episode_length_buf = torch.zeros(ENVS, dtype=torch.long)
        self.state = torch.randn(ENVS, 4) * 3 + 1

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": self.state}, batch_size=ENVS)

    def step(self, actions: Any) -> Any:
        self.state = 0.9 * self.state + torch.randn(ENVS, 4)
        self.state[:, :2] += actions.detach()
        self.episode_length_buf += 1
        done = self.episode_length_buf >= LENGTH
        self.episode_length_buf[done] = 0
        reward = -self.state.square().mean(-1)
        return self.get_observations(), reward, done.long(), {"time_outs": done, "log": {}}


def configuration() -> dict[str, Any]:
    algorithm = {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2, "schedule": "fixed"}
    groups = {name: ["policy"] for name in ("policy", "actor", "critic")}
    rest = {"num_steps_per_env": 8, "save_interval": 100, "logger": "tensorboard", "run_name": "run", "multi_gpu": None}
    return {"algorithm": algorithm, "obs_groups": groups, "check_for_nan": True, **rest, **networks()}


def networks() -> dict[str, Any]:
    """Return actor and critic as a version is told of them, with normalisers."""
    if LINE < 4:
        both = {f"{name}_hidden_dims": [*HIDDEN] for name in ("actor", "critic")}
        both |= {f"{name}_obs_normalization": True for name in ("actor", "critic")}
        return {"policy": {"class_name": "ActorCritic", "init_noise_std": 1.0, "activation": "elu", **both}}
    net = {"class_name": "MLPModel", "hidden_dims": [*HIDDEN], "activation": "elu", "obs_normalization": True}
    if LINE == 4:
        return {"actor": {**net, "init_noise_std": 1.0, "stochastic": True}, "critic": {**net, "stochastic": False}}
    distribution = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
    return {"actor": {**net, "distribution_cfg": distribution}, "critic": dict(net)}


def test_rsl_rl(tmp_path: Path) -> None:
    """Trained for three iterations; what its runner takes for inference gives the same actions."""
    torch.manual_seed(0)
    runner = OnPolicyRunner(Env(), configuration(), str(tmp_path / "logs"), "cpu")
    runner.learn(3)
    runner.save(str(tmp_path / "model_3.pt"))
    observations = np.random.default_rng(0).normal(size=(100, 4)).astype("float32") * 3
    with torch.no_grad():
        seen = TensorDict({"policy": torch.as_tensor(observations)}, batch_size=100)
        actions = runner.get_inference_policy("cpu")(seen).numpy()
    actor = Actor(4, 2, "elu", lambda x, mean, var: (x - mean) / (np.sqrt(var) + 1e-2))
    for report in assert_acts_alike(tmp_path / "model_3.pt", actor, observations, actions):
        assert report.reader == "rsl_rl"
        assert any("std + 0.01" in note for note in report.notes)
