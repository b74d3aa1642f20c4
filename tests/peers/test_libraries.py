"""Policies of the real libraries act alike in PyTorch and in Flax; runs in the session `peers` alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not __import__("importlib").util.find_spec("stable_baselines3"):
    pytest.skip("the libraries are installed by the session `peers` alone", allow_module_level=True)

import flax.linen as linen
import gymnasium
import jax
import torch
from torch import nn

import keepfast
import keepfast_jax

pytestmark = pytest.mark.filterwarnings("ignore")

INPUTS = np.random.default_rng(1).normal(size=(100, 4)).astype("float32")
SIZE = 16


class Mlp(linen.Module):
    """Three dense layers of Flax."""

    outs: int
    activation: Callable[[Any], Any]

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = self.activation(linen.Dense(SIZE)(x))
        return linen.Dense(self.outs)(x)


def torch_mlp(ins: int, outs: int, activation: Any) -> nn.Module:
    layers = [nn.Linear(ins, SIZE), activation(), nn.Linear(SIZE, SIZE), activation(), nn.Linear(SIZE, outs)]
    return nn.Sequential(*layers)


ACTIVATIONS = {"tanh": (nn.Tanh, jax.numpy.tanh), "elu": (nn.ELU, linen.elu), "relu": (nn.ReLU, linen.relu)}
ACTIVATIONS["silu"] = (nn.SiLU, linen.silu)


def assert_acts_alike(
    path: Path, actions: Any, activation: str, inputs: Any = INPUTS, outs: int = 2
) -> keepfast.MigrationReport:
    """Migrate the actor of a file to both frameworks; what both make of normalised inputs is what is expected."""
    in_torch, in_flax = ACTIVATIONS[activation]
    width, shown = inputs.shape[1], actions.shape[1]
    net, module = torch_mlp(width, outs, in_torch), Mlp(outs, in_flax)
    model = keepfast_jax.Model(module, module.init(jax.random.key(0), inputs))

    def in_pytorch(x: Any) -> Any:
        return net(torch.as_tensor(x)).detach().numpy()[:, :shown]

    def in_jax(x: Any) -> Any:
        return np.asarray(model.apply(x))[:, :shown]

    report = keepfast.Agent({"policy": net}).migrate(path, check={"policy": (inputs, actions, in_pytorch)})
    assert report
    assert keepfast.Agent({"policy": model}).migrate(path, check={"policy": (inputs, actions, in_jax)})
    return report


def statistics(path: Path) -> dict[str, Any]:
    """Return the normaliser of observations that a file brings."""
    agent = keepfast.Agent({})
    agent.checkpoint_modules["obs_rms"] = rms = {"mean": np.zeros(4), "var": np.ones(4), "count": np.zeros(())}
    assert agent.migrate(path, strict=False)
    return rms


@pytest.mark.parametrize("name", ["PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"])
def test_stable_baselines3(name: str, tmp_path: Path) -> None:
    """Trained for some steps, with the statistics of VecNormalize; the deterministic actions are the same."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    discrete = name == "DQN"
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1" if discrete else "Pendulum-v1")]))
    more = {"n_steps": 32} if name == "PPO" else {"learning_starts": 8} if name != "A2C" else {}
    kind = getattr(stable_baselines3, name)
    model = kind("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [SIZE, SIZE]}, **more)
    model.learn(64)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "vecnormalize.pkl"))
    width = env.observation_space.shape[0]
    inputs = env.normalize_obs(np.random.default_rng(0).normal(size=(100, width))).astype("float32")
    policy = model.policy
    with torch.no_grad():
        given = torch.as_tensor(inputs)
        if name in ("PPO", "A2C"):
            actions = policy.get_distribution(given).distribution.mean
        elif name == "SAC":
            actions = policy.actor.get_action_dist_params(given)[0]
        elif name == "DQN":
            actions = policy.q_net(given)
        else:
            actions = torch.atanh(policy.actor(given).double().clamp(-1 + 1e-12, 1 - 1e-12)).float()
    activation = "tanh" if name in ("PPO", "A2C") else "relu"
    if name == "SAC":

        class Actor(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(nn.Linear(width, SIZE), nn.ReLU(), nn.Linear(SIZE, SIZE), nn.ReLU())
                self.mean_layer, self.log_std_layer = nn.Linear(SIZE, 1), nn.Linear(SIZE, 1)

            def forward(self, x: Any) -> Any:
                return self.mean_layer(self.net(x))

        agent = keepfast.Agent({"policy": Actor()})
        assert agent.migrate(tmp_path / "model.zip", check={"policy": (inputs, actions.numpy())})
    elif name == "DQN":
        networks = {"q_network": torch_mlp(width, 2, nn.ReLU), "target_q_network": torch_mlp(width, 2, nn.ReLU)}
        agent = keepfast.Agent(networks)
        assert agent.migrate(tmp_path / "model.zip", check={"q_network": (inputs, actions.numpy())})
    else:
        assert_acts_alike(tmp_path / "model.zip", actions.numpy(), activation, inputs, outs=1)
    if width == 4:
        np.testing.assert_array_equal(statistics(tmp_path / "model.zip")["mean"], env.obs_rms.mean)


def test_skrl(tmp_path: Path) -> None:
    """Agents of version 2 on PyTorch and on JAX."""
    from skrl.utils.model_instantiators.torch import deterministic_model, gaussian_model

    spaces = {"observation_space": gymnasium.spaces.Box(-1, 1, (4,)), "action_space": gymnasium.spaces.Box(-1, 1, (2,))}
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [SIZE, SIZE], "activations": "elu"}]
    models = {
        "policy": gaussian_model(device="cpu", network=network, output="ACTIONS", **spaces),
        "value": deterministic_model(device="cpu", network=network, output="ONE", **spaces),
    }
    from skrl.agents.torch.ppo import PPO

    for role, model in models.items():
        model.init_state_dict(role=role)
    PPO(models=models, memory=None, device="cpu", cfg={}, **spaces).save(str(tmp_path / "agent.pt"))
    with torch.no_grad():
        actions = models["policy"].compute({"observations": torch.as_tensor(INPUTS)}, role="policy")[0].numpy()
    assert assert_acts_alike(tmp_path / "agent.pt", actions, "elu").reader == "skrl"


