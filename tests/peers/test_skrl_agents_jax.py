"""skrl's PPO on JAX, of both its lines, run in its own trainer with `keepfast.Agent` in the place of its base class."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast_jax import RandomMemory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import flax.linen
    import gymnasium
    import jax
    import jax.numpy as jnp
    import skrl
    from skrl.agents.jax.ppo import PPO
    from skrl.envs.wrappers.jax import wrap_env
    from skrl.memories.jax import RandomMemory as OwnMemory
    from skrl.models.jax import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.jax import RunningStandardScaler
    from skrl.trainers.jax import SequentialTrainer

NEW = skrl.__version__ >= "2"
ROLLOUTS, TIMESTEPS = 16, 64
OBSERVED = "observations" if NEW else "states"

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


class Policy(GaussianMixin, Model):
    """A policy as skrl's examples have it."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        spaces = {"observation_space": observation_space, "action_space": action_space, "device": device}
        Model.__init__(self, **spaces, **kwargs)
        GaussianMixin.__init__(self)
        flax.linen.Module.__post_init__(self)

    @flax.linen.compact
    def __call__(self, inputs: Any, role: str) -> Any:
        mean = flax.linen.Dense(self.num_actions)(inputs[OBSERVED])
        log_std = self.param("log_std", lambda _: jnp.zeros(self.num_actions))
        return (mean, {"log_std": log_std}) if NEW else (mean, log_std, {})


class Value(DeterministicMixin, Model):
    """A value as skrl's examples have it."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        spaces = {"observation_space": observation_space, "action_space": action_space, "device": device}
        Model.__init__(self, **spaces, **kwargs)
        DeterministicMixin.__init__(self)
        flax.linen.Module.__post_init__(self)

    @flax.linen.compact
    def __call__(self, inputs: Any, role: str) -> Any:
        return flax.linen.Dense(1)(inputs[OBSERVED]), {}


@pytest.fixture(autouse=True)
def _clip_of_older_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give JAX the names back that skrl 1.4.3 calls it by."""
    clip = jnp.clip

    def both(x: Any, min: Any = None, max: Any = None, a_min: Any = None, a_max: Any = None) -> Any:  # noqa: A002
        return clip(x, a_min if min is None else min, a_max if max is None else max)

    monkeypatch.setattr(jnp, "clip", both)


@pytest.fixture
def env() -> Any:
    return wrap_env(gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync"), verbose=False)


@pytest.fixture
def rebased(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Return skrl's own PPO class over `keepfast.Agent`, its module imported anew."""
    monkeypatch.setattr("skrl.agents.jax.Agent", keepfast.Agent)
    spec = importlib.util.find_spec("skrl.agents.jax.ppo.ppo")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: type[Any] = module.PPO
    assert issubclass(made, keepfast.Agent)
    return made


def agent_of(kind: type[Any], memory: Any, directory: Path, name: str, env: Any) -> Any:
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    models = {"policy": Policy(**spaces, device=env.device), "value": Value(**spaces, device=env.device)}
    for role, model in models.items():
        model.init_state_dict(role=role)
    scaled = OBSERVED.removesuffix("s")
    settings: dict[str, Any] = {
        "rollouts": ROLLOUTS,
        "learning_epochs": 2,
        "mini_batches": 2,
        f"{scaled}_preprocessor": RunningStandardScaler,
        f"{scaled}_preprocessor_kwargs": {"size": env.observation_space, "device": env.device},
    }
    experiment = {"directory": str(directory), "experiment_name": name, "write_interval": 16, "checkpoint_interval": 32}
    if NEW:
        settings = {**settings, "experiment": experiment}
    else:
        default = importlib.import_module("skrl.agents.jax.ppo").PPO_DEFAULT_CONFIG
        settings = {**default, **settings, "experiment": {**experiment, "wandb_kwargs": {}}}
    return kind(models=models, memory=memory, cfg=settings, device=env.device, **spaces)


def trained(agent: Any, env: Any) -> Any:
    cfg = {"timesteps": TIMESTEPS, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    trainer = SequentialTrainer(cfg=cfg, env=env, agents=agent)
    trainer.train()
    return trainer


def values(agent: Any) -> list[Any]:
    """Return the parameters, and the statistics of the preprocessor."""
    scaler = getattr(agent, f"_{OBSERVED.removesuffix('s')}_preprocessor")
    held = (agent.policy.state_dict.params, agent.value.state_dict.params, scaler.state_dict.params)
    return [np.asarray(leaf).tolist() for leaf in jax.tree_util.tree_leaves(held)]


def optimizers(agent: Any) -> list[Any]:
    names = ["policy_optimizer", "value_optimizer"] if hasattr(agent, "policy_optimizer") else ["optimizer"]
    return [np.asarray(leaf).tolist() for leaf in jax.tree_util.tree_leaves([getattr(agent, each) for each in names])]


def test_the_agent_of_another_library_runs_over_ours(rebased: type[Any], env: Any, tmp_path: Path) -> None:
    """In its own trainer, with our memory; it learns, and is loaded, with the optimizers that it had in the end."""
    memory = RandomMemory(memory_size=ROLLOUTS, num_envs=2, device=env.device)
    agent = agent_of(rebased, memory, tmp_path, "ours", env)
    before = values(agent)
    trainer = trained(agent, env)
    assert (after := values(agent)) != before
    agent.wait()
    checkpoints = agent.experiment_dir / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("agent_*")) == ["agent_32.safetensors", "agent_64.safetensors"]
    tags = keepfast.read_metrics(agent.experiment_dir)
    assert list(tags["Loss / Policy loss"].steps) == [16, 32, 48, 64]
    trainer.eval()
    for way in ("load", "resume"):
        fresh = agent_of(rebased, None, tmp_path / way, "fresh", env)
        getattr(fresh, way)(checkpoints / "agent_64.safetensors")
        assert (values(fresh), optimizers(fresh)) == (after, optimizers(agent))
        fresh.close()
    agent.close()


def test_its_own_agent_loads_what_ours_stored(rebased: type[Any], env: Any, tmp_path: Path) -> None:
    """And ours loads what its own stored, without unpickling it."""
    own = agent_of(PPO, OwnMemory(memory_size=ROLLOUTS, num_envs=2, device=env.device), tmp_path, "own", env)
    trained(own, env)
    ours = agent_of(rebased, None, tmp_path, "ours", env)
    assert values(ours) != values(own)
    assert ours.load(Path(own.experiment_dir) / "checkpoints" / "agent_64.pickle")
    assert values(ours) == values(own)
    other = agent_of(PPO, None, tmp_path, "other", env)
    other.load(str(ours.save(tmp_path / "ours.pickle")))
    assert values(other) == values(own)
    ours.close()
