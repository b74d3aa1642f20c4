"""Models of sbx, which is stable-baselines3 on JAX, attached: each algorithm that trains, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("stable_baselines3")
sbx = pytest.importorskip("sbx")
gymnasium = pytest.importorskip("gymnasium")

from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from keepfast import testing  # noqa: E402
from keepfast.adapters.stable_baselines3.adapter import StableBaselines3Adapter  # noqa: E402

OFF_POLICY: dict[str, Any] = {"learning_starts": 10, "batch_size": 8, "buffer_size": 48, "train_freq": 4}
KINDS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    "DQN": {**OFF_POLICY, "env": "CartPole-v1", "target_update_interval": 16},
    "SAC": OFF_POLICY,
    "TD3": OFF_POLICY,
    "TQC": OFF_POLICY,
    "CrossQ": OFF_POLICY,
}


def made(kind: str) -> tuple[Any, Any]:
    """Return a model of a kind, each time the same."""
    settings = dict(KINDS[kind])
    name = settings.pop("env", "Pendulum-v1")
    envs = DummyVecEnv([lambda: gymnasium.wrappers.TimeLimit(gymnasium.make(name), 11)])
    return getattr(sbx, kind)("MlpPolicy", envs, seed=3, policy_kwargs={"net_arch": [8]}, **settings), None


def train(model: Any, _env: Any, start: int, timesteps: int) -> None:
    model.learn(timesteps - start, reset_num_timesteps=False)


def state(model: Any) -> dict[str, Any]:
    """Return what training changes: all train states and keys, the samples, what comes next."""
    found: dict[str, Any] = {}
    for owner in (model, model.policy):
        for name, value in vars(owner).items():
            if name == "key" or name.endswith(("_state", "_key")):
                found[f"{type(owner).__name__} {name}"] = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    buffer = getattr(model, "replay_buffer", None)
    rows = {} if buffer is None else {name: each for name, each in vars(buffer).items() if isinstance(each, np.ndarray)}
    return {
        **found,
        "buffer": {name: each.copy() for name, each in rows.items()},
        "counters": [model.num_timesteps, model._n_updates, model._episode_num],
        "observed": np.array(model._last_obs),
    }


def subject_of(kind: str) -> testing.AdapterSubject:
    return testing.AdapterSubject(StableBaselines3Adapter(), lambda: made(kind), train, state, timesteps=64)


class TestStableBaselines3Adapter(testing.AdapterContract):
    @pytest.fixture(params=["PPO", "CrossQ"])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return subject_of(request.param)


@pytest.mark.parametrize("kind", ["DQN", "SAC", "TD3", "TQC"])
def test_each_other_algorithm_goes_on_exactly(kind: str, tmp_path: Path) -> None:
    """A fresh one that resumes from the middle ends, bit for bit, as the one that went through."""
    TestStableBaselines3Adapter().test_a_resumed_agent_becomes_the_uninterrupted_one(subject_of(kind), tmp_path)
