"""PyTorch to Flax and back, for twenty kinds of layers: equal outputs there, equal bits back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.tree import flatten, map_leaves
from tests.core.migration.layer_rows import LAYERS

pytestmark = pytest.mark.needs("torch", "jax", "flax")

ROWS = {row.kind: row for row in LAYERS}


@pytest.fixture
def cases() -> Any:
    from tests.core.migration import twenty_layers

    return twenty_layers


def made(cases: Any, kind: str, dtype: str, tmp_path: Path) -> tuple[Any, Any, Any, Any]:
    """Return the case, a random network of PyTorch saved to a file, and a model of Flax that is another."""
    import jax
    import torch

    import keepfast_jax

    case = cases.CASES[kind]
    net = cases.randomised(case.torch(), 0, getattr(torch, dtype))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    inputs = case.inputs(np.random.default_rng(0))
    inputs = inputs.astype(dtype) if inputs.dtype.kind == "f" else inputs
    module = case.flax()
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), module.init(jax.random.key(1), case.to_flax(inputs)))
    return case, net, keepfast_jax.Model(module, variables), inputs


PRECISIONS = [(kind, "float64", 1e-12) for kind in ROWS] + [("Conv2d", "float32", 1e-5), ("GRU", "float32", 1e-5)]


@pytest.mark.parametrize(("kind", "dtype", "tolerance"), PRECISIONS)
def test_outputs_agree_and_bits_come_back(kind: str, dtype: str, tolerance: float, cases: Any, tmp_path: Path) -> None:
    """A network of PyTorch gives equal outputs in Flax, and is itself again after the way back."""
    import jax
    import torch

    with jax.enable_x64(dtype == "float64"):
        case, net, model, inputs = made(cases, kind, dtype, tmp_path)
        assert named_as_told(kind, net, model.variables)
        with torch.no_grad():
            expected = net(torch.as_tensor(inputs)).numpy()
        report = keepfast.migrate(model, tmp_path / "net.pt")
        assert report
        outputs = np.asarray(case.back(model.apply(case.to_flax(inputs))))
        np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=tolerance)
        assert_moments_go_along(net, model, tmp_path)
        model.save(tmp_path / "back.safetensors")
        other = cases.randomised(case.torch(), 1, getattr(torch, dtype))
        back = keepfast.migrate(other, tmp_path / "back.safetensors")
        assert back
        with torch.no_grad():
            np.testing.assert_allclose(other(torch.as_tensor(inputs)).numpy(), expected, rtol=tolerance, atol=tolerance)
        for (name, value), (_, own) in zip(net.state_dict().items(), other.state_dict().items(), strict=True):
            if ROWS[kind].is_unique and "num_batches" not in name:
                assert torch.equal(value, own), name
        if not ROWS[kind].is_unique:
            assert any("two biases" in note for note in back.notes), back


def named_as_told(kind: str, net: Any, variables: Any) -> bool:
    """Say whether both sides have the classes that the row names; Flax calls its parameters by them."""
    names = {part.rpartition("_")[0] or part for path in flatten(variables) for part in path.split(".")}
    classes = {type(part).__name__ for part in net.modules()}
    return set(ROWS[kind].torch) <= classes and set(ROWS[kind].flax) <= names


def as_array(leaf: Any) -> Any:
    return leaf.numpy() if hasattr(leaf, "numpy") else leaf


def assert_moments_go_along(net: Any, model: Any, tmp_path: Path) -> None:
    """Where an optimizer keeps the parameters themselves, it keeps them after the migration too."""
    numbered = dict(enumerate(net.parameters()))
    state = {number: {"step": 3.0, "exp_avg": p.detach(), "exp_avg_sq": p.detach()} for number, p in numbered.items()}
    group = {"lr": 0.1, "betas": (0.9, 0.99), "amsgrad": False, "params": list(state)}
    modules = {"net": net.state_dict(), "optimizer": {"state": state, "param_groups": [group]}}
    PtStore().save(keepfast.Checkpoint(map_leaves(lambda _, leaf: as_array(leaf), modules)), tmp_path / "trained.pt")
    zeros = [map_leaves(lambda _, leaf: np.zeros_like(leaf), model.variables["params"]) for _ in range(2)]
    holder = SimpleNamespace(state=({"count": np.int32(0), "mu": zeros[0], "nu": zeros[1]}, {}))
    agent = keepfast.Agent({"net": model})
    agent.checkpoint_modules["optimizer"] = keepfast.attribute(holder, "state")
    report = agent.migrate(tmp_path / "trained.pt")
    assert report.optimizers[0].status == "migrated", report
    summed = [note.partition(": ")[0] for note in report.notes if "two biases for each gate where" in note]
    for path, leaf in flatten(model.variables["params"]).items():
        if not any(name.endswith(path) for name in summed):
            np.testing.assert_array_equal(flatten(holder.state[0]["mu"])[path], leaf, err_msg=path)
