"""Models of stable-baselines3 attached: each algorithm that trains, killed and resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")
gymnasium = pytest.importorskip("gymnasium")

from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from keepfast import testing  # noqa: E402
from keepfast.adapters.stable_baselines3.adapter import StableBaselines3Adapter  # noqa: E402

OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 48, "env": "Pendulum-v1"}
KINDS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 16, "batch_size": 16, "n_epochs": 2},
    "PPO-normalized": {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "env": "Pendulum-v1", "normalize": True},
    "PPO-sde": {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "env": "Pendulum-v1", "use_sde": True},
    "A2C": {"n_steps": 8},
    "DQN": {**OFF_POLICY, "env": "CartPole-v1", "target_update_interval": 16, "train_freq": 2},
    "SAC": OFF_POLICY,
    "SAC-normalized": {**OFF_POLICY, "normalize": True, "use_sde": True},
    "TD3": {**OFF_POLICY, "noise": True},
    "DDPG": {**OFF_POLICY, "noise": True, "optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
}


def made(kind: str) -> tuple[Any, Any]:
    """Return a model of a kind of two environments, each time the same."""
    settings = dict(KINDS[kind])
    name, normalize = settings.pop("env", "CartPole-v1"), settings.pop("normalize", False)
    envs: Any = DummyVecEnv([lambda: gymnasium.wrappers.TimeLimit(gymnasium.make(name), 11)] * 2)
    envs = VecNormalize(envs) if normalize else envs
    if settings.pop("noise", False):
        settings["action_noise"] = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1))
    algorithm = getattr(sb3, kind.partition("-")[0])
    model = algorithm("MlpPolicy", envs, seed=3, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    return model, None


def train(model: Any, _env: Any, start: int, timesteps: int) -> None:
    model.learn(timesteps - start, reset_num_timesteps=False)


def state(model: Any) -> dict[str, Any]:
    """Return what training changes: all networks and optimizers, the samples, what comes next."""
    networks, tensors = model._get_torch_save_params()
    found = {name: each for name, each in model.get_parameters().items()}
    buffer = getattr(model, "replay_buffer", None)
    return {
        "networks": [leaf.numpy().copy() for name in networks for leaf in tensors_of(found[name])],
        "tensors": [getattr(model, name).detach().numpy().copy() for name in tensors],
        "buffer": {} if buffer is None else {
            name: value.copy() for name, value in vars(buffer).items() if isinstance(value, np.ndarray)
        },
        "counters": [model.num_timesteps, model._n_updates, model._episode_num],
        "observed": np.array(model._last_obs),
        "episodes": [(each["r"], each["l"]) for each in model.ep_info_buffer],
        "noise": [each.noise_prev.copy() for each in getattr(getattr(model, "action_noise", None), "noises", ())],
        "next": [np.array(model.env.step(np.array([model.action_space.sample()] * 2))[0]) for _ in range(15)],
    }


def tensors_of(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for each in node.values() for leaf in tensors_of(each)]
    return [node] if isinstance(node, torch.Tensor) else []


class TestStableBaselines3Adapter(testing.AdapterContract):
    @pytest.fixture(params=KINDS)
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            StableBaselines3Adapter(), lambda: made(request.param), train, state, timesteps=128
        )