def test_rsl_rl(tmp_path: Path) -> None:
    """Actor and critic of version 5 with their normalisers."""
    from rsl_rl.models import MLPModel
    from tensordict import TensorDict

    seen = TensorDict({"policy": torch.randn(8, 4)}, batch_size=8)
    groups = {"actor": ["policy"], "critic": ["policy"]}
    gaussian = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution"}
    actor = MLPModel(seen, groups, "actor", 2, [SIZE, SIZE], "elu", True, gaussian)
    critic = MLPModel(seen, groups, "critic", 1, [SIZE, SIZE], "elu", True)
    for model in (actor, critic):
        model.obs_normalizer.update(torch.randn(50, 4) * 3 + 1)
    states = {"actor_state_dict": actor.state_dict(), "critic_state_dict": critic.state_dict()}
    torch.save({**states, "optimizer_state_dict": {}, "iter": 1, "infos": None}, tmp_path / "model_1.pt")
    rms = statistics(tmp_path / "model_1.pt")
    inputs = ((INPUTS - rms["mean"]) / (np.sqrt(rms["var"]) + 1e-2)).astype("float32")
    with torch.no_grad():
        actions = actor.eval()(TensorDict({"policy": torch.as_tensor(INPUTS)}, batch_size=100)).numpy()
    assert_acts_alike(tmp_path / "model_1.pt", actions, "elu", inputs)


