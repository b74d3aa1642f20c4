"""Parts of modules of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("jax")

import jax
import numpy as np
import optax
from flax.training.train_state import TrainState

import keepfast
from tests.both_backends.parts import PartsSuite
from tests.jax_backend.framework import Jax


class TestParts(Jax, PartsSuite):
    path = "params.actor"

    def agent(self, seed: int) -> Any:
        params = {"actor": self.actor(seed), "critic": {"kernel": jax.numpy.ones(2)}}
        return TrainState.create(apply_fn=None, params=params, tx=optax.adam(0.1))

    def actor(self, seed: int) -> Any:
        return {"dense": {"kernel": jax.random.normal(jax.random.key(seed), (2, 3)), "bias": jax.numpy.ones(3)}}

    def actor_of(self, agent: Any) -> Any:
        return agent.params["actor"]

    def values(self, actor: Any) -> Mapping[str, Any]:
        return {path: np.asarray(array) for path, array in keepfast.tree.flatten(actor).items()}

    def test_the_params_of_a_train_state_alone(self, tmp_path: Path) -> None:
        """Out of a TrainState's file into params, and from a file of params into a TrainState, which keeps the rest."""
        owner = SimpleNamespace(params=self.agent(2).params, state=self.agent(3))
        saved = self.agent(1).apply_gradients(grads=self.agent(1).params)
        file = keepfast.Agent({"state": saved}).save(tmp_path / "agent.safetensors")
        assert keepfast.load(keepfast.attribute(owner, "params"), file, modules=["state.params"])
        kernel = saved.params["actor"]["dense"]["kernel"]
        assert (owner.params["actor"]["dense"]["kernel"] == kernel).all()
        path = keepfast.save(owner.params, tmp_path / "params.safetensors")
        report = keepfast.load(keepfast.attribute(owner, "state"), path, rename={"": "params"}, strict=False)
        assert (owner.state.params["actor"]["dense"]["kernel"] == kernel).all()
        assert set(report.missing) == {f"module.{name}" for name in _others(saved)}
        assert not report.extra


def _others(state: Any) -> list[str]:
    names = keepfast.tree.flatten({"step": 0, "mu": state.opt_state[0].mu})
    return [
        "step",
        "opt_state.0.count",
        *(f"opt_state.0.{kind}{name.removeprefix('mu')}" for name in names if name != "step" for kind in ("mu", "nu")),
    ]
