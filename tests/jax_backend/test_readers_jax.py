"""Readers of files of Flax: skrl's pickles, Brax's bytes and pickles, and modules of PyTorch's libraries in Flax."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as linen  # noqa: E402
import flax.serialization  # noqa: E402

import keepfast  # noqa: E402
import keepfast.testing  # noqa: E402
import keepfast_jax  # noqa: E402
from keepfast.formats.checkpoints.pt import PtStore  # noqa: E402
from keepfast.migration.readers.brax import BraxReader  # noqa: E402
from keepfast.migration.readers.skrl import SkrlReader  # noqa: E402
from tests.both_backends import foreign  # noqa: E402

INPUTS = np.random.default_rng(5).normal(size=(100, 4)).astype("float32")


class Mlp(linen.Module):
    """Three dense layers."""

    outs: int = 2

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = linen.tanh(linen.Dense(16)(x))
        return linen.Dense(self.outs)(x)


def model(outs: int = 2) -> keepfast_jax.Model:
    return keepfast_jax.Model(Mlp(outs), Mlp(outs).init(jax.random.key(0), INPUTS))


def outputs(layers: list[dict[str, Any]]) -> Any:
    values: Any = INPUTS
    for number, layer in enumerate(layers):
        values = (values if number == 0 else np.tanh(values)) @ layer["kernel"] + layer["bias"]
    return values


class TestBraxReader(keepfast.testing.CheckpointReaderContract):
    """The reader of Brax fulfils the contract."""

    @pytest.fixture
    def reader(self) -> Any:
        return BraxReader()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        (tmp_path / "params").write_bytes(flax.serialization.to_bytes(foreign.brax()))
        return tmp_path / "params"


class TestSkrlReader(keepfast.testing.CheckpointReaderContract):
    """So does that of skrl with files of its agents on JAX."""

    @pytest.fixture
    def reader(self) -> Any:
        return SkrlReader()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        skrl(tmp_path / "agent.pickle")
        return tmp_path / "agent.pickle"


def skrl(path: Path) -> dict[str, Any]:
    modules = {"policy": foreign.flax_mlp(2, "layers_"), "value": foreign.flax_mlp(1, "layers_")}
    path.write_bytes(pickle.dumps({name: flax.serialization.to_bytes(tree) for name, tree in modules.items()}, 4))
    return modules


@pytest.mark.parametrize(
    "write", [flax.serialization.to_bytes, lambda tree: pickle.dumps(jax.tree.map(jax.numpy.asarray, tree))]
)
def test_brax_brings_policy_value_and_normaliser(write: Any, tmp_path: Path) -> None:
    """From Flax's bytes and from its own pickle, of which nothing is run."""
    made = foreign.brax()
    (tmp_path / "params").write_bytes(write(made))
    agent = keepfast.Agent({"policy": model(), "value": model(1)})
    agent.checkpoint_modules["obs_rms"] = rms = {"mean": np.zeros(4), "var": np.ones(4), "count": np.zeros(())}
    expected = outputs(list(made[1]["params"].values()))
    report = agent.migrate(tmp_path / "params", check={"policy": (INPUTS, expected)})
    assert report
    assert report.reader == "brax"
    np.testing.assert_allclose(rms["mean"], made[0]["mean"])
    np.testing.assert_allclose(rms["var"], made[0]["std"] ** 2, rtol=1e-6)
    assert rms["count"] == 100


def test_skrl_on_jax_brings_its_modules(tmp_path: Path) -> None:
    """A pickle of Flax's bytes, read without unpickling code."""
    modules = skrl(tmp_path / "agent.pickle")
    agent = keepfast.Agent({"policy": model(), "value": model(1)})
    expected = outputs(list(modules["policy"]["params"].values()))
    report = agent.migrate(tmp_path / "agent.pickle", check={"policy": (INPUTS, expected)})
    assert report
    assert report.reader == "skrl"


@pytest.mark.parametrize("library", ["stable_baselines3", "tianshou", "torchrl"])
def test_policies_of_pytorch_act_alike_in_flax(library: str, tmp_path: Path) -> None:
    """Without PyTorch installed, an actor of another library gives the same actions in linen."""

    def save(content: Any, path: Path) -> None:
        PtStore().save(keepfast.Checkpoint(content), path)

    state = getattr(foreign, library)(save, tmp_path / "checkpoint")
    names = {
        "stable_baselines3": ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net"],
        "tianshou": ["actor.preprocess.model.model.0", "actor.preprocess.model.model.2", "actor.mu.model.0"],
        "torchrl": [f"actor_network_params.module.0.module.0.{number}" for number in (0, 2, 4)],
    }[library]
    expected = outputs([{"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]} for name in names])
    agent = keepfast.Agent({"policy": model(), "value": model(1)})
    assert agent.migrate(tmp_path / "checkpoint", check={"policy": (INPUTS, expected)})
