"""Optimizers of other libraries, trained by them or stepped as they do, into torch.optim and into optax."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import optax
import pytest
import torch
from torch import nn

import keepfast

pytestmark = pytest.mark.filterwarnings("ignore")

SIZE = 16


def mlp(ins: int, outs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(ins, SIZE), nn.Tanh(), nn.Linear(SIZE, SIZE), nn.Tanh(), nn.Linear(SIZE, outs))


def stepped(optimizer: torch.optim.Optimizer, steps: int = 3) -> torch.optim.Optimizer:
    """Make steps on random gradients, as a library's own training would on others."""
    for _ in range(steps):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return optimizer


def moments(optimizer: torch.optim.Optimizer, parameters: Iterable[Any]) -> list[Any]:
    return [optimizer.state[parameter]["exp_avg"].numpy() for parameter in parameters]


class Flax:
    """A policy and a value function of Flax with an optimizer each."""

    def __init__(self, ins: int, outs: int) -> None:
        self.agent = keepfast.Agent({})
        for role, width in (("policy", outs), ("value", 1)):
            sizes = [(ins, SIZE), (SIZE, SIZE), (SIZE, width)]
            layers = {
                f"Dense_{i}": {"kernel": np.zeros(s, "f4"), "bias": np.zeros(s[1], "f4")} for i, s in enumerate(sizes)
            }
            setattr(self, role, jax.tree.map(jax.numpy.asarray, layers))
            setattr(self, f"{role}_state", optax.adam(1e-3).init(getattr(self, role)))
            self.agent.checkpoint_modules[role] = keepfast.attribute(self, role)
            self.agent.checkpoint_modules[f"{role}_optimizer"] = keepfast.attribute(self, f"{role}_state")

    def moments(self, role: str) -> list[Any]:
        mu = getattr(self, f"{role}_state")[0].mu
        return [np.asarray(mu[f"Dense_{i}"][name]).T for i in range(3) for name in ("kernel", "bias")]


def assert_carried(path: Path, expected: dict[str, list[Any]], ins: int, outs: int) -> None:
    """Migrate a file to both frameworks; what their optimizers keep is what the library's did."""
    nets = {"policy": mlp(ins, outs), "value": mlp(ins, 1)}
    optimizer = torch.optim.Adam([*nets["policy"].parameters(), *nets["value"].parameters()])
    report = keepfast.Agent({**nets, "optimizer": optimizer}).migrate(path)
    assert report
    assert report.optimizers[0].status == "migrated", report
    other = Flax(ins, outs)
    report = other.agent.migrate(path)
    assert [each.status for each in report.optimizers] == ["migrated", "migrated"], report
    for role, arrays in expected.items():
        np.testing.assert_equal(moments(optimizer, nets[role].parameters()), arrays)
        np.testing.assert_equal(other.moments(role), arrays)


def test_stable_baselines3(tmp_path: Path) -> None:
    """Its PPO, trained for some steps."""
    from stable_baselines3 import PPO

    kwargs = {"net_arch": [SIZE, SIZE]}
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=32, n_epochs=1, seed=0, device="cpu", policy_kwargs=kwargs).learn(
        32
    )
    model.save(tmp_path / "model.zip")
    policy, body = model.policy, model.policy.mlp_extractor
    layers = {
        "policy": [*body.policy_net.parameters(), *policy.action_net.parameters()],
        "value": [*body.value_net.parameters(), *policy.value_net.parameters()],
    }
    expected = {role: moments(policy.optimizer, parameters) for role, parameters in layers.items()}
    assert_carried(tmp_path / "model.zip", expected, 3, 1)


def test_stable_baselines3_with_twin_critics(tmp_path: Path) -> None:
    """Its SAC has an optimizer of the actor and one of both critics, and targets of the same structure."""
    from stable_baselines3 import SAC

    kwargs = {"net_arch": [SIZE, SIZE], "activation_fn": nn.Tanh}
    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=4, device="cpu", policy_kwargs=kwargs).learn(12)
    model.save(tmp_path / "model.zip")
    names = ("critic_1", "critic_2", "target_critic_1", "target_critic_2")
    critics = {name: mlp(4, 1) for name in names}
    optimizer = torch.optim.Adam([*critics["critic_1"].parameters(), *critics["critic_2"].parameters()])
    report = keepfast.Agent({**critics, "critic_optimizer": optimizer}).migrate(tmp_path / "model.zip")
    assert str(report.optimizers[0]) == "optimizer critic_optimizer: migrated <- critic (Adam, 8 steps)"
    for name, theirs in zip(names, model.critic.q_networks, strict=False):
        expected = moments(model.critic.optimizer, theirs.parameters())
        np.testing.assert_equal(moments(optimizer, critics[name].parameters()), expected)


