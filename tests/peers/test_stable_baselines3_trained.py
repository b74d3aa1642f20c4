"""Policies that stable-baselines3 trained act alike in PyTorch and in Flax, on raw observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

stable_baselines3 = pytest.importorskip("stable_baselines3")

import gymnasium  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from tests.core.migration.library_rows import algorithms  # noqa: E402
from tests.peers.acting import HIDDEN, Actor, assert_acts_alike  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

LOW, HIGH = -2.0, 2.0
"""The torque of the pendulum."""


def scaled(outputs: Any) -> Any:
    return LOW + (np.tanh(outputs) + 1) * (HIGH - LOW) / 2


def normalised(x: Any, mean: Any, var: Any) -> Any:
    return np.clip((x - mean) / np.sqrt(var + 1e-8), -10, 10)


ACTORS = {
    "PPO": Actor(3, 1, "tanh", normalised, lambda outputs: np.clip(outputs, LOW, HIGH)),
    "A2C": Actor(3, 1, "tanh", normalised, lambda outputs: np.clip(outputs, LOW, HIGH)),
    "SAC": Actor(3, 1, "relu", normalised, scaled, heads=True, critic=False),
    "TD3": Actor(3, 1, "relu", normalised, scaled, critic=False),
    "DDPG": Actor(3, 1, "relu", normalised, scaled, critic=False),
    "DQN": Actor(4, 2, "relu", normalised, lambda outputs: np.argmax(outputs, -1), critic=False),
}


def test_the_algorithms_are_those_of_the_docs() -> None:
    """The table there says what is trained here."""
    assert set(ACTORS) == algorithms("stable-baselines3")


@pytest.mark.parametrize("name", ACTORS)
def test_stable_baselines3(name: str, tmp_path: Path) -> None:
    """Trained for some steps with VecNormalize, whose statistics lie beside the archive; `predict` gives the same."""
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1" if name == "DQN" else "Pendulum-v1")]))
    more = {"n_steps": 32} if name == "PPO" else {"learning_starts": 8} if name != "A2C" else {}
    kind = getattr(stable_baselines3, name)
    model = kind("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [*HIDDEN]}, **more)
    model.learn(96)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "vecnormalize.pkl"))
    observations = np.random.default_rng(0).normal(size=(100, ACTORS[name].inputs))
    actions, _ = model.predict(env.normalize_obs(observations).astype("float32"), deterministic=True)
    for report in assert_acts_alike(tmp_path / "model.zip", ACTORS[name], observations, actions):
        assert report.library == f"stable-baselines3 {stable_baselines3.__version__}"
