"""Agents of skrl on JAX, of both its lines, in environments of Gymnasium: those of the table that it has there."""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import flax.linen
    import jax
    import jax.numpy as jnp
    import skrl
    from skrl.envs.wrappers.jax import wrap_env
    from skrl.memories.jax import RandomMemory
    from skrl.models.jax import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.jax import RunningStandardScaler
    from skrl.resources.schedulers.jax import KLAdaptiveLR
    from skrl.trainers.jax import SequentialTrainer

    from tests.peers import skrl_torch

EXTENSION, rows = ".pickle", skrl_torch.rows
PRELOADED = ("jax", "flax.linen", "torch", "gymnasium", "keepfast.experiment")
"""As of `skrl_torch`, without skrl: its import starts JAX's threads, which no process that is forked has."""
NEW, OBSERVED, ENVS = skrl_torch.NEW, skrl_torch.OBSERVED, skrl_torch.ENVS
KINDS = [kind for kind in skrl_torch.KINDS if kind not in ("AMP", "Q-learning", "SARSA", "TRPO")]
"""Those that skrl has on JAX."""

clip = jnp.clip


def clip_as_before(x: Any, min: Any = None, max: Any = None, a_min: Any = None, a_max: Any = None) -> Any:  # noqa: A002
    """Clip by the names that skrl 1.4.3 has for the bounds, which JAX has no more."""
    return clip(x, a_min if min is None else min, a_max if max is None else max)


def prepare() -> None:
    """Make ready a process of its own for skrl 1.4.3."""
    jnp.clip = clip_as_before


def model_of(base: type[Any], outputs: int, takes_actions: bool) -> type[Any]:
    class Net(base, Model):  # type: ignore[misc]
        def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
            spaces = {"observation_space": observation_space, "action_space": action_space, "device": device}
            Model.__init__(self, **spaces, **kwargs)
            base.__init__(self)
            flax.linen.Module.__post_init__(self)

        @flax.linen.compact
        def __call__(self, inputs: Any, role: str) -> Any:
            given = [inputs[OBSERVED], inputs["taken_actions"]] if takes_actions else [inputs[OBSERVED]]
            hidden = flax.linen.tanh(flax.linen.Dense(16)(jnp.concatenate(given, axis=-1)))
            made = flax.linen.Dense(outputs or self.num_actions)(hidden)
            if base is not GaussianMixin:
                return made, {}
            log_std = self.param("log_std", lambda _: jnp.zeros(self.num_actions))
            return (made, {"log_std": log_std}) if NEW else (made, log_std, {})

    return Net


OURS = {
    skrl_torch.Gaussian: model_of(GaussianMixin, 0, False),
    skrl_torch.Actor: model_of(DeterministicMixin, 0, False),
    skrl_torch.Categorical: model_of(CategoricalMixin, 0, False),
    skrl_torch.Value: model_of(DeterministicMixin, 1, False),
    skrl_torch.Critic: model_of(DeterministicMixin, 1, True),
}


def features(kind: str, env: Any) -> dict[str, Any]:
    scaled = {"size": env.observation_space, "device": env.device}
    found: dict[str, Any] = {f"{OBSERVED[:-1]}_preprocessor": RunningStandardScaler}
    found[f"{OBSERVED[:-1]}_preprocessor_kwargs"] = scaled
    if kind in ("PPO", "A2C"):
        found |= {"learning_rate_scheduler": KLAdaptiveLR, "learning_rate_scheduler_kwargs": {"kl_threshold": 0.008}}
        found |= {"value_preprocessor": RunningStandardScaler, "value_preprocessor_kwargs": {"size": 1}}
        found |= {"entropy_loss_scale": 0.01, "time_limit_bootstrap": True}
    if kind in ("DQN", "DDQN") and NEW:
        found |= {"exploration_scheduler": lambda timestep, timesteps: 0.05 + 0.95 * 0.99**timestep}
    return found


def agent_and_env(kind: str, directory: Path, *, enabled: bool = True, **experiment: Any) -> tuple[Any, Any]:
    skrl_torch.seed(7)
    skrl.config.jax.key = 7
    where, _, roles, settings = skrl_torch.KINDS[kind]
    made_env = skrl_torch.vector_environment(kind)
    env = wrap_env(made_env, verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    models = {role: OURS[model](**spaces, device=env.device) for role, model in roles.items()}
    for role, model in models.items():
        model.init_state_dict(role=role)
    memory = RandomMemory(memory_size=settings.get("rollouts", 500), num_envs=ENVS, device=env.device)
    package, name = where.split(".")
    module = importlib.import_module(f"skrl.agents.jax.{package}")
    given = {**settings, **(features(kind, env) if enabled else {})}
    if kind in ("DQN", "DDQN"):
        given["random_timesteps"] = 0  # which skrl 1.4.3 has not made yet
    own = {"directory": str(directory), "experiment_name": "run", "write_interval": 16, "checkpoint_interval": 32}
    cfg = {**given, "experiment": {**own, **experiment}}
    if not NEW:
        cfg = {
            **getattr(module, f"{name}_DEFAULT_CONFIG"),
            **given,
            "experiment": {**own, **experiment, "wandb_kwargs": {}},
        }
    agent = getattr(module, name)(models=models, memory=memory, cfg=cfg, device=env.device, **spaces)
    return agent, env


trainer_of = partial(skrl_torch.trainer_of, kind=SequentialTrainer)
train = partial(skrl_torch.train, kind=SequentialTrainer)


def models(agent: Any) -> dict[str, Any]:
    return {role: leaves(model.state_dict.params) for role, model in agent.models.items()}


def state(agent: Any) -> dict[str, Any]:
    """Return everything that training changes: parameters, optimizers as they are now, preprocessors, memories."""
    found: dict[str, Any] = {}
    for name, each in vars(agent).items():
        if hasattr(each, "transformation"):
            found[name] = leaves(each.state)
    for name, each in agent.checkpoint_modules.items():
        if hasattr(each, "state_dict"):
            found[name] = leaves(each.state_dict.params)
    return {**found, "memory": {name: np.asarray(each) for name, each in agent.memory.tensors.items()}}


def leaves(tree: Any) -> list[Any]:
    return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(tree)]
