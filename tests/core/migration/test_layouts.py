"""PyTorch to Flax and back, for twenty kinds of layers: equal outputs there, equal bits back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.tree import flatten
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
