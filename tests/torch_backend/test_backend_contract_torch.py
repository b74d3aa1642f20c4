"""The PyTorch backend keeps the contract of backends, with every kind of module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keepfast.testing import BackendContract, BackendSubject  # noqa: E402
from keepfast_torch import TorchBackend  # noqa: E402

INPUTS = torch.linspace(-1, 1, 24).reshape(6, 4)


class Net(torch.nn.Module):
    """Parameters, buffers, tied weights, a bfloat16 parameter, one without dimensions, and extra state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.ELU())
        self.head = torch.nn.Linear(5, 4)
        self.tied = torch.nn.Linear(5, 4)
        self.tied.weight = self.head.weight
        self.scale = torch.nn.Parameter(torch.rand(()))
        self.coarse = torch.nn.Parameter(torch.rand(5).bfloat16())
        self.seen: dict[str, Any] = {"steps": 0, "ranges": (torch.rand(2), None)}

    def forward(self, inputs: Any) -> Any:
        hidden = self.body(inputs) * self.scale + self.coarse.float()
        return self.head(hidden) + self.tied(hidden)

    def get_extra_state(self) -> dict[str, Any]:
        return self.seen

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seen = state


class Learner:
    """A net and the optimizer that trains it, whose state is the subject."""

    def __init__(self, seed: int, make: Callable[[Any], Any]) -> None:
        torch.manual_seed(seed)
        self.net = torch.nn.Linear(4, 3)
        self.optimizer = make(self.net.parameters())
        for _ in range(3):
            self.step(INPUTS + seed)

    def step(self, inputs: Any) -> None:
        def loss() -> Any:
            self.optimizer.zero_grad()
            value = (self.net(inputs).square() + self.net(inputs).sin()).mean()
            value.backward()
            return value

        self.optimizer.step(loss)


def make_net(seed: int) -> Any:
    torch.manual_seed(seed)
    return Net()


def train_net(net: Any) -> Any:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(INPUTS).square().mean().backward()
    optimizer.step()
    net.zero_grad()
    net.seen["steps"] += 1
    net.seen["ranges"][0].mul_(0.5)
    return net


def optimizer_subject(make: Callable[[Any], Any]) -> tuple[Callable[[int], Any], Callable[[Any], Any]]:
    """Return the maker of trained optimizers, and a step that depends on the optimizer's state only."""

    def make_optimizer(seed: int) -> Any:
        return Learner(seed, make).optimizer

    def train(optimizer: Any) -> Any:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(0.5)
        weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def loss() -> Any:
            optimizer.zero_grad()
            value = sum((weight.square() + weight.sin()).sum() for weight in weights)
            value.backward()
            return value

        optimizer.step(loss)
        return optimizer

    return make_optimizer, train


def make_tensor(seed: int) -> Any:
    torch.manual_seed(seed)
    return torch.randn(3, 4)


def train_tensor(tensor: Any) -> Any:
    with torch.no_grad():
        return tensor.mul_(0.5)


def make_parameter(seed: int) -> Any:
    return torch.nn.Parameter(make_tensor(seed).t())


def make_container(seed: int) -> Any:
    return {"mean": make_tensor(seed), "moments": [make_tensor(seed + 10), (make_tensor(seed + 20), 3)], "count": seed}


def train_container(container: Any) -> Any:
    container["mean"].mul_(0.5)
    container["moments"][1][0].add_(1)
    container["count"] += 1
    return container


def make_tuple(seed: int) -> Any:
    return make_tensor(seed), [make_tensor(seed + 1)]


def train_tuple(pair: Any) -> Any:
    return pair[0].mul(0.5), [pair[1][0] + 1]


def make_generator(seed: int) -> Any:
    return torch.Generator().manual_seed(seed)


def train_generator(generator: Any) -> Any:
    torch.rand(3, generator=generator)
    return generator


class Normalizer:
    """An object of a user's, with tensors, an array and numbers, that keeps what it is given."""

    def __init__(self, seed: int) -> None:
        self.state: dict[str, Any] = {"mean": make_tensor(seed), "bounds": np.full(3, float(seed)), "count": seed}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def train_normalizer(normalizer: Normalizer) -> Normalizer:
    normalizer.state["mean"].mul_(0.5)
    normalizer.state["bounds"] *= 2
    normalizer.state["count"] += 1
    return normalizer


SUBJECTS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "module": (make_net, train_net),
    "data-parallel module": (lambda seed: torch.nn.DataParallel(make_net(seed)), lambda m: (train_net(m.module), m)[1]),
    "tensor": (make_tensor, train_tensor),
    "parameter": (make_parameter, train_tensor),
    "container": (make_container, train_container),
    "tuple": (make_tuple, train_tuple),
    "generator": (make_generator, train_generator),
    "stateful object": (Normalizer, train_normalizer),
    "Adam": optimizer_subject(lambda parameters: torch.optim.Adam(parameters, amsgrad=True)),
    "SGD": optimizer_subject(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)),
    "LBFGS": optimizer_subject(lambda parameters: torch.optim.LBFGS(parameters, max_iter=3, history_size=4)),
}


class TestTorchBackend(BackendContract):
    @pytest.fixture(params=SUBJECTS)
    def subject(self, request: pytest.FixtureRequest) -> BackendSubject:
        make_module, train = SUBJECTS[request.param]
        return BackendSubject(TorchBackend(), make_module, train, torch.from_numpy, lambda: torch.rand(5))
