"""Twenty kinds of layers, each as a network of PyTorch and as one of Flax, with inputs for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One kind of layer on both sides.

    Attributes:
        torch: makes the network of PyTorch.
        flax: makes the module of flax.linen.
        inputs: the inputs of the network of PyTorch.
        to_flax: turns these into the inputs of the other.
        back: turns its outputs into those of PyTorch's.
    """

    torch: Callable[[], torch.nn.Module]
    flax: Callable[[], linen.Module]
    inputs: Callable[[np.random.Generator], np.ndarray]
    to_flax: Callable[[np.ndarray], np.ndarray] = lambda inputs: inputs
    back: Callable[[Any], Any] = lambda outputs: outputs


class Lambda(torch.nn.Module):
    """A network of PyTorch whose call is written beside it."""

    def __init__(self, call: Callable[..., Any], **layers: torch.nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.call = call

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.call(self, inputs)


class Linen(linen.Module):
    """A network of Flax whose call is written beside it."""

    call: Callable[..., Any]

    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        return self.call(self, inputs)


def last(array: Any) -> Any:
    """Return a batch with its channels last."""
    return np.moveaxis(np.asarray(array), 1, -1)


def first(array: Any) -> Any:
    """Return a batch with its channels right after the batch."""
    return np.moveaxis(np.asarray(array), -1, 1)


def normal(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: random.normal(size=shape)


def convolution(ndim: int, groups: int = 1, dilation: int = 1, same: bool = False) -> Case:
    ins, outs = (4, 8) if not same else (4, 4)
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[ndim - 1]
    size = (3, 2, 3)[:ndim]
    return Case(
        lambda: Lambda(lambda net, x: net.conv(x), conv=kind(ins, outs, size, groups=groups, dilation=dilation)),
        lambda: Linen(
            lambda net, x: linen.Conv(
                outs, size, padding="VALID", feature_group_count=groups, kernel_dilation=dilation, param_dtype=x.dtype
            )(x)
        ),
        normal(2, ins, *(8, 7, 6)[:ndim]),
        last,
        first,
    )


def transposed(ndim: int, stride: int = 1) -> Case:
    kind = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)[ndim - 1]
    size = (3, 2, 3)[:ndim]
    return Case(
        lambda: Lambda(lambda net, x: net.up(x), up=kind(3, 5, size, stride=stride)),
        lambda: Linen(
            lambda net, x: linen.ConvTranspose(5, size, (stride,) * ndim, padding="VALID", param_dtype=x.dtype)(x)
        ),
        normal(2, 3, *(6, 5, 4)[:ndim]),
        last,
        first,
    )


def recurrent(kind: str, cell: Callable[..., Any], layers: int = 1) -> Case:
    def call(net: Any, x: Any) -> Any:
        for _ in range(layers):
            x = linen.RNN(cell(5, param_dtype=x.dtype))(x)
        return x

    return Case(
        lambda: Lambda(lambda net, x: net.rnn(x)[0], rnn=getattr(torch.nn, kind)(4, 5, layers, batch_first=True)),
        lambda: Linen(call),
        normal(2, 6, 4),
    )


def _bilinear(net: Any, x: Any) -> Any:
    one, other = x[:, :3], x[:, 3:]
    kernel = net.param("bilinear_kernel", linen.initializers.normal(), (3, 4, 6), x.dtype)
    return jnp.einsum("bi,ijo,bj->bo", one, kernel, other)


class Bilinear(linen.Module):
    """A bilinear layer, which Flax does not have."""

    @linen.compact
    def __call__(self, one: Any, other: Any) -> Any:
        kernel = self.param("kernel", linen.initializers.normal(), (3, 4, 6), one.dtype)
        bias = self.param("bias", linen.initializers.zeros, (6,), one.dtype)
        return jnp.einsum("bi,ijo,bj->bo", one, kernel, other) + bias


def _trunk(net: Any, x: Any) -> Any:
    x = jax.nn.relu(linen.Conv(8, (3, 3), padding="VALID", param_dtype=x.dtype)(x))
    x = jax.nn.relu(linen.Conv(6, (2, 2), padding="VALID", param_dtype=x.dtype)(x))
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(linen.Dense(12, param_dtype=x.dtype)(x))
    return linen.Dense(12, param_dtype=x.dtype)(x)


def _flattening() -> torch.nn.Module:
    nn = torch.nn
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(6 * 4 * 3, 12), nn.ReLU(), nn.Linear(12, 12)),
    )


class ActorCritic(linen.Module):
    """A trunk with two heads."""

    def setup(self) -> None:
        self.trunk = [linen.Dense(8, param_dtype=jnp.float64), linen.Dense(8, param_dtype=jnp.float64)]
        self.actor = linen.Dense(3, param_dtype=jnp.float64)
        self.critic = linen.Dense(1, param_dtype=jnp.float64)
        self.log_std = self.param("log_std", linen.initializers.zeros, (3,), jnp.float64)

    def __call__(self, x: Any) -> Any:
        for layer in self.trunk:
            x = jnp.tanh(layer(x))
        return jnp.concatenate([self.actor(x), self.critic(x), jnp.broadcast_to(self.log_std, (len(x), 3))], -1)


