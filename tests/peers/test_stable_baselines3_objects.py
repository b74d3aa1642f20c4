"""Objects of stable-baselines3 itself: its normalization, its policies and optimizers, its replay buffer's samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402

gymnasium = pytest.importorskip("gymnasium")


def normalized(seed: int, steps: int) -> Any:
    envs = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2))
    envs.seed(seed)
    envs.reset()
    for step in range(steps):
        envs.step(np.array([step % 2, 1]))
    return envs


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_vec_normalize_comes_back(extension: str, tmp_path: Path) -> None:
    """It is registered as it is, and normalizes as the saved one does."""
    saved, other = normalized(1, 40), normalized(2, 10)
    path = keepfast.save(saved, tmp_path / f"normalize{extension}")
    assert keepfast.load(other, path)
    observation = np.array([[0.1, -0.2, 0.3, 0.4]] * 2)
    np.testing.assert_array_equal(other.normalize_obs(observation), saved.normalize_obs(observation))
    np.testing.assert_array_equal(other.normalize_reward(np.ones(2)), saved.normalize_reward(np.ones(2)))
    np.testing.assert_array_equal(other.returns, saved.returns)


def test_its_running_statistics_come_back_by_themselves(tmp_path: Path) -> None:
    """The `obs_rms` of a VecNormalize is a module too."""
    saved, other = normalized(1, 30), normalized(2, 5)
    keepfast.load(other.obs_rms, keepfast.save(saved.obs_rms, tmp_path / "rms.pt"))
    np.testing.assert_array_equal(other.obs_rms.mean, saved.obs_rms.mean)
    assert other.obs_rms.count == saved.obs_rms.count


@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "SAC"])
def test_a_policy_and_its_optimizers_come_back(algorithm: str, tmp_path: Path) -> None:
    """A model that has learned is taken up by one that has not, whose predictions are the same then."""
    env = "Pendulum-v1" if algorithm == "SAC" else "CartPole-v1"
    own = {"PPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1}}.get(algorithm, {"learning_starts": 8})
    models = [
        getattr(sb3, algorithm)("MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": [8]}, **own)
        for seed in (1, 2)
    ]
    models[0].learn(32)

    def modules(model: Any) -> dict[str, Any]:
        policy = model.policy
        owners = [part for part in (policy, getattr(policy, "actor", None), getattr(policy, "critic", None)) if part]
        optimizers = [each.optimizer for each in owners if getattr(each, "optimizer", None) is not None]
        return {"policy": policy, **{f"optimizer_{number}": each for number, each in enumerate(optimizers)}}

    path = keepfast.Agent(modules(models[0])).save(tmp_path / "agent.pt")
    assert keepfast.Agent(modules(models[1])).load(path)
    observation = np.asarray(models[0].observation_space.sample())
    first, second = (model.predict(observation, deterministic=True)[0] for model in models)
    np.testing.assert_array_equal(first, second)
    states = [repr({name: part.state_dict() for name, part in modules(model).items()}) for model in models]
    assert states[0] == states[1]


def test_a_memory_takes_what_its_environments_give() -> None:
    """Observations, actions, rewards and ends of a VecEnv are samples as they come."""
    envs = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    memory = keepfast_torch.RandomMemory(4, 3, device="cpu")
    memory.create_tensor("observations", envs.observation_space)
    memory.create_tensor("actions", envs.action_space)
    memory.create_tensor("rewards", 1)
    memory.create_tensor("dones", 1, dtype=torch.bool)
    observations: Any = envs.reset()
    for step in range(4):
        actions = np.array([step % 2, 1, 0])
        following, rewards, dones, _ = envs.step(actions)
        memory.add_samples(observations=observations, actions=actions, rewards=rewards, dones=dones)
        observations = following
    ((actions,),) = memory.sample_all(["actions"])
    assert actions.dtype == torch.int64
    assert actions[:, 0].tolist() == [0, 1, 0, 1, 1, 0] * 2
