"""Every agent of skrl that keeps transitions trains with our memory as with its own, and its modules are kept by us."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory as SkrlMemory
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model, gaussian_model

import keepfast
import keepfast_torch

pytestmark = pytest.mark.filterwarnings("ignore")

NETWORK = [{"name": "net", "input": "OBSERVATIONS", "layers": [16], "activations": "tanh"}]
CRITIC = [{"name": "net", "input": "concatenate([OBSERVATIONS, ACTIONS])", "layers": [16], "activations": "tanh"}]
DISCRETE, CONTINUOUS = "CartPole-v1", "Pendulum-v1"
AGENTS = {
    ("PPO", CONTINUOUS): ("policy", "value"),
    ("PPO", DISCRETE): ("policy", "value"),
    ("A2C", CONTINUOUS): ("policy", "value"),
    ("A2C", DISCRETE): ("policy", "value"),
    ("RPO", CONTINUOUS): ("policy", "value"),
    ("CEM", DISCRETE): ("policy",),
    ("DQN", DISCRETE): ("q_network", "target_q_network"),
    ("DDQN", DISCRETE): ("q_network", "target_q_network"),
    ("DDPG", CONTINUOUS): ("policy", "target_policy", "critic", "target_critic"),
    ("TD3", CONTINUOUS): ("policy", "target_policy", "critic_1", "critic_2", "target_critic_1", "target_critic_2"),
    ("SAC", CONTINUOUS): ("policy", "critic_1", "critic_2", "target_critic_1", "target_critic_2"),
}
"""The agents by name and environment, with the roles of their models."""

ON_POLICY = {"PPO", "A2C", "RPO", "CEM"}


def model(name: str, role: str, spaces: dict[str, Any]) -> Any:
    if role == "value":
        return deterministic_model(**spaces, network=NETWORK, output="ONE")
    if "critic" in role:
        return deterministic_model(**spaces, network=CRITIC, output="ONE")
    if "q_network" in role or name in {"DDPG", "TD3"}:
        return deterministic_model(**spaces, network=NETWORK, output="ACTIONS")
    discrete = isinstance(spaces["action_space"], gymnasium.spaces.Discrete)
    return (categorical_model if discrete else gaussian_model)(**spaces, network=NETWORK, output="ACTIONS")


def trained(name: str, task: str, memory: Any, folder: Path, timesteps: int = 24) -> Any:
    """Return an agent that was trained for a few timesteps with a kind of memory, from one seed."""
    set_seed(7)
    vector = gymnasium.make_vec(task, num_envs=2, vectorization_mode="sync")
    vector.reset = functools.partial(vector.reset, seed=7)
    env = wrap_env(vector)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    env.action_space.seed(7)
    models = {role: model(name, role, spaces) for role in AGENTS[name, task]}
    experiment = {"directory": str(folder), "write_interval": 0, "checkpoint_interval": 0}
    cfg = {"rollouts": 8} if name in ON_POLICY else {"batch_size": 8, "learning_starts": 4, "random_timesteps": 4}
    module = importlib.import_module(f"skrl.agents.torch.{name.lower()}")
    agent = getattr(module, name)(
        models=models,
        memory=memory(memory_size=8 if name in ON_POLICY else 32, num_envs=2, device="cpu"),
        cfg={**cfg, "experiment": experiment},
        **spaces,
    )
    settings = {"timesteps": timesteps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(cfg=settings, env=env, agents=agent).train()
    return agent


def weights(agent: Any) -> dict[str, Any]:
    return {name: module.state_dict() for name, module in agent.checkpoint_modules.items()}


@pytest.mark.parametrize(("name", "task"), AGENTS)
def test_an_agent_of_skrl_trains_with_our_memory(name: str, task: str, tmp_path: Path) -> None:
    """Until it draws samples, it keeps what it keeps in skrl's memory, and what it has learned is kept."""
    ours = trained(name, task, keepfast_torch.RandomMemory, tmp_path / "ours")
    theirs = trained(name, task, SkrlMemory, tmp_path / "theirs")
    assert sorted(ours.memory.get_tensor_names()) == sorted(theirs.memory.get_tensor_names())
    assert (ours.memory.memory_index, ours.memory.filled) == (theirs.memory.memory_index, theirs.memory.filled)
    made = keepfast_torch.RandomMemory, SkrlMemory
    first, second = (trained(name, task, each, tmp_path / each.__module__, timesteps=4) for each in made)
    for tensor in set(first.memory.get_tensor_names()) - {"advantages", "returns"}:  # which no step has yet
        kept = (agent.memory.get_tensor_by_name(tensor)[:4].float() for agent in (first, second))
        assert torch.equal(*kept), tensor
    path = keepfast.Agent(ours.checkpoint_modules).save(tmp_path / "agent.pt")
    assert keepfast.Agent(theirs.checkpoint_modules).load(path)
    assert repr(weights(ours)) == repr(weights(theirs))


@pytest.mark.parametrize("name", ["AMP", "TRPO", "Q_LEARNING", "SARSA", "IPPO", "MAPPO", "the recurrent agents"])
def test_further_agents_of_skrl(name: str) -> None:
    """Some have no transitions to keep, or need what no test here has."""
    reasons = {
        "AMP": "imitates motions; it trains on drawn ones in test_skrl_agents.py",
        "TRPO": "trains in test_skrl_agents.py, where its models have their shapes before",
        "Q_LEARNING": "has a table and no memory; it trains in test_skrl_agents.py",
        "SARSA": "has a table and no memory; it trains in test_skrl_agents.py",
        "IPPO": "has a memory for each agent of an environment of several, each used as PPO's is",
        "MAPPO": "has a memory for each agent of an environment of several, each used as PPO's is",
        "the recurrent agents": "draw sequences, which tests/core/memories asks of our memories",
    }
    pytest.skip(reasons[name])
