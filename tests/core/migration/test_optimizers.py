"""States of optimizers from torch.optim to optax and back: equal steps there, equal bits back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.tree import flatten
from tests.both_backends.documents import code_of
from tests.core.migration.optimizer_rows import OPTIMIZERS, OptimizerRow

pytestmark = pytest.mark.needs("torch", "jax", "flax", "optax")

ROWS = {row.kind: row for row in OPTIMIZERS}
MORE_STEPS = 100
SHAPES = {
    "conv.weight": (3, 2, 2, 2),
    "conv.bias": (3,),
    "dense.weight": (5, 12),
    "dense.bias": (5,),
    "rnn.weight_ih_l0": (12, 5),
    "rnn.weight_hh_l0": (12, 4),
    "rnn.bias_ih_l0": (12,),
    "rnn.bias_hh_l0": (12,),
}
SUMMED = ("params.rnn.ir.bias", "params.rnn.iz.bias")
"""The biases that are two in PyTorch, each of which makes the step that their sum makes in Flax."""

Arrays = dict[str, np.ndarray]


def normal(random: np.random.Generator, dtype: str) -> Arrays:
    """Return random values of a network, or its gradients, in the layout of PyTorch; shared biases have equal ones."""
    made = {name: random.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    made["rnn.bias_hh_l0"][:8] = made["rnn.bias_ih_l0"][:8]
    return made


def in_flax(arrays: Arrays, *, summed: bool) -> dict[str, Any]:
    """Return them in the layout of Flax, of a flatten between convolution and dense layer; written by hand."""
    dense = arrays["dense.weight"].reshape(5, 3, 4).transpose(2, 1, 0).reshape(12, 5)
    tree: dict[str, Any] = {
        "conv": {"kernel": arrays["conv.weight"].transpose(2, 3, 1, 0), "bias": arrays["conv.bias"]},
        "dense": {"kernel": dense, "bias": arrays["dense.bias"]},
        "rnn": {},
    }
    for number, gate in enumerate("rzn"):
        rows = slice(4 * number, 4 * number + 4)
        one, other = (arrays[f"rnn.bias_{part}_l0"][rows] for part in ("ih", "hh"))
        tree["rnn"][f"i{gate}"] = {
            "kernel": arrays["rnn.weight_ih_l0"][rows].T,
            "bias": one if gate == "n" or not summed else one + other,
        }
        tree["rnn"][f"h{gate}"] = {"kernel": arrays["rnn.weight_hh_l0"][rows].T}
    tree["rnn"]["hn"]["bias"] = other
    return {"params": tree}


class Torch:
    """A network of PyTorch and its optimizer, stepped by gradients that are given."""

    def __init__(self, row: OptimizerRow, dtype: str, seed: int) -> None:
        import torch

        layers = {"conv": torch.nn.Conv2d(2, 3, 2), "dense": torch.nn.Linear(12, 5), "rnn": torch.nn.GRU(5, 4)}
        self.net = torch.nn.ModuleDict(layers).to(getattr(torch, dtype))
        values = normal(np.random.default_rng(seed), dtype)
        self.net.load_state_dict({name: torch.as_tensor(value) for name, value in values.items()})
        p = list(self.net.parameters())
        groups = {"p": p, "kernels": [each for each in p if each.ndim > 1], "biases": [x for x in p if x.ndim == 1]}
        self.optimizer = eval(f"torch.optim.{row.torch}", {"torch": torch, **groups})
        modules = {"policy": self.net, "optimizer": self.optimizer}
        self.scheduler = None
        if row.decay is not None:
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: row.decay**step)
            modules["scheduler"] = self.scheduler
        self.agent = keepfast.Agent(modules)
        self.clipped = row.clipped

    def step(self, gradients: Arrays) -> None:
        import torch

        for name, parameter in self.net.named_parameters():
            parameter.grad = torch.as_tensor(gradients[name].copy())
        if self.clipped is not None:
            torch.nn.utils.clip_grad_value_(self.net.parameters(), self.clipped)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    @property
    def values(self) -> Arrays:
        return {name: value.detach().numpy().copy() for name, value in self.net.state_dict().items()}


class Jax:
    """A tree of Flax and the state of a transformation, stepped by gradients that are given."""

    def __init__(self, row: OptimizerRow, dtype: str, seed: int) -> None:
        import jax
        import optax

        values = in_flax(normal(np.random.default_rng(seed), dtype), summed=True)
        self.params = jax.tree.map(jax.numpy.asarray, values)
        axes = jax.tree.map(lambda leaf: min(leaf.ndim, 2), self.params)
        labels = {"axes": axes, **{n: jax.tree.map(lambda x, n=n: (x == 2) is (n == "kernels"), axes) for n in NAMES}}
        self.transformation = eval(row.optax, {"optax": optax, **labels})
        self.state = self.transformation.init(self.params)
        self.update = jax.jit(self._update)
        self.agent = keepfast.Agent({})
        for name, attribute in (("policy", "params"), ("optimizer", "state")):
            self.agent.checkpoint_modules[name] = keepfast.attribute(self, attribute)

    def _update(self, gradients: Any, state: Any, params: Any) -> Any:
        import optax

        updates, state = self.transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def step(self, gradients: Arrays) -> None:
        self.params, self.state = self.update(in_flax(gradients, summed=False), self.state, self.params)

    @property
    def values(self) -> Any:
        return self.params


NAMES = ("kernels", "biases")


def steps(seed: int, count: int, dtype: str, *sides: Any) -> None:
    """Have all make the same steps."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        gradients = normal(random, dtype)
        for side in sides:
            side.step(gradients)


