"""What a load that fails leaves of modules of PyTorch."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import keepfast
import keepfast_torch
import keepfast_torch.remembering
from keepfast._system.memory.exchanging import Exchange
from keepfast.modules.options import LoadOptions
from keepfast.modules.registered import registered
from keepfast.modules.restoring import restore_all
from keepfast.plugins.formats import format_of, read_checkpoint
from keepfast.testing.kept import RunningMeanStd
from tests.both_backends.undone import UndoneSuite, bits
from tests.torch_backend.framework import Torch


class Net(torch.nn.Module):
    """Has of everything: parameters, a batch norm, a buffer that is expanded, and an extra state."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        self.register_buffer("scale", torch.full((1,), float(seed)).expand(4))
        self.steps, self.seen = seed, {"values": torch.full((2,), float(seed))}
        torch.nn.init.constant_(self.body[0].weight, seed)

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": self.seen["values"]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.seen["values"].copy_(torch.as_tensor(state["values"]))


class Scaler:
    """Looks after its own state, half of it in an object of its own."""

    def __init__(self, seed: int) -> None:
        self.mean, self.inner = torch.full((3,), float(seed)), SimpleNamespace(count=seed, last=[seed] * seed)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.clone(), "count": self.inner.count, "last": list(self.inner.last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.count = state["count"]
        self.inner.last[:] = state["last"]
        self.mean.copy_(state["mean"])


class TestUndone(Torch, UndoneSuite):
    def agent(self, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        net, owner = Net(seed), SimpleNamespace(epsilon=1.0 / seed)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1 * seed)
        net.body(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        memory = keepfast_torch.RandomMemory(memory_size=4, num_envs=2)
        memory.create_tensor("states", 3)
        memory.add_samples(states=torch.full((2, 3), float(seed)))
        return {
            "policy": net,
            "optimizer": optimizer,
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, seed),
            "scaler": Scaler(seed),
            "noise": torch.Generator().manual_seed(seed),
            "alpha": torch.full((2,), float(seed)),
            "pool": deque([torch.full((2,), float(seed))] * seed, 5),
            "rms": RunningMeanStd(float(seed)),
            "rng": np.random.default_rng(seed),
            "epsilon": keepfast.attribute(owner, "epsilon"),
            "memory": memory,
        }


class Refusing(Net):
    """Changes all that it has before it refuses its extra state."""

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.body[0].weight.data.zero_()
        raise RuntimeError("no such state")


class Replacing(Net):
    """Gets other parameters when it is loaded, and then says no."""

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        super().load_state_dict(state_dict, strict=strict, assign=True)
        raise KeyError("no such entry")


def _hooked(register: str) -> Any:
    def make(seed: int) -> torch.nn.Module:
        net = Net(seed)
        getattr(net.body[1], register)(_raise)
        return net

    return make


def _raise(*_given: Any, **_named: Any) -> None:
    raise RuntimeError("a hook refuses")


def _with_hook(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.register_load_state_dict_post_hook(_raise)
    return optimizer


@pytest.mark.parametrize(
    "make",
    [
        Refusing,
        Replacing,
        _hooked("register_load_state_dict_pre_hook"),
        _hooked("register_load_state_dict_post_hook"),
        lambda seed: _with_hook(torch.optim.Adam([torch.nn.Parameter(torch.full((2,), float(seed)))], lr=0.1 * seed)),
    ],
)
def test_what_refuses_leaves_all_modules_as_they_were(make: Any, tmp_path: Path) -> None:
    """The first module, which was loaded by then, and the one that refuses, tensors in their own memory."""
    saved = {"first": Net(1), "second": make(1)}
    other = {"first": Net(2), "second": make(2)}
    path = keepfast.Agent(saved).save(tmp_path / "agent.pt")
    before, tensors = bits(other), [*other["first"].parameters(), *_tensors(other["second"])]
    places = [tensor.data_ptr() for tensor in tensors]
    with pytest.raises(keepfast.LoadMismatch, match="second: refused: ") as raised:
        keepfast.Agent(other).load(path)
    assert str(path) in str(raised.value)
    assert bits(other) == before
    now = [*other["first"].parameters(), *_tensors(other["second"])]
    assert all(one is two for one, two in zip(tensors, now, strict=True))
    assert places == [tensor.data_ptr() for tensor in tensors]


def _tensors(module: Any) -> list[torch.Tensor]:
    if isinstance(module, torch.nn.Module):
        return [*module.parameters(), *module.buffers()]
    return [parameter for group in module.param_groups for parameter in group["params"]]


@pytest.mark.parametrize(
    "overlapping",
    [
        lambda value: torch.full((1,), value).expand(4),
        lambda value: torch.full((2, 1), value, dtype=torch.float64).expand(2, 3),
        lambda value: (torch.ones(1, dtype=torch.complex64) * complex(1, value)).conj().expand(3),
        lambda value: torch.full((1,), value, dtype=torch.bfloat16).expand(2, 2),
        lambda value: torch.full((1,), int(value)).expand(3),
        lambda value: (torch.arange(4.0) * value).as_strided((3, 2), (1, 1)),
    ],
)
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_tensors_that_share_a_number_are_loaded(overlapping: Any, extension: str, tmp_path: Path) -> None:
    """A buffer that is expanded, and such a tensor by itself, go on being what they are; other values get memory."""

    def net(tensor: torch.Tensor) -> torch.nn.Module:
        made = torch.nn.Linear(1, 1)
        made.register_buffer("m", tensor)
        return made

    saved, other = overlapping(3.0), overlapping(2.0)
    place = other.data_ptr()
    for one, two in ((net(saved), net(other)), (overlapping(5.0), other), ({"m": overlapping(7.0)}, {"m": other})):
        assert keepfast.load(two, keepfast.save(one, tmp_path / f"m{extension}"))
        theirs = one.m if isinstance(one, torch.nn.Module) else one["m"] if isinstance(one, dict) else one
        assert torch.equal(other, theirs)
        assert other.data_ptr() == place
    different = torch.arange(float(other.numel())).reshape(other.shape).to(other.dtype)
    assert keepfast.load(net(other), keepfast.save(net(different), tmp_path / f"n{extension}"))
    assert torch.equal(other, different)


@pytest.mark.parametrize("state", ["x", {}, {"cpu": np.zeros(3, np.uint8)}, {"cpu": np.zeros(5056, np.float32)}])
def test_a_random_state_of_another_version_is_passed_over(state: Any, tmp_path: Path) -> None:
    """A checkpoint with one that PyTorch cannot take is none to resume from, and changes nothing."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": []}
    with keepfast.Experiment(cfg, modules={"policy": Net(1)}) as experiment:
        experiment.write_checkpoint(5)
        experiment.write_checkpoint(10)
    path = tmp_path / "run" / "checkpoints" / "agent_10.pt"
    checkpoint = read_checkpoint(path)
    checkpoint.metadata["resume"]["random"]["backends"]["torch"] = state
    format_of("checkpoint format", path).save(checkpoint, path)
    other = {"policy": Net(2)}
    before, drawn = bits(other), torch.get_rng_state()
    with keepfast.Experiment(cfg, modules=other) as experiment:
        with pytest.raises(keepfast.CorruptCheckpoint, match="of another version of a library"):
            experiment.resume(path)
        assert bits(other) == before
        assert torch.equal(torch.get_rng_state(), drawn)
        with pytest.warns(keepfast.KeepfastWarning, match="skipped"):
            assert experiment.resume() == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64])
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_tensors_exchange_their_numbers_for_those_of_a_file_where_they_are(
    dtype: torch.dtype, extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, in their own memory and without a copy of what was there; their version tells autograd of it."""
    made: list[int] = []
    make = Exchange.make
    monkeypatch.setattr(Exchange, "make", lambda exchange: (made.append(1), make(exchange)))
    monkeypatch.setattr(keepfast_torch.remembering, "memory_for", None)
    saved, other = torch.randn(64, 64).mul(100).to(dtype), torch.zeros(64, 64, dtype=dtype)
    path = keepfast.save({"weight": saved}, tmp_path / f"state{extension}")
    place, version = other.data_ptr(), other._version
    keepfast.load({"weight": other}, path)
    assert made
    assert other.data_ptr() == place
    assert other._version > version
    assert other.equal(saved)


def test_a_load_between_forward_and_backward_is_told_of(tmp_path: Path) -> None:
    """As with PyTorch's own: a gradient of other parameters than those that were used is none."""
    net = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    path = keepfast.save(net, tmp_path / "net.pt")
    loss = net(torch.ones(1, 40)).sum()
    keepfast.load(net, path)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "make", [lambda: [torch.zeros(40, 40)] * 2, lambda: list(torch.zeros(2, 20, 40).expand(2, 20, 40))]
)
def test_tensors_over_one_memory_are_copied_to(make: Any, tmp_path: Path) -> None:
    """Where two share it, as tied weights do, what the last one gets is there, and else what each gets."""
    tensors = make()
    path = keepfast.save([torch.full_like(each, 2.0) for each in tensors], tmp_path / "state.safetensors")
    keepfast.load(tensors, path)
    assert all((each == 2).all() for each in tensors)


def test_optimizers_keep_what_was_read_and_leave_what_they_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tensors before no copy is made: they have the numbers that they had."""
    monkeypatch.setattr(keepfast_torch.remembering, "memory_for", None)
    parameter = torch.nn.Parameter(torch.zeros(40, 40))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(40, 40)
    optimizer.step()
    path = keepfast.save(optimizer, tmp_path / "adam.pt")
    optimizer.step()
    before = optimizer.state[parameter]["exp_avg"]
    kept = before.clone()
    keepfast.load(optimizer, path)
    now = optimizer.state[parameter]["exp_avg"]
    assert before.equal(kept)
    assert now is not before
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg"].equal(kept)


def test_what_was_exchanged_is_had_back(tmp_path: Path) -> None:
    """Where a later module refuses, also one that changed the exchanged tensors, or their memory, before it did."""
    saved = {"first": torch.nn.Linear(64, 64), "second": Refusing(1)}
    other = {"first": torch.nn.Linear(64, 64), "second": Refusing(2)}
    path = keepfast.Agent(saved).save(tmp_path / "agent.pt")
    before, places = bits(other), [each.data_ptr() for each in other["first"].parameters()]
    with pytest.raises(keepfast.LoadMismatch, match="no such state"):
        keepfast.Agent(other).load(path)
    assert bits(other) == before
    assert [each.data_ptr() for each in other["first"].parameters()] == places


def test_a_checkpoint_that_is_needed_again_is_not_given_away(tmp_path: Path) -> None:
    """Modules that are restored from it twice, as those that are registered late may be, get the same twice."""
    path = keepfast.save({"weight": torch.ones(64, 64)}, tmp_path / "state.pt")
    checkpoint, modules = read_checkpoint(path), registered({"module": {"weight": torch.zeros(64, 64)}}, None)
    for _ in range(2):
        modules[0].module["weight"].zero_()
        restore_all(modules, checkpoint, path, LoadOptions())
        assert (modules[0].module["weight"] == 1).all()
        assert (checkpoint.modules["module"]["weight"] == 1).all()


def test_tensors_of_nothing_are_loaded_and_undone(tmp_path: Path) -> None:
    """Of no memory there is no view with another dtype."""

    def made(value: float) -> dict[str, Any]:
        return {"none": torch.zeros(0), "rows": torch.zeros(3, 0), "scalar": torch.tensor(value)}

    path = keepfast.Agent({"a": made(1)}).save(tmp_path / "agent.pt")
    other, last = made(2), {"scalar": torch.tensor([2.0, 2.0])}
    with pytest.raises(keepfast.LoadMismatch):
        keepfast.Agent({"a": other, "b": last}).load(
            keepfast.Agent({"a": made(1), "b": made(1)}).save(tmp_path / "b.pt")
        )
    assert other["scalar"].item() == 2
    keepfast.Agent({"a": other}).load(path)
    assert other["scalar"].item() == 1
