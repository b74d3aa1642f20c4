"""The cases of skrl's own tests of its agents, written anew, for its sources on the index ship none of them.

52 on PyTorch and 22 on JAX: every agent, with each kind of policy, separate and shared models, with states beside the
observations and without. Each trains in skrl's own trainer over `keepfast.Agent` and our memory, its settings drawn.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skrl
import torch
from gymnasium.spaces import Box, Discrete

import keepfast
import keepfast_jax
import keepfast_torch

pytestmark = pytest.mark.filterwarnings("ignore")

DRAWS = {"torch": 2, "jax": 1}
"""How often each case is drawn; JAX compiles every agent anew."""

MEMORIES = {"torch": keepfast_torch.RandomMemory, "jax": keepfast_jax.RandomMemory}
DISCRETE = {"CEM", "DQN", "DDQN", "CategoricalMixin"}
ON_POLICY = {"A2C", "PPO", "RPO", "TRPO", "AMP", "CEM"}
ROLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("A2C", "PPO", "RPO", "TRPO"), ("policy", "value")),
    "AMP": ("policy", "value", "discriminator"),
    **dict.fromkeys(("CEM", "Q_LEARNING", "SARSA"), ("policy",)),
    **dict.fromkeys(("DQN", "DDQN"), ("q_network", "target_q_network")),
    "DDPG": ("policy", "target_policy", "critic", "target_critic"),
    "TD3": ("policy", "target_policy", "critic_1", "critic_2", "target_critic_1", "target_critic_2"),
    "SAC": ("policy", "critic_1", "critic_2", "target_critic_1", "target_critic_2"),
}
GAUSSIANS = ("GaussianMixin", "MultivariateGaussianMixin")

Case = tuple[str, str, str, bool, bool]
"""A framework, an agent, the kind of its policy, whether its models are separate, and whether there are states."""


def cases() -> Iterator[Case]:
    for states in (True, False):
        for agent in ("A2C", "PPO", "RPO"):
            kinds = GAUSSIANS if agent == "RPO" else (*GAUSSIANS, "CategoricalMixin")
            yield from (("torch", agent, kind, separate, states) for kind in kinds for separate in (True, False))
            yield from (("jax", agent, kind, True, states) for kind in kinds if kind != GAUSSIANS[1])
        yield from (("torch", "TRPO", kind, True, states) for kind in GAUSSIANS)
        yield "torch", "AMP", "GaussianMixin", True, states
        for agent in ("CEM", "DDPG", "DDQN", "DQN", "SAC", "TD3"):
            yield from ((framework, agent, "", True, states) for framework in ("torch", "jax"))
    yield from (("torch", agent, "", True, True) for agent in ("Q_LEARNING", "SARSA"))


CASES = sorted(cases())


def test_the_cases_are_as_many_as_skrls() -> None:
    """Of each framework."""
    assert [sum(case[0] == framework for case in CASES) for framework in ("torch", "jax")] == [52, 22]


class Drawn:
    """An environment of any spaces as skrl's wrappers show it, of which everything is drawn."""

    num_agents = 1

    def __init__(self, framework: str, seen: Any, states: Any, done: Any, num_envs: int) -> None:
        self.observation_space, self.state_space, self.action_space = seen, states, done
        self.num_envs, self._framework = num_envs, framework
        self.device = getattr(skrl.config, framework).parse_device("cpu")
        self._drawn = np.random.default_rng(0)

    def _array(self, values: Any) -> Any:
        return torch.as_tensor(values) if self._framework == "torch" else jnp.asarray(values)

    def drawn(self, space: Any, count: int | None = None) -> Any:
        rows = self.num_envs if count is None else count
        if isinstance(space, Discrete):
            return self._array(self._drawn.integers(space.n, size=(rows, 1)))
        return self._array(self._drawn.uniform(-1, 1, (rows, *space.shape)).astype(np.float32))

    def reset(self) -> tuple[Any, dict[str, Any]]:
        return self.drawn(self.observation_space), {}

    def state(self) -> Any:
        return None if self.state_space is None else self.drawn(self.state_space)

    def step(self, actions: Any) -> tuple[Any, ...]:
        assert len(actions) == self.num_envs
        rewards = self._array(self._drawn.uniform(size=(self.num_envs, 1)).astype(np.float32))
        ends = (self._array(self._drawn.uniform(size=(self.num_envs, 1)) < 0.05) for _ in range(2))
        return self.drawn(self.observation_space), rewards, *ends, {}

    def render(self, *_: Any, **__: Any) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Leave everything as it is."""


def network(given: str) -> list[dict[str, Any]]:
    return [{"name": "net", "input": given, "layers": [5], "activations": "relu"}]


def model(case: Case, role: str, env: Drawn) -> Any:
    framework, agent, kind, _, has_states = case
    makers = importlib.import_module(f"skrl.utils.model_instantiators.{framework}")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    seen = "STATES" if has_states else "OBSERVATIONS"
    if agent in ("Q_LEARNING", "SARSA"):
        options = {"variant": "epsilon-greedy", "variant_kwargs": {"epsilon": 0.1}}
        return makers.tabular_model(**spaces, state_space=env.state_space, **options)
    if role == "discriminator":
        spaces["observation_space"] = Box(-1, 1, (10,))
    one = role in ("value", "discriminator") or "critic" in role
    given = f"concatenate([{seen}, ACTIONS])" if "critic" in role else seen if role == "value" else "OBSERVATIONS"
    maker = "deterministic_model"
    if role == "policy" and agent not in ("DDPG", "TD3"):
        maker = {"": "gaussian_model" if agent == "SAC" else "categorical_model"}.get(
            kind, f"{kind.removesuffix('Mixin').replace('eG', 'e_g').lower()}_model"
        )
    made = getattr(makers, maker)(
        **spaces, state_space=env.state_space, network=network(given), output="ONE" if one else "ACTIONS"
    )
    made.init_state_dict(role=role)
    return made


def shared(case: Case, env: Drawn) -> Any:
    _, _, kind, _, has_states = case
    from skrl.utils.model_instantiators.torch import shared_model

    given = ("OBSERVATIONS", "ACTIONS"), ("STATES" if has_states else "OBSERVATIONS", "ONE")
    made = shared_model(
        observation_space=env.observation_space, state_space=env.state_space, action_space=env.action_space,
        device=env.device, structure=[kind, "DeterministicMixin"], roles=["policy", "value"],
        parameters=[{"network": network(seen), "output": output} for seen, output in given],
    )  # fmt: skip
    for role in ("policy", "value"):
        made.init_state_dict(role=role)
    return made


def settings(case: Case, env: Drawn, draw: random.Random, known: Any) -> dict[str, Any]:
    """Return settings of an agent, of which those are taken that it knows."""
    resources = f"skrl.resources.preprocessors.{case[0]}"
    scaler = importlib.import_module(resources).RunningStandardScaler
    rates = importlib.import_module(f"skrl.resources.schedulers.{case[0]}").KLAdaptiveLR
    drawn: dict[str, Any] = {
        "rollouts": draw.randint(2, 5), "learning_epochs": draw.randint(1, 3), "mini_batches": draw.randint(1, 2),
        "discount_factor": draw.random(), "gae_lambda": draw.random(), "grad_norm_clip": draw.random(),
        "ratio_clip": draw.random(), "value_clip": draw.random(), "entropy_loss_scale": draw.random(),
        "value_loss_scale": draw.uniform(0.1, 1), "kl_threshold": draw.random(), "polyak": draw.random(),
        "time_limit_bootstrap": draw.random() < 0.5, "batch_size": draw.randint(1, 5), "gradient_steps": 1,
        "rewards_shaper": draw.choice([None, lambda rewards, *_, **__: 0.5 * rewards]), "percentile": draw.random(),
        "alpha": draw.random(), "update_interval": 1, "target_update_interval": draw.randint(1, 3),
        "learn_entropy": draw.random() < 0.5, "amp_batch_size": draw.randint(1, 5), "policy_delay": 1,
        "discriminator_batch_size": draw.randint(1, 5),
    }  # fmt: skip
    for name, space in (("observation", env.observation_space), ("state", env.state_space), ("value", 1)):
        if draw.random() < 0.5 and space is not None and not isinstance(space, Discrete):
            drawn[f"{name}_preprocessor"] = scaler
            drawn[f"{name}_preprocessor_kwargs"] = {"size": space, "device": env.device}
    if case[1] in ("A2C", "PPO", "RPO") and draw.random() < 0.5:
        drawn |= {"learning_rate_scheduler": rates, "learning_rate_scheduler_kwargs": {"kl_threshold": draw.random()}}
    return {name: value for name, value in drawn.items() if hasattr(known, name)}


def rebased(framework: str, agent: str, monkeypatch: pytest.MonkeyPatch) -> tuple[type[Any], Any]:
    """Return a class of agents of skrl over `keepfast.Agent`, its module imported anew, and its settings' class."""
    package = f"skrl.agents.{framework}.{agent.lower()}"
    known = getattr(importlib.import_module(package), f"{agent}_CFG")
    monkeypatch.setattr(f"skrl.agents.{framework}.Agent", keepfast.Agent)
    spec = importlib.util.find_spec(f"{package}.{agent.lower()}")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: type[Any] = getattr(module, agent)
    assert issubclass(made, keepfast.Agent)
    return made, known