def assert_alike(one: Torch, other: Jax, tolerance: float = 1e-5) -> None:
    """Compare the parameters of both, but for the biases of which two make a step each."""
    expected = flatten(in_flax(one.values, summed=True))
    for path, value in flatten(other.values).items():
        if path not in SUMMED:
            np.testing.assert_allclose(np.asarray(value), expected[path], rtol=0, atol=tolerance, err_msg=path)


@pytest.fixture
def precise(request: pytest.FixtureRequest) -> Iterator[str]:
    import jax

    with jax.enable_x64(request.param == "float64"):
        yield request.param


CASES = [(kind, "float64") for kind in ROWS] + [("Adam", "float32"), ("RMSprop with momentum", "float32")]


@pytest.mark.parametrize(("kind", "precise"), CASES, indirect=["precise"])
def test_the_next_steps_agree_and_bits_come_back(kind: str, precise: str, tmp_path: Path) -> None:
    """Each way the next 100 steps on equal gradients agree; there and back, what is kept is what it was."""
    row = ROWS[kind]
    one, other = Torch(row, precise, 0), Jax(row, precise, 1)
    steps(2, row.steps, precise, one)
    report = other.agent.migrate(one.agent.save(tmp_path / "there.pt"))
    assert report
    assert [(each.status, each.sources) for each in report.optimizers] == [("migrated", ("optimizer",))], report
    assert_alike(one, other, 1e-6)
    came_back(row, one, other, precise, tmp_path)
    steps(3, MORE_STEPS, precise, one, other)
    assert_alike(one, other)
    third = Torch(row, precise, 4)
    assert third.agent.migrate(other.agent.save(tmp_path / "then.safetensors"))
    assert_alike(third, other, 1e-6)
    steps(5, MORE_STEPS, precise, third, other)
    assert_alike(third, other)


def came_back(row: OptimizerRow, one: Torch, other: Jax, dtype: str, tmp_path: Path) -> None:
    """Compare what an optimizer of PyTorch keeps with what it is given back."""
    again = Torch(row, dtype, 6)
    report = again.agent.migrate(other.agent.save(tmp_path / "back.safetensors"))
    assert {each.status for each in report.optimizers} == {"migrated"}, report
    if row.decay is not None:
        assert again.scheduler.last_epoch == row.steps
    expected, found = one.optimizer.state_dict()["state"], again.optimizer.state_dict()["state"]
    assert expected.keys() == found.keys()
    for number, entry in expected.items():
        assert entry.keys() == found[number].keys()
        for name, value in entry.items():
            if name != "step" or row.is_counted:
                rounding = 0 if row.is_exact else 4 * np.finfo(dtype).eps
                assert found[number][name].dtype == value.dtype
                np.testing.assert_allclose(found[number][name].numpy(), value.numpy(), rtol=rounding, atol=0)


def test_the_page_runs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there; the report says what the comment does."""
    code = code_of((project / "docs" / "migrating-optimizers.md").read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "migrating-optimizers.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.strip() == code.splitlines()[-1].partition("# ")[2]


def test_a_state_of_another_class_stays(tmp_path: Path) -> None:
    """AdaBelief has the fields of Adam, and means another thing by them; what keeps more than its kind stays too."""
    row = ROWS["Adam"]
    one = Torch(row, "float32", 0)
    steps(1, 1, "float32", one)
    path = one.agent.save(tmp_path / "there.pt")
    averaged = "optax.chain(optax.adam(0.01), optax.ema(0.9))"
    for optax_call, why in (("optax.adabelief(0.01)", "a ScaleByBeliefState"), (averaged, "`1.ema.params")):
        other = Jax(dataclasses.replace(row, optax=optax_call), "float32", 1)
        report = other.agent.migrate(path)
        assert report
        assert report.optimizers[0].status == "left"
        assert why in report.optimizers[0].why
