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


class Policy(Model):
    """A policy as agents' libraries have it."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        Model.__init__(self, observation_space, action_space, device, **kwargs)

    @nn.compact
    def __call__(self, inputs: Any, role: str = "") -> Any:
        x = nn.relu(nn.Dense(4)(inputs["states"]))
        return nn.Dense(self.num_actions or 0)(x), None, {}


class Completed(Policy):
    """One that completes linen's construction itself, and is a linen module by name too."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, device, **kwargs)
        nn.Module.__post_init__(self)


class Plain(Model, nn.Module):
    """One without a constructor of its own, and with another field."""

    width: int = 4

    def setup(self) -> None:
        self.hidden, self.out = nn.Dense(self.width), nn.Dense(self.num_actions or 0)

    def __call__(self, inputs: Any, role: str = "") -> Any:
        return self.out(nn.relu(self.hidden(inputs["states"]))), None, {}


INPUTS = {"states": jnp.ones((1, 3))}


def same(left: Any, right: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), left, right)))


@pytest.mark.parametrize("kind", [Policy, Completed, Plain])
def test_a_model_is_a_linen_module_with_its_variables(kind: type[Any], tmp_path: Path) -> None:
    """A class of one's own saves and loads itself, is a module of an agent, and works as linen's modules do."""
    model, other = kind(3, 2), kind(3, 2, device="cpu")
    assert isinstance(model, nn.Module)
    variables = model.init_variables(jax.random.key(0), INPUTS, "policy")
    assert variables is model.variables
    other.init_variables(jax.random.key(1), INPUTS)
    out = model.apply(model.variables, INPUTS)[0]
    assert out.shape == (1, 2)
    assert (jax.jit(model.apply)(model.variables, INPUTS)[0] - out < 1e-6).all()
    for extension in (".safetensors", ".pickle", ".msgpack"):
        other.variables = jax.tree.map(jnp.zeros_like, other.variables)
        assert other.load(model.save(tmp_path / f"policy{extension}"))
        assert same(other.variables, model.variables)
        fresh = kind(3, 2)
        assert fresh.load(tmp_path / f"policy{extension}").loaded
        assert same(fresh.variables, model.variables)
    agent = keepfast.Agent({"policy": model}, cfg={"experiment": {"directory": str(tmp_path)}})
    again = keepfast.Agent({"policy": other}, cfg={"experiment": {"directory": str(tmp_path)}})
    other.variables = jax.tree.map(jnp.zeros_like, other.variables)
    assert again.load(agent.save(tmp_path / "agent.safetensors"))
    assert same(other.variables, model.variables)


def test_a_model_without_variables_is_told(tmp_path: Path) -> None:
    """By a save, which says what makes them; a device that is none, and an argument too many, by the constructor."""
    with pytest.raises(keepfast.UnsupportedModule, match="is a Policy without variables; `init_variables` makes"):
        Policy(3, 2).save(tmp_path / "policy.safetensors")
    with pytest.raises(keepfast.InvalidValue, match="there is no device"):
        Policy(3, 2, "cud:7")
    with pytest.raises(keepfast.InvalidValue, match="a model was given `width`"):
        Policy(3, 2, width=4)


def test_a_file_of_flax_under_the_older_name_is_read_by_content(tmp_path: Path) -> None:
    """What a model of another library wrote as `.pickle`, and what ours writes is read by it as it reads its own."""
    flax = pytest.importorskip("flax.serialization")
    path, model = tmp_path / "2500_policy.pickle", Policy(3, 2)
    params = model.init(jax.random.key(3), INPUTS)
    path.write_bytes(flax.to_bytes(params))
    model.load(path)
    assert same(model.variables, params)
    held = keepfast_model(model)
    held.load(path)
    assert same(held.variables, params)
    model.save(path)
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert same(flax.from_bytes(zeros, path.read_bytes()), params)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(keepfast.CorruptCheckpoint):
        model.load(path)


def keepfast_model(model: Any) -> Any:
    """Return a holder of the same module with other variables."""
    return Model(model, jax.tree.map(jnp.zeros_like, model.variables))
