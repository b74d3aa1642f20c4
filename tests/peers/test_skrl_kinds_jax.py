"""Agents of skrl of every kind that it has on JAX, of both its lines, run in its own trainers over `keepfast.Agent`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast_jax import RandomMemory
from tests.peers import skrl_jax as zoo

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.filterwarnings("error::keepfast.KeepfastWarning")]

TIMESTEPS = 64


@pytest.fixture(autouse=True)
def _clip_of_older_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give JAX the names back that skrl 1.4.3 calls it by."""
    monkeypatch.setattr(zoo.jnp, "clip", zoo.clip_as_before)


def rebase(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a class of agents over `keepfast.Agent` in the place of skrl's, its module imported anew, and our memory."""
    package, name = zoo.skrl_torch.KINDS[kind][0].split(".")
    home = importlib.import_module(f"skrl.agents.jax.{package}")
    monkeypatch.setattr("skrl.agents.jax.Agent", keepfast.Agent)
    spec = importlib.util.find_spec(getattr(home, name).__module__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(getattr(module, name), keepfast.Agent)
    monkeypatch.setattr(home, name, getattr(module, name))
    monkeypatch.setattr(zoo, "RandomMemory", RandomMemory)


def bits(agent: Any) -> dict[str, Any]:
    return {role: [np.asarray(leaf).tobytes() for leaf in leaves] for role, leaves in zoo.models(agent).items()}


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_every_kind_of_agent_runs_over_ours(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, is checkpointed and tracked, and another one loads what it stored."""
    rebase(kind, monkeypatch)
    agent, env = zoo.agent_and_env(kind, tmp_path)
    before = bits(agent)
    zoo.trainer_of(agent, env, TIMESTEPS).train()
    agent.close()
    assert bits(agent) != before
    assert "Reward / Instantaneous reward (mean)" in keepfast.read_metrics(agent.experiment_dir)
    checkpoint = agent.experiment_dir / "checkpoints" / f"agent_{TIMESTEPS}.safetensors"
    assert keepfast.read_checkpoint(checkpoint).keys() >= set(agent.models)
    other, _ = zoo.agent_and_env(kind, tmp_path / "other")
    assert bits(other) != bits(agent)
    other.load(checkpoint)
    assert bits(other) == bits(agent)
    other.close()
