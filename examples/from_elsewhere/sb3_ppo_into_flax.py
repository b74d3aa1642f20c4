"""A PPO of stable-baselines3 goes on in Flax, with its normaliser: ``python FILE [TIMESTEPS]``."""

from __future__ import annotations

import sys
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import stable_baselines3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import keepfast
import keepfast_jax


class Mlp(nn.Module):
    """What stable-baselines3 calls an MlpPolicy: two layers of 64, with tanh."""

    outputs: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Return the outputs."""
        for _ in range(2):
            x = nn.tanh(nn.Dense(64)(x))
        return nn.Dense(self.outputs)(x)


def trained(timesteps: int) -> tuple[Any, Any]:
    """Train, and leave ``ppo.zip`` and ``ppo_vecnormalize.pkl``."""
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, seed=0, device="cpu")
    model.learn(timesteps)
    model.save("ppo.zip")
    env.save("ppo_vecnormalize.pkl")
    return model, env


def migrated() -> tuple[Any, dict[str, Any]]:
    """Return the policy in Flax and the statistics of its observations; nothing of stable-baselines3 is needed here."""
    policy, value = (keepfast_jax.Model(Mlp(1), Mlp(1).init(jax.random.key(0), jnp.zeros((1, 3)))) for _ in range(2))
    statistics = {"mean": jnp.zeros(3), "var": jnp.ones(3), "count": jnp.zeros(())}
    agent = keepfast.Agent({"policy": policy, "value": value})
    agent.checkpoint_modules["statistics"] = statistics
    report = agent.migrate("ppo.zip")
    print(report)
    return policy, statistics


if __name__ == "__main__":
    model, env = trained(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
    policy, statistics = migrated()
    observations = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    inputs = jnp.clip((observations - statistics["mean"]) / jnp.sqrt(statistics["var"] + 1e-8), -10, 10)
    actions = np.clip(policy.apply(inputs), -2, 2)
    expected, _ = model.predict(env.normalize_obs(observations), deterministic=True)
    print(f"the actions differ by at most {np.abs(actions - expected).max():.1e}")
