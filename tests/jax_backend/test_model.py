"""Model carries a linen module and its variables through calls and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import keepfast  # noqa: E402
from keepfast_jax import JaxBackend, Model  # noqa: E402


class Network(nn.Module):
    features: int = 2

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(self.features)(x))

    def double(self, x: Any) -> Any:
        return 2 * x


def model(seed: int, features: int = 2) -> Model:
    module = Network(features)
    return Model(module, module.init(jax.random.key(seed), jnp.ones((1, 3))))


def test_apply_calls_the_module_with_its_variables() -> None:
    """Positional and keyword arguments, other methods and mutable collections are passed on."""
    held, x = model(0), jnp.arange(6.0).reshape(2, 3)
    assert (held.apply(x) == held.module.apply(held.variables, x)).all()
    assert (held.apply(x, method="double") == 2 * x).all()
    _, changed = held.apply(x, train=True, mutable=["batch_stats"])
    assert set(changed) == {"batch_stats"}


@pytest.mark.parametrize("extension", [".safetensors", ".pt"])
def test_saved_variables_load_into_a_model_that_keeps_its_identity(tmp_path: Path, extension: str) -> None:
    """In any format, and the loaded model computes the same."""
    one, other, x = model(0), model(1), jnp.ones((4, 3))
    path = one.save(tmp_path / f"model{extension}")
    report = other.load(path)
    assert sorted(report.loaded) == [
        "module.batch_stats.BatchNorm_0.mean",
        "module.batch_stats.BatchNorm_0.var",
        "module.params.BatchNorm_0.bias",
        "module.params.BatchNorm_0.scale",
        "module.params.Dense_0.bias",
        "module.params.Dense_0.kernel",
    ]
    assert (one.apply(x) == other.apply(x)).all()


def test_variables_of_other_shapes_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    """Each difference is named with both sides; `strict=False` loads what fits."""
    path = model(0, features=2).save(tmp_path / "model.safetensors")
    other = model(1, features=5)
    variables = other.variables
    with pytest.raises(keepfast.LoadMismatch, match=r"params\.Dense_0\.kernel: shape: .*\(3, 5\).*\(3, 2\)"):
        other.load(path)
    assert other.variables is variables


def test_variables_load_onto_a_named_device(tmp_path: Path) -> None:
    """As `device` says, whatever the model was on."""
    path = model(0).save(tmp_path / "model.safetensors")
    other = model(1)
    other.load(path, "cpu:0")
    assert all(leaf.committed for leaf in jax.tree.leaves(other.variables))


@pytest.mark.parametrize("device", ["banana", "cpu:99", "cpu:-1", 1.5])
def test_a_device_that_is_not_there_is_refused_and_nothing_is_loaded(device: Any, tmp_path: Path) -> None:
    """InvalidValue tells what was given and lists what there is."""
    path = model(0).save(tmp_path / "model.safetensors")
    other = model(1)
    variables = other.variables
    with pytest.raises(keepfast.InvalidValue, match=f"there is no device `{device}`; known: .*cpu:0"):
        other.load(path, device)
    assert other.variables is variables


def test_a_model_is_a_module_of_an_experiment(tmp_path: Path) -> None:
    """What a checkpoint keeps of it are its variables at that time."""
    backend, held = JaxBackend(), model(0)
    saved = backend.host_copy(backend.capture(held))
    held.variables = jax.tree.map(jnp.zeros_like, held.variables)
    assert backend.restore(held, saved) is held
    kernel = held.variables["params"]["Dense_0"]["kernel"]
    assert np.asarray(kernel).tobytes() == saved["params"]["Dense_0"]["kernel"].tobytes()