def test_skrl(tmp_path: Path) -> None:
    """Its PPO has one optimizer of policy and value."""
    from skrl.agents.torch.ppo import PPO
    from skrl.utils.model_instantiators.torch import deterministic_model, gaussian_model

    spaces = {"observation_space": gymnasium.spaces.Box(-1, 1, (4,)), "action_space": gymnasium.spaces.Box(-1, 1, (2,))}
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [SIZE, SIZE], "activations": "elu"}]
    models = {
        "policy": gaussian_model(device="cpu", network=network, output="ACTIONS", **spaces),
        "value": deterministic_model(device="cpu", network=network, output="ONE", **spaces),
    }
    for role, model in models.items():
        model.init_state_dict(role=role)
    agent = PPO(models=models, memory=None, device="cpu", cfg={}, **spaces)
    stepped(agent.optimizer)
    agent.save(str(tmp_path / "agent.pt"))
    trained = {role: [p for name, p in net.named_parameters() if "log_std" not in name] for role, net in models.items()}
    expected = {role: moments(agent.optimizer, parameters) for role, parameters in trained.items()}
    assert_carried(tmp_path / "agent.pt", expected, 4, 2)


def test_rsl_rl(tmp_path: Path) -> None:
    """Its PPO has one optimizer of actor and critic, which stand in the file one behind the other."""
    from rsl_rl.models import MLPModel
    from tensordict import TensorDict

    seen = TensorDict({"policy": torch.randn(8, 4)}, batch_size=8)
    groups = {"actor": ["policy"], "critic": ["policy"]}
    gaussian = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution"}
    actor = MLPModel(seen, groups, "actor", 2, [SIZE, SIZE], "elu", True, gaussian)
    critic = MLPModel(seen, groups, "critic", 1, [SIZE, SIZE], "elu", True)
    optimizer = stepped(torch.optim.Adam([*actor.parameters(), *critic.parameters()]))
    states = {"actor_state_dict": actor.state_dict(), "critic_state_dict": critic.state_dict()}
    states["optimizer_state_dict"] = optimizer.state_dict()
    torch.save({**states, "iter": 1, "infos": None}, tmp_path / "model_1.pt")
    expected = {
        "policy": moments(optimizer, actor.mlp.parameters()),
        "value": moments(optimizer, critic.mlp.parameters()),
    }
    assert_carried(tmp_path / "model_1.pt", expected, 4, 2)


def test_rl_games(tmp_path: Path) -> None:
    """Actor and critic apart; where they are on one trunk, its moments are of both, and stay behind."""
    from rl_games.algos_torch import models, network_builder

    nothing = {"name": "default"}
    space = {"mu_activation": "None", "sigma_activation": "None", "mu_init": nothing, "fixed_sigma": True}
    space["sigma_init"] = {"name": "const_initializer", "val": 0}
    mlp_settings = {"units": [SIZE, SIZE], "activation": "elu", "initializer": nothing}
    for separate in (True, False):
        builder = network_builder.A2CBuilder()
        builder.load({"separate": separate, "space": {"continuous": space}, "mlp": mlp_settings})
        config = {"actions_num": 2, "input_shape": (4,), "num_seqs": 1, "value_size": 1}
        config |= {"normalize_value": True, "normalize_input": True}
        made = models.ModelA2CContinuousLogStd(builder).build(config)
        optimizer = stepped(torch.optim.Adam(made.parameters(), 1e-3))
        torch.save({"model": made.state_dict(), "epoch": 1, "optimizer": optimizer.state_dict()}, tmp_path / "last.pth")
        net = made.a2c_network
        if separate:
            layers = {
                "policy": [*net.actor_mlp.parameters(), *net.mu.parameters()],
                "value": [*net.critic_mlp.parameters(), *net.value.parameters()],
            }
            expected = {role: moments(optimizer, parameters) for role, parameters in layers.items()}
            assert_carried(tmp_path / "last.pth", expected, 4, 2)
        else:
            report = Flax(4, 2).agent.migrate(tmp_path / "last.pth")
            assert report
            assert all("went into several" in each.why for each in report.optimizers if each.status == "left")
            assert {each.status for each in report.optimizers} == {"left", "unused"}
