"""Every public call times every wrong argument, with modules, memories and tensors of PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import keepfast_torch
from tests.both_backends.every_call import KINDS, EveryCallSuite, Kind, Place


class HostileTensor(torch.Tensor):
    """Raises at every function of PyTorch."""

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise RuntimeError("it raises whatever it is asked")


def hostile(_: Path) -> Any:
    return torch.zeros(2).as_subclass(HostileTensor)


def fake(_: Path) -> Any:
    with FakeTensorMode() as mode:
        return mode.from_tensor(torch.zeros(2))


def quantised(_: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch will do without them
        return torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8)


def batched(_: Path) -> Any:
    kept: list[Any] = []
    torch.func.vmap(lambda row: kept.append(row) or row)(torch.zeros(2, 1))
    return kept[0]


def freed(_: Path) -> Any:
    made = torch.zeros(2)
    made.untyped_storage().resize_(0)
    return made


def without_memory(net: torch.nn.Linear) -> Any:
    net.weight.untyped_storage().resize_(0)
    return net


TENSORS: Mapping[str, Kind] = {
    "an efficient zero tensor": lambda _: torch._efficientzerotensor(2),
    "a tensor on meta": lambda _: torch.zeros(2, device="meta"),
    "a fake tensor": fake,
    "a sparse tensor": lambda _: torch.zeros(2).to_sparse(),
    "a sparse tensor by rows": lambda _: torch.zeros(2, 2).to_sparse_csr(),
    "a quantised tensor": quantised,
    "a nested tensor": lambda _: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
    "a jagged tensor": lambda _: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)], layout=torch.jagged),
    "a tensor of vmap": batched,
    "a tensor of MKL-DNN": lambda _: torch.zeros(2).to_mkldnn(),
    "a complex tensor": lambda _: torch.zeros(2, dtype=torch.complex64),
    "a conjugate": lambda _: torch.ones(2, dtype=torch.complex64).conj(),
    "a negative view": lambda _: torch.ones(2, dtype=torch.complex64).conj().imag,
    "a tensor with a gradient": lambda _: torch.zeros(2, requires_grad=True) * 2,
    "a tensor of no dimension": lambda _: torch.tensor(1.0),
    "a tensor of nothing": lambda _: torch.zeros(0),
    "a tensor of float8": lambda _: torch.zeros(2, dtype=torch.float8_e4m3fnuz),
    "a tensor of bits": lambda _: torch.zeros(2, dtype=torch.uint8).view(torch.bits8),
    "an expanded tensor": lambda _: torch.zeros(1).expand(2),
    "a hostile tensor": hostile,
    "a parameter without a shape": lambda _: torch.nn.UninitializedParameter(),
    "a lazy network": lambda _: torch.nn.LazyLinear(2),
    "a network on meta": lambda _: torch.nn.Linear(2, 2, device="meta"),
    "a device": lambda _: torch.device("cuda:99"),
    "a device of no build": lambda _: torch.device("xla:0"),
    "a dtype": lambda _: torch.float32,
    "a storage": lambda _: torch.zeros(2).untyped_storage(),
    "a tensor whose storage was freed": freed,
    "a dict of a tensor whose storage was freed": lambda folder: {"a": freed(folder)},
    "a network whose storage was freed": lambda _: without_memory(torch.nn.Linear(2, 3)),
}


class Policy(keepfast_torch.Model, torch.nn.Module):
    """A model as users write them."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any) -> None:
        super().__init__(observation_space, action_space, device)
        self.layer = torch.nn.Linear(self.num_observations or 1, self.num_actions or 1)


MODEL = ("save", "load", "migrate")


class TestEveryCall(EveryCallSuite):
    kinds: ClassVar[Mapping[str, Kind]] = {**KINDS, **TENSORS}
    extension = ".pt"

    def net(self) -> Any:
        return torch.nn.Linear(2, 3)

    def memory(self, *arguments: Any, **options: Any) -> keepfast_torch.RandomMemory:
        return keepfast_torch.RandomMemory(*arguments, **options)

    def test_nothing_foreign_is_raised_by_the_constructor_of_a_model(self, at: Place) -> None:
        """Spaces that are none are told, and devices that do not exist."""
        self.check("Model", Policy, at)

    @pytest.mark.parametrize("call", MODEL)
    def test_nothing_foreign_is_raised_by_a_model(self, call: str, at: Place) -> None:
        """A model saves, loads and migrates itself as the functions of these names do."""
        model = Policy(3, 2, None)
        at.file = model.save(at.folder / "kept" / "model.pt")
        self.check(f"Model.{call}", getattr(model, call), at)