def test_rl_games(tmp_path: Path) -> None:
    """Actor and critic on one trunk, with numbers of NumPy beside them."""
    from rl_games.algos_torch import models, network_builder

    builder = network_builder.A2CBuilder()
    nothing = {"name": "default"}
    space = {"mu_activation": "None", "sigma_activation": "None", "mu_init": nothing, "fixed_sigma": True}
    space["sigma_init"] = {"name": "const_initializer", "val": 0}
    mlp = {"units": [SIZE, SIZE], "activation": "elu", "initializer": nothing}
    builder.load({"separate": False, "space": {"continuous": space}, "mlp": mlp})
    config = {"actions_num": 2, "input_shape": (4,), "num_seqs": 1, "value_size": 1}
    made = models.ModelA2CContinuousLogStd(builder).build({**config, "normalize_value": True, "normalize_input": True})
    made.running_mean_std(torch.randn(50, 4) * 3 + 1)
    made.eval()
    torch.save({"model": made.state_dict(), "epoch": 1, "last_mean_rewards": np.float32(1.5)}, tmp_path / "last.pth")
    rms = statistics(tmp_path / "last.pth")
    inputs = np.clip((INPUTS - rms["mean"]) / np.sqrt(rms["var"] + 1e-5), -5, 5).astype("float32")
    with torch.no_grad():
        actions = made({"is_train": False, "obs": torch.as_tensor(INPUTS), "rnn_states": None})["mus"].numpy()
    assert_acts_alike(tmp_path / "last.pth", actions, "elu", inputs)


def test_tianshou(tmp_path: Path) -> None:
    """The state dict of a PPO policy."""
    from tianshou.policy import PPOPolicy
    from tianshou.utils.net.common import ActorCritic, Net
    from tianshou.utils.net.continuous import ActorProb, Critic

    actor = ActorProb(Net(4, hidden_sizes=[SIZE, SIZE]), 2, unbounded=True)
    critic = Critic(Net(4, hidden_sizes=[SIZE, SIZE]))
    optimizer = torch.optim.Adam(ActorCritic(actor, critic).parameters())
    normal = torch.distributions.Normal
    policy = PPOPolicy(actor, critic, optimizer, normal, action_space=gymnasium.spaces.Box(-1, 1, (2,)))
    torch.save(policy.state_dict(), tmp_path / "policy.pth")
    with torch.no_grad():
        actions = actor(torch.as_tensor(INPUTS))[0][0].numpy()
    assert_acts_alike(tmp_path / "policy.pth", actions, "relu")


def test_torchrl(tmp_path: Path) -> None:
    """The state dict of a loss; its policy gives mean and deviation in one layer."""
    from tensordict.nn import TensorDictModule
    from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import ClipPPOLoss

    net = nn.Sequential(MLP(4, 4, depth=2, num_cells=SIZE), NormalParamExtractor())
    module = TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"])
    actor = ProbabilisticActor(module, in_keys=["loc", "scale"], distribution_class=TanhNormal)
    loss = ClipPPOLoss(actor, ValueOperator(MLP(4, 1, depth=2, num_cells=SIZE), in_keys=["observation"]))
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    with torch.no_grad():
        actions = net(torch.as_tensor(INPUTS))[0].numpy()
    assert_acts_alike(tmp_path / "loss.pt", actions, "tanh", outs=4)


@pytest.mark.parametrize("how", ["msgpack", "pickle"])
def test_brax(how: str, tmp_path: Path) -> None:
    """What its trainers return, as Flax's bytes and as its own pickle."""
    import flax.serialization
    from brax.training.acme import running_statistics, specs
    from brax.training.agents.ppo import networks

    sizes = {"policy_hidden_layer_sizes": (SIZE, SIZE), "value_hidden_layer_sizes": (SIZE, SIZE)}
    made = networks.make_ppo_networks(4, 2, running_statistics.normalize, **sizes)
    normaliser = running_statistics.init_state(specs.Array((4,), jax.numpy.dtype("float32")))
    normaliser = running_statistics.update(normaliser, jax.numpy.asarray(INPUTS * 3 + 1))
    params = normaliser, made.policy_network.init(jax.random.key(0)), made.value_network.init(jax.random.key(1))
    write = flax.serialization.to_bytes if how == "msgpack" else pickle.dumps
    (tmp_path / "params").write_bytes(write(params))
    actions = np.asarray(made.policy_network.apply(*params[:2], jax.numpy.asarray(INPUTS)))
    rms = statistics(tmp_path / "params")
    inputs = ((INPUTS - rms["mean"]) / np.sqrt(rms["var"])).astype("float32")
    assert_acts_alike(tmp_path / "params", actions, "silu", inputs, outs=4)
