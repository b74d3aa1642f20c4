"""Training states of a given size, on both frameworks: a network and its optimizer, as agents have them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

WIDEST = 2048
"""How wide a layer is at most."""

COPIES = 3
"""How often the parameters are in a state: themselves, and the two moments of Adam."""


def layer_widths(nbytes: int) -> tuple[int, int]:
    """Return the number of square layers, and their width, with which parameters and moments are of about that size."""
    parameters = nbytes // (4 * COPIES)
    layers = max(4, math.ceil(parameters / WIDEST**2))
    return layers, math.isqrt(parameters // layers)


def torch_modules(nbytes: int) -> dict[str, Any]:
    """Return a network and its optimizer after a step, together of about that size."""
    import torch

    layers, width = layer_widths(nbytes)
    policy = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return {"policy": policy, "optimizer": optimizer}


def torch_tensors(modules: dict[str, Any]) -> list[Any]:
    """Return every tensor of the state."""
    import torch

    leaves: list[Any] = []

    def collect(node: Any) -> None:
        if isinstance(node, torch.Tensor):
            leaves.append(node.detach())
        elif isinstance(node, dict):
            for child in node.values():
                collect(child)

    for module in modules.values():
        collect(module.state_dict())
    return leaves


def train_state(nbytes: int) -> Any:
    """Return a Flax TrainState with Adam, of about that size."""
    import jax
    import optax
    from flax.training.train_state import TrainState

    layers, width = layer_widths(nbytes)
    keys = jax.random.split(jax.random.key(0), layers)
    params = {
        f"Dense_{number}": {"kernel": jax.random.normal(key, (width, width)), "bias": jax.numpy.zeros(width)}
        for number, key in enumerate(keys)
    }
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(3e-4))
    return jax.block_until_ready(state)


def owner_of(state: Any) -> SimpleNamespace:
    """Return an object whose attribute `state` is replaced as training goes on, as an agent's is."""
    return SimpleNamespace(state=state)
