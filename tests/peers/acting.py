"""Networks of PyTorch and of Flax that policies of other libraries go into, and the proof that they act as those do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax
import numpy as np
import torch
from torch import nn

import keepfast
import keepfast_jax

ACTIVATIONS = {
    "tanh": (nn.Tanh, jax.numpy.tanh),
    "elu": (nn.ELU, linen.elu),
    "relu": (nn.ReLU, linen.relu),
    "silu": (nn.SiLU, linen.silu),
}
HIDDEN = (16, 16)


@dataclass(frozen=True)
class Actor:
    """What a policy of another library does around its network.

    Attributes:
        inputs: how many observations there are.
        outputs: how many outputs the network has.
        activation: of its hidden layers.
        normalised: makes inputs of observations, by the mean and the variance that the file has; None leaves them.
        actions: makes actions of outputs.
        heads: whether mean and deviation are layers of their own behind the others.
        critic: whether there is a critic of the same inputs.
    """

    inputs: int
    outputs: int
    activation: str
    normalised: Callable[[Any, Any, Any], Any] | None = None
    actions: Callable[[Any], Any] = lambda outputs: outputs
    heads: bool = False
    critic: bool = True


class TorchMlp(nn.Module):
    """Three dense layers of PyTorch, the last one perhaps twice."""

    def __init__(self, inputs: int, outputs: int, activation: str, heads: bool = False) -> None:
        super().__init__()
        kind = ACTIVATIONS[activation][0]
        self.body = nn.Sequential(nn.Linear(inputs, HIDDEN[0]), kind(), nn.Linear(*HIDDEN), kind())
        self.mean_layer = nn.Linear(HIDDEN[1], outputs)
        if heads:
            self.log_std_layer = nn.Linear(HIDDEN[1], outputs)

    def forward(self, x: Any) -> Any:
        return self.mean_layer(self.body(x))


class FlaxMlp(linen.Module):
    """The same of Flax."""

    outputs: int
    activation: str
    heads: bool = False

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for size in HIDDEN:
            x = ACTIVATIONS[self.activation][1](linen.Dense(size)(x))
        if self.heads:
            linen.Dense(self.outputs, name="log_std_layer")(x)
        return linen.Dense(self.outputs, name="mean_layer")(x)


class TorchScaler(nn.Module):
    """Running statistics."""

    def __init__(self, size: int) -> None:
        super().__init__()
        for name, value in (("running_mean", 0.0), ("running_variance", 1.0), ("current_count", 1.0)):
            shape = () if "count" in name else (size,)
            self.register_buffer(name, torch.full(shape, value, dtype=torch.float64))


def assert_acts_alike(path: Path, actor: Actor, observations: Any, actions: Any) -> list[keepfast.MigrationReport]:
    """Migrate a policy with its normaliser into PyTorch and into Flax; both give the library's actions, to 1e-5."""
    observations = np.asarray(observations, "float32")
    reports = []
    for made in (_in_torch, _in_flax):
        modules, forward, statistics = made(actor)
        agent = keepfast.Agent({name: each for name, each in modules.items() if name in ("policy", "value")})
        agent.checkpoint_modules |= {name: each for name, each in modules.items() if name not in ("policy", "value")}
        report = agent.migrate(path)
        assert report, report
        inputs = observations
        if actor.normalised is not None:
            inputs = actor.normalised(inputs.astype("float64"), *statistics()).astype("float32")
            assert np.any(statistics()[0] != 0)
        np.testing.assert_allclose(actor.actions(forward(inputs)), actions, rtol=1e-5, atol=1e-5)
        reports.append(report)
    return reports


Made = tuple[dict[str, Any], Callable[[Any], Any], Callable[[], Sequence[Any]]]


def _in_torch(actor: Actor) -> Made:
    net = TorchMlp(actor.inputs, actor.outputs, actor.activation, actor.heads)
    modules: dict[str, Any] = {"policy": net}
    if actor.critic:
        modules["value"] = TorchMlp(actor.inputs, 1, actor.activation)
    scaler = TorchScaler(actor.inputs)
    if actor.normalised is not None:
        modules["state_preprocessor"] = scaler
    return (
        modules,
        lambda x: net(torch.as_tensor(x)).detach().numpy(),
        lambda: (scaler.running_mean.numpy(), scaler.running_variance.numpy()),
    )


def _in_flax(actor: Actor) -> Made:
    given = np.zeros((1, actor.inputs), "float32")
    module = FlaxMlp(actor.outputs, actor.activation, actor.heads)
    model = keepfast_jax.Model(module, module.init(jax.random.key(0), given))
    modules: dict[str, Any] = {"policy": model}
    if actor.critic:
        critic = FlaxMlp(1, actor.activation)
        modules["value"] = keepfast_jax.Model(critic, critic.init(jax.random.key(1), given))
    scaler = {"mean": jax.numpy.zeros(actor.inputs), "var": jax.numpy.ones(actor.inputs), "count": jax.numpy.zeros(())}
    if actor.normalised is not None:
        modules["state_preprocessor"] = scaler
    return (
        modules,
        lambda x: np.asarray(model.apply(x)),
        lambda: (np.asarray(scaler["mean"], "float64"), np.asarray(scaler["var"], "float64")),
    )