def spaces_of(case: Case) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any] | None, gymnasium.Space[Any]]:
    _, agent, kind, _, has_states = case
    if agent in ("Q_LEARNING", "SARSA"):
        return Discrete(3), Discrete(4), Discrete(5)
    return (
        Box(-1, 1, (4,)),
        Box(-1, 1, (5,)) if has_states else None,
        (Discrete(3) if DISCRETE & {agent, kind} else Box(-1, 1, (3,))),
    )


def motions(env: Drawn, memory: Callable[..., Any]) -> dict[str, Any]:
    """Return what AMP is given beside the others: motions to imitate."""
    space = Box(-1, 1, (10,))
    step = env.step
    env.step = lambda actions: (*step(actions)[:4], {"amp_obs": env.drawn(space)})  # type: ignore[method-assign]
    return {
        "amp_observation_space": space,
        "motion_dataset": memory(memory_size=50),
        "reply_buffer": memory(memory_size=100),
        "collect_reference_motions": lambda count: env.drawn(space, count),
    }


def values(agent: Any) -> list[bytes]:
    """Return all parameters and tables of an agent, bit for bit."""
    found: list[bytes] = []
    for made in agent.models.values():
        state = made.state_dict
        tree = state() if callable(state) else state.params
        found += [np.asarray(leaf).tobytes() for leaf in jax.tree_util.tree_leaves(dict(tree))]
        found += [table.numpy().tobytes() for table in vars(made).values() if isinstance(table, torch.Tensor)]
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_an_agent_of_skrl(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains over ours, learns in one of some trainings at least, and what it has learned is kept."""
    framework, name, _, separate, _ = case
    made, known = rebased(framework, name, monkeypatch)
    memory = MEMORIES[framework]
    trainer = importlib.import_module(f"skrl.trainers.{framework}").SequentialTrainer
    learns = False
    for number in range(DRAWS[framework]):
        draw = random.Random(f"{case} {number}")
        skrl.utils.set_seed(number)
        env = Drawn(framework, *spaces_of(case), num_envs=draw.randint(1, 5))
        models = {role: model(case, role, env) for role in ROLES[name]} if separate else {}
        models = models or dict.fromkeys(("policy", "value"), shared(case, env))
        cfg = settings(case, env, draw, known())
        cfg["experiment"] = {"directory": str(tmp_path), "experiment_name": str(number), "write_interval": 5}
        given = motions(env, memory) if name == "AMP" else {}
        size = cfg.get("rollouts", 50)
        agent = made(
            models=models, memory=memory(memory_size=size, num_envs=env.num_envs, device=env.device), cfg=cfg,
            observation_space=env.observation_space, state_space=env.state_space, action_space=env.action_space,
            device=env.device, **given,
        )  # fmt: skip
        before = values(agent)
        steps = {"timesteps": 5 * size if name in ON_POLICY else 15, "headless": True, "disable_progressbar": True}
        trainer(cfg={**steps, "close_environment_at_exit": False}, env=env, agents=agent).train()
        learns |= (learned := values(agent)) != before
        path = agent.save(tmp_path / f"agent{number}{'.pt' if framework == 'torch' else '.safetensors'}")
        assert keepfast.read_checkpoint(path).keys() >= {role for role in models if role in agent.checkpoint_modules}
        assert agent.load(path)
        assert values(agent) == learned
        agent.close()
    assert learns
