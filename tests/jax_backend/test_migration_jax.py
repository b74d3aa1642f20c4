"""Checkpoints of PyTorch in linen, nnx and plain trees, where no PyTorch is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as linen  # noqa: E402
from flax import nnx  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402
from keepfast.formats.checkpoints.pt import PtStore  # noqa: E402


@pytest.fixture
def torch_file(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a state dict of PyTorch, and the file it is in."""
    random = np.random.default_rng(0)
    state = {}
    for number, (ins, outs) in enumerate([(3, 8), (8, 8), (8, 8), (8, 2)]):
        state[f"net.{2 * number}.weight"] = random.normal(size=(outs, ins)).astype("float32")
        state[f"net.{2 * number}.bias"] = random.normal(size=outs).astype("float32")
    PtStore().save(keepfast.Checkpoint(state), tmp_path / "net.pth")
    return tmp_path / "net.pth", state


def expected(state: dict[str, Any], inputs: Any) -> Any:
    values = inputs
    for number in range(4):
        values = values if number == 0 else np.tanh(values)
        values = values @ state[f"net.{2 * number}.weight"].T + state[f"net.{2 * number}.bias"]
    return values


class Net(linen.Module):
    """A network of linen."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(3):
            x = linen.tanh(linen.Dense(8)(x))
        return linen.Dense(2)(x)


class NnxNet(nnx.Module):
    """A network of nnx."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        sizes = [(3, 8), (8, 8), (8, 8), (8, 2)]
        self.layers = nnx.List([nnx.Linear(*size, rngs=rngs) for size in sizes])

    def __call__(self, x: Any) -> Any:
        for layer in list(self.layers)[:-1]:
            x = jax.numpy.tanh(layer(x))
        return self.layers[3](x)


INPUTS = np.random.default_rng(1).normal(size=(100, 3)).astype("float32")


def test_linen_takes_a_checkpoint_of_pytorch(torch_file: tuple[Path, dict[str, Any]]) -> None:
    """The module's own call gives the outputs of the network of PyTorch."""
    path, state = torch_file
    model = keepfast_jax.Model(Net(), Net().init(jax.random.key(0), INPUTS))
    assert model.migrate(path, check=(INPUTS, expected(state, INPUTS)))
    np.testing.assert_allclose(model.apply(INPUTS), expected(state, INPUTS), rtol=1e-5, atol=1e-5)


def test_nnx_takes_a_checkpoint_of_pytorch(torch_file: tuple[Path, dict[str, Any]]) -> None:
    """The module's own call gives the outputs of the network of PyTorch."""
    path, state = torch_file
    net = NnxNet(nnx.Rngs(0))
    assert keepfast.migrate(net, path, check=(INPUTS, expected(state, INPUTS)))
    np.testing.assert_allclose(net(INPUTS), expected(state, INPUTS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "bias"), [("kernel", "bias"), ("w", "b")])
def test_a_plain_tree_takes_a_checkpoint_of_pytorch(
    kernel: str, bias: str, torch_file: tuple[Path, dict[str, Any]]
) -> None:
    """A list of layers, written by hand, is filled in its order."""
    path, state = torch_file
    sizes = [(3, 8), (8, 8), (8, 8), (8, 2)]
    tree = [{kernel: jax.numpy.zeros(size), bias: jax.numpy.zeros(size[1])} for size in sizes]
    assert keepfast.migrate(tree, path)
    for number, layer in enumerate(tree):
        np.testing.assert_array_equal(layer[kernel], state[f"net.{2 * number}.weight"].T)
        np.testing.assert_array_equal(layer[bias], state[f"net.{2 * number}.bias"])


def test_what_an_nnx_cell_has_no_place_for_is_refused(tmp_path: Path) -> None:
    """A GRU of nnx has no hidden bias of the new gate; where PyTorch's is not zero, nothing is loaded."""
    random = np.random.default_rng(0)
    state = {
        "rnn.weight_ih_l0": random.normal(size=(15, 4)).astype("float32"),
        "rnn.weight_hh_l0": random.normal(size=(15, 5)).astype("float32"),
        "rnn.bias_ih_l0": random.normal(size=15).astype("float32"),
        "rnn.bias_hh_l0": random.normal(size=15).astype("float32"),
    }
    PtStore().save(keepfast.Checkpoint(state), tmp_path / "gru.pt")
    cell = nnx.GRUCell(4, 5, rngs=nnx.Rngs(0))
    with pytest.raises(keepfast.LoadMismatch, match="hidden bias of the gate `hn` is not zero"):
        keepfast.migrate(cell, tmp_path / "gru.pt")
    state["rnn.bias_hh_l0"][10:] = 0
    PtStore().save(keepfast.Checkpoint(state), tmp_path / "gru.pt")
    report = keepfast.migrate(cell, tmp_path / "gru.pt")
    assert report
    assert any("two biases" in note for note in report.notes)


def test_settings_of_live_layers_are_compared(tmp_path: Path) -> None:
    """LayerNorm's epsilon of the module is warned of where it is not PyTorch's, in linen and in nnx."""
    PtStore().save(
        keepfast.Checkpoint({"norm.weight": np.ones(3, "f4"), "norm.bias": np.zeros(3, "f4")}), tmp_path / "n.pt"
    )
    for epsilon, warned in ((1e-6, True), (1e-5, False)):
        module = linen.Sequential([linen.LayerNorm(epsilon=epsilon)])
        model = keepfast_jax.Model(module, module.init(jax.random.key(0), INPUTS))
        norm = nnx.LayerNorm(3, epsilon=epsilon, rngs=nnx.Rngs(0))
        for target in (model, norm):
            warnings = keepfast.migrate(target, tmp_path / "n.pt").warnings
            assert any("`eps` is 1e-06 in the module" in each for each in warnings) is warned


def test_the_state_of_an_optimizer_stays_behind(torch_file: tuple[Path, dict[str, Any]]) -> None:
    """An agent whose optimizer is a state of optax migrates its network alone."""
    optax = pytest.importorskip("optax")
    path, state = torch_file
    agent = keepfast.Agent({"policy": keepfast_jax.Model(Net(), Net().init(jax.random.key(0), INPUTS))})
    agent.opt_state = optax.adam(1e-3).init(agent.models["policy"].variables)
    agent.checkpoint_modules["optimizer"] = keepfast.attribute(agent, "opt_state")
    assert agent.migrate(path, check={"policy": (INPUTS, expected(state, INPUTS))})
    assert int(agent.opt_state[0].count) == 0
