"""What a model card tells to type, typed: the code of a pushed run, on both frameworks."""

from __future__ import annotations

import itertools
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from tests.core.hub.hub_server import Hub

_SEEDS = itertools.count()
INPUTS = np.random.default_rng(3).normal(size=(20, 4)).astype("float32")


def torch_policy() -> tuple[Any, Callable[[], Any]]:
    """Return a network of PyTorch, and what gives its outputs."""
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return net, lambda: net(torch.as_tensor(INPUTS)).detach().numpy()


def jax_policy() -> tuple[Any, Callable[[], Any]]:
    """Return the same network of Flax, and what gives its outputs."""
    import flax.linen as linen
    import jax

    import keepfast_jax

    net = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(2)])
    model = keepfast_jax.Model(net, net.init(jax.random.key(next(_SEEDS)), INPUTS))
    return model, lambda: np.asarray(model.apply(INPUTS))


POLICIES = {"PyTorch": torch_policy, "JAX": jax_policy}


def codes(card: str) -> dict[str, str]:
    """Return the code that a card shows for each framework."""
    return dict(re.findall(r"^(\w+):\n\n```python\n(.*?)```", card, re.DOTALL | re.MULTILINE))


def assert_a_pushed_run_gives_equal_outputs(
    trained_on: str, hub: Hub, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Push a run, run what its card shows for each framework, and pull it into an agent; all give equal outputs."""
    policy, outputs = POLICIES[trained_on]()
    cfg = {"directory": str(directory), "experiment_name": "run", "checkpoint_interval": 1, "writers": ["jsonl"]}
    with keepfast.Experiment(cfg, name="PPO", timesteps=1) as experiment:
        experiment.register(policy=policy)
        experiment.step(0)
    keepfast.hub.push(directory / "run", "org/ppo", environment="Pendulum-v1")
    shown = codes(hub.files["org/ppo"]["README.md"].decode())
    assert set(shown) == set(POLICIES)
    for framework, code in shown.items():
        assert len(code.splitlines()) <= 4
        other, made = POLICIES[framework]()
        assert not np.allclose(made(), outputs())
        networks = types.ModuleType("my_networks")
        networks.policy = other  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_networks", networks)
        variables: dict[str, Any] = {}
        exec(code, variables)
        assert variables["report"]
        np.testing.assert_allclose(made(), outputs(), rtol=1e-5, atol=1e-5)
    pulled = keepfast.hub.pull("org/ppo", directory / "pulled")
    fresh, made = POLICIES[trained_on]()
    assert keepfast.Agent({"policy": fresh}).load(next(path for path in pulled if path.stem == "agent"))
    np.testing.assert_array_equal(made(), outputs())