class TorchActorCritic(torch.nn.Module):
    """A trunk with two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.log_std = torch.nn.Parameter(torch.randn(1, 3))
        self.value_head = torch.nn.Linear(8, 1)
        self.shared = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh()
        )
        self.policy_head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(x)
        return torch.cat([self.policy_head(x), self.value_head(x), self.log_std.expand(len(x), 3)], -1)


def _normalised(layer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda net, x: layer(x.dtype)(x)


CASES = {
    "Linear": Case(
        lambda: Lambda(lambda net, x: net.fc(x), fc=torch.nn.Linear(4, 3)),
        lambda: Linen(lambda net, x: linen.Dense(3, param_dtype=x.dtype)(x)),
        normal(5, 4),
    ),
    "Bilinear": Case(
        lambda: Lambda(lambda net, x: net.bilinear(x[:, :3], x[:, 3:]), bilinear=torch.nn.Bilinear(3, 4, 6)),
        lambda: Linen(lambda net, x: Bilinear()(x[:, :3], x[:, 3:])),
        normal(5, 7),
    ),
    "Conv1d": convolution(1),
    "Conv2d": convolution(2),
    "Conv3d": convolution(3),
    "ConvTranspose1d": transposed(1),
    "ConvTranspose2d": transposed(2, stride=2),
    "ConvTranspose3d": transposed(3),
    "depthwise convolution": convolution(2, groups=4),
    "dilated convolution": convolution(2, dilation=2, same=True),
    "LayerNorm": Case(
        lambda: Lambda(lambda net, x: net.norm(x), norm=torch.nn.LayerNorm(4)),
        lambda: Linen(_normalised(lambda dtype: linen.LayerNorm(epsilon=1e-5, param_dtype=dtype))),
        normal(5, 4),
    ),
    "GroupNorm": Case(
        lambda: Lambda(lambda net, x: net.norm(x), norm=torch.nn.GroupNorm(2, 4)),
        lambda: Linen(_normalised(lambda dtype: linen.GroupNorm(2, epsilon=1e-5, param_dtype=dtype))),
        normal(5, 4, 3),
        last,
        first,
    ),
    "RMSNorm": Case(
        lambda: Lambda(lambda net, x: net.norm(x), norm=torch.nn.RMSNorm(4, eps=1e-6)),
        lambda: Linen(_normalised(lambda dtype: linen.RMSNorm(param_dtype=dtype))),
        normal(5, 4),
    ),
    "BatchNorm": Case(
        lambda: Lambda(lambda net, x: net.norm(x), norm=torch.nn.BatchNorm1d(4)),
        lambda: Linen(_normalised(lambda dtype: linen.BatchNorm(use_running_average=True, param_dtype=dtype))),
        normal(5, 4),
    ),
    "Embedding": Case(
        lambda: Lambda(lambda net, x: net.table(x), table=torch.nn.Embedding(7, 3)),
        lambda: Linen(lambda net, x: linen.Embed(7, 3, param_dtype=jnp.float64)(x)),
        lambda random: random.integers(0, 7, (5, 2)),
    ),
    "MultiheadAttention": Case(
        lambda: Lambda(
            lambda net, x: net.attention(x, x, x)[0], attention=torch.nn.MultiheadAttention(8, 2, batch_first=True)
        ),
        lambda: Linen(lambda net, x: linen.MultiHeadDotProductAttention(2, param_dtype=x.dtype)(x, x)),
        normal(2, 5, 8),
    ),
    "GRU": recurrent("GRU", linen.GRUCell),
    "LSTM": recurrent("LSTM", linen.OptimizedLSTMCell),
    "RNN": recurrent("RNN", linen.SimpleCell),
    "GRU of two layers": recurrent("GRU", linen.GRUCell, 2),
    "LSTM of three layers": recurrent("LSTM", linen.LSTMCell, 3),
    "PReLU": Case(
        lambda: Lambda(lambda net, x: net.act(x), act=torch.nn.PReLU()),
        lambda: Linen(lambda net, x: linen.PReLU(param_dtype=x.dtype)(x)),
        normal(5, 4),
    ),
    "flatten between convolutions and dense layers": Case(_flattening, lambda: Linen(_trunk), normal(2, 3, 7, 6), last),
    "actor and critic on one trunk": Case(TorchActorCritic, ActorCritic, normal(5, 4)),
}


def randomised(net: torch.nn.Module, seed: int, dtype: torch.dtype) -> torch.nn.Module:
    """Return a network whose parameters and statistics are all random, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    net = net.to(dtype)
    with torch.no_grad():
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            if value.dtype.is_floating_point:
                value.copy_(torch.rand(value.shape, generator=generator, dtype=dtype) - (0 if "var" in name else 0.5))
    return net.eval()
