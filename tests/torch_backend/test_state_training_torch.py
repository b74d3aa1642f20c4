"""Optimizers, schedulers and scalers of PyTorch go on from a file with the very bits they would have had."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402
from keepfast.testing.checkpoint_store import assert_same  # noqa: E402

nn, optim, schedulers = torch.nn, torch.optim, torch.optim.lr_scheduler
backend = keepfast_torch.TorchBackend()

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "ASGD": lambda p: optim.ASGD(p, lr=0.1, t0=1),
    "Adadelta": optim.Adadelta,
    "Adafactor": optim.Adafactor,
    "Adagrad": optim.Adagrad,
    "Adam": optim.Adam,
    "AdamW": lambda p: optim.AdamW(p, amsgrad=True),
    "Adamax": optim.Adamax,
    "LBFGS": lambda p: optim.LBFGS(p, max_iter=4, history_size=3, line_search_fn="strong_wolfe"),
    "Muon": lambda p: optim.Muon(p, lr=0.1),
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "RMSprop": lambda p: optim.RMSprop(p, centered=True, momentum=0.5),
    "Rprop": optim.Rprop,
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SparseAdam": lambda p: optim.SparseAdam(list(p)),
}
VARIANTS: dict[str, Callable[[Any], Any]] = {
    "plain SGD": lambda p: optim.SGD(p, lr=0.1),
    "Adam of two groups": lambda p: optim.Adam([{"params": [w], "lr": 0.1 * n} for n, w in enumerate(p, 1)]),
    "Adam with a tensor for a learning rate": lambda p: optim.Adam(p, lr=torch.tensor(0.01), foreach=False),
    "Adam one by one": lambda p: optim.Adam(p, foreach=False),
    "fused Adam": lambda p: optim.Adam(p, fused=True),
}


def network(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    if name == "SparseAdam":
        return nn.Embedding(6, 3, sparse=True)
    return nn.Sequential(nn.Linear(3, 5, bias=name != "Muon"), nn.Tanh(), nn.Linear(5, 3, bias=name != "Muon"))


def train(net: Any, optimizer: Any, seed: int) -> None:
    """Train for three steps on inputs that the seed gives."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        inputs = torch.randn(6, 3, generator=generator)

        def loss(inputs: Any = inputs) -> Any:
            optimizer.zero_grad()
            outputs = net(torch.arange(6)) if isinstance(net, nn.Embedding) else net(inputs)
            value = (outputs - inputs.sin()).square().sum()
            value.backward()
            return value

        optimizer.step(loss)


def test_the_table_has_every_optimizer_of_pytorch() -> None:
    """Whatever PyTorch has as an optimizer is tested here."""
    known = {name for name, kind in vars(optim).items() if isinstance(kind, type) and issubclass(kind, optim.Optimizer)}
    assert known - {"Optimizer"} == set(OPTIMIZERS)


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, *VARIANTS])
def test_an_optimizer_goes_on_bit_for_bit(name: str, extension: str, tmp_path: Path) -> None:
    """Three steps after they were loaded from files, network and optimizer have the bits of those never stopped."""
    make = {**OPTIMIZERS, **VARIANTS}[name]
    net = network(name)
    optimizer = make(net.parameters())
    train(net, optimizer, seed=1)
    agent = keepfast.Agent(models={"policy": net})
    agent.checkpoint_modules["optimizer"] = optimizer
    agent.save(tmp_path / f"agent{extension}")

    other_net = network(name, seed=7)
    other = make(other_net.parameters())
    resumed = keepfast.Agent(models={"policy": other_net})
    resumed.checkpoint_modules["optimizer"] = other
    resumed.load(tmp_path / f"agent{extension}")
    assert_same(host(other), host(optimizer))

    train(net, optimizer, seed=2)
    train(other_net, other, seed=2)
    assert_same(host(other), host(optimizer))
    assert_same(host(other_net), host(net))


def host(module: Any) -> Any:
    """Return what a checkpoint would hold of a module."""
    return backend.host_copy(backend.capture(module))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_file_of_an_earlier_or_a_later_step_loads(name: str, tmp_path: Path) -> None:
    """An optimizer that has stepped takes the state of one that has not, and the other way round."""
    nets = [network(name), network(name)]
    fresh, stepped = (OPTIMIZERS[name](net.parameters()) for net in nets)
    train(nets[1], stepped, seed=1)
    states = [host(fresh), host(stepped)]
    for optimizer, state, path in ((fresh, states[1], "later.pt"), (stepped, states[0], "earlier.pt")):
        keepfast.save(stepped if path == "later.pt" else OPTIMIZERS[name](nets[0].parameters()), tmp_path / path)
        assert keepfast.load(optimizer, tmp_path / path)
        assert_same(host(optimizer), state)


def test_the_state_is_keyed_as_pytorch_keys_it(tmp_path: Path) -> None:
    """In a .pt file the state of an optimizer is what `state_dict` gives, integer keys included."""
    net = network("Adam")
    optimizer = optim.Adam(net.parameters())
    train(net, optimizer, seed=1)
    saved = torch.load(keepfast.save(optimizer, tmp_path / "optimizer.pt"), weights_only=True)
    expected = optimizer.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    assert list(saved["state"]) == [0, 1, 2, 3]
    for number, entries in expected["state"].items():
        assert all(torch.equal(saved["state"][number][name], entry) for name, entry in entries.items())
    optim.Adam(net.parameters()).load_state_dict(saved)


def trained_state(make: Callable[[Any], Any]) -> Any:
    net = network("Adam")
    optimizer = make(net.parameters())
    train(net, optimizer, seed=1)
    return host(optimizer)


def test_every_difference_of_an_optimizers_state_is_listed() -> None:
    """Shapes that differ from the parameters' are all named with both sides, and nothing is loaded."""
    state = trained_state(optim.Adam)
    state["state"][0]["exp_avg"] = np.zeros((5, 4), np.float32)
    state["state"][3]["exp_avg_sq"] = np.zeros(9, np.float32)
    net = network("Adam")
    optimizer = optim.Adam(net.parameters())
    before = host(optimizer)
    with pytest.raises(keepfast.LoadMismatch) as caught:
        backend.restore(optimizer, state)
    assert str(caught.value) == (
        "the file's state does not fit this Adam; nothing loaded:"
        "\n  state.0.exp_avg: shape: the module has float32 (5, 3), the file has float32 (5, 4)"
        "\n  state.3.exp_avg_sq: shape: the module has float32 (3,), the file has float32 (9,)"
    )
    assert_same(host(optimizer), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: optim.Adam([{"params": [weight]} for weight in p]),
            r"param_groups: shape: the module has 4 group\(s\), the file has 1 group\(s\)",
        ),
        (
            lambda p: optim.Adam(list(p)[:3]),
            r"param_groups\.0\.params: shape: the module has 3 parameter\(s\), the file has 4 parameter\(s\)",
        ),
    ],
)
def test_an_optimizer_of_other_parameters_is_refused(make: Callable[[Any], Any], message: str) -> None:
    """Where the groups or the numbers of parameters differ, the error says both."""
    with pytest.raises(keepfast.LoadMismatch, match=message):
        backend.restore(make(network("Adam").parameters()), trained_state(optim.Adam))


@pytest.mark.parametrize(
    ("state", "differences"),
    [
        ({}, ["param_groups: missing", "state: missing"]),
        ({"weight": np.zeros(3)}, ["param_groups: missing", "state: missing", "weight: extra"]),
        ({"state": {}}, ["param_groups: missing"]),
        ({"state": None, "param_groups": 3}, ["state: kind", "param_groups: kind"]),
        ({"state": {}, "param_groups": [{"lr": 0.1}]}, ["param_groups.0: kind"]),
        ([1, 2], ["kind: the module has a dict of `state` and `param_groups`, the file has list [1, 2]"]),
        (None, ["kind: the module has a dict of `state` and `param_groups`, the file has NoneType None"]),
    ],
    ids=str,
)
def test_what_is_no_optimizers_state_is_refused(state: Any, differences: list[str]) -> None:
    """A state of something else says what an optimizer's state has, and is not loaded."""
    optimizer = optim.Adam(network("Adam").parameters())
    told = [str(mismatch) for mismatch in backend.mismatches(optimizer, state)]
    assert [line[: len(start)] for line, start in zip(told, differences, strict=True)] == differences
    with pytest.raises(keepfast.LoadMismatch, match="the file's state does not fit this Adam; nothing loaded"):
        backend.restore(optimizer, state)


def stepped_on_one_parameter(name: str) -> Any:
    """Return an optimizer that has made a step on a matrix."""
    parameter = nn.Parameter(torch.ones(6, 3))
    gradient = torch.ones(6, 3)
    parameter.grad = gradient.to_sparse(1) if name == "SparseAdam" else gradient
    optimizer = OPTIMIZERS[name]([parameter])
    optimizer.step(lambda: torch.zeros(()))
    return optimizer


@pytest.mark.parametrize("stepped", [False, True], ids=["fresh", "stepped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_another_kind_of_optimizer_does_not_fit(name: str, stepped: bool) -> None:
    """An optimizer takes the state of its own kind only, whether or not it has made a step; Adam and AdamW are one."""
    optimizer = stepped_on_one_parameter(name) if stepped else OPTIMIZERS[name]([nn.Parameter(torch.ones(6, 3))])
    states = {other: host(stepped_on_one_parameter(other)) for other in OPTIMIZERS}
    fitting = {other for other, state in states.items() if not backend.mismatches(optimizer, state)}
    assert fitting == ({"Adam", "AdamW"} if name in ("Adam", "AdamW") else {name})


def test_options_that_travel_with_the_state_may_differ() -> None:
    """An optimizer without momentum, or without AMSGrad, takes the state of one with it, and becomes it."""
    for make, other in (
        (lambda p: optim.SGD(p, lr=0.1), lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
        (optim.Adam, lambda p: optim.Adam(p, amsgrad=True)),
    ):
        net = network("Adam")
        optimizer = make(net.parameters())
        train(net, optimizer, seed=3)
        state = trained_state(other)
        assert not backend.mismatches(optimizer, state)
        backend.restore(optimizer, state)
        assert_same(host(optimizer), state)


def test_options_of_other_versions_and_of_schedulers_are_no_differences() -> None:
    """A file from before PyTorch had `fused`, or from a run with a scheduler, fits; an option of nobody does not."""
    state = trained_state(optim.Adam)
    del state["param_groups"][0]["fused"], state["param_groups"][0]["decoupled_weight_decay"]
    state["param_groups"][0]["initial_lr"] = 0.1
    optimizer = optim.Adam(network("Adam").parameters())
    assert not backend.mismatches(optimizer, state)
    state["param_groups"][0]["speed"] = 3
    del state["param_groups"][0]["betas"]
    assert [str(mismatch) for mismatch in backend.mismatches(optimizer, state)] == [
        "param_groups.0.betas: missing: the file has no such entry; expected tuple (0.9, 0.999)",
        "param_groups.0.speed: extra: the module has no such entry; the file has int 3",
    ]


class Counting(optim.Optimizer):  # type: ignore[misc, name-defined]
    """An optimizer of the user's, which adds an option when it steps."""

    def __init__(self, parameters: Any, pace: float = 1.0) -> None:
        super().__init__(parameters, {"pace": pace})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            for parameter in group["params"]:
                self.state[parameter]["total"] = parameter.detach().sum()


def test_an_optimizer_of_the_users_may_add_options_as_it_steps() -> None:
    """It takes its own state before and after its first step, and none without the options that it began with."""
    fresh, stepped = (Counting([nn.Parameter(torch.ones(6, 3))]) for _ in range(2))
    stepped.step()
    assert not backend.mismatches(fresh, host(stepped))
    assert not backend.mismatches(stepped, host(fresh))
    adam = host(stepped_on_one_parameter("Adam"))
    assert [mismatch.path for mismatch in backend.mismatches(fresh, adam)] == ["param_groups.0.pace"]
    assert {mismatch.path for mismatch in backend.mismatches(stepped, adam)} == {
        *("param_groups.0.pace", "state.0.step", "state.0.exp_avg", "state.0.exp_avg_sq")
    }


def test_an_optimizer_that_does_not_fit_is_told_of_with_the_network(tmp_path: Path) -> None:
    """One error names the file and lists network and optimizer; without `strict` the network alone is loaded."""
    net = network("Adam")
    agent = keepfast.Agent(models={"policy": net})
    agent.checkpoint_modules["optimizer"] = optim.SGD(net.parameters(), lr=0.1)
    path = agent.save(tmp_path / "agent.pt")
    other = nn.Sequential(*network("Adam", seed=7)[:2], nn.Linear(5, 3, bias=False))
    resumed = keepfast.Agent(models={"policy": other})
    resumed.checkpoint_modules["optimizer"] = optimizer = optim.Adam(other.parameters())
    before = host(optimizer)
    with pytest.raises(keepfast.LoadMismatch) as caught:
        resumed.load(path)
    head, *listing = str(caught.value).splitlines()
    assert f"`{path}` does not fit" in head
    assert "  policy.2.bias: extra: the module has no such entry; the file has float32 (3,)" in listing
    assert any(line.startswith("  optimizer.param_groups.0.betas: missing: ") for line in listing)
    assert any(line.startswith("  optimizer.param_groups.0.params: shape: ") for line in listing)
    report = resumed.load(path, strict=False)
    assert torch.equal(other[0].weight, net[0].weight)
    assert {name.partition(".")[0] for name in report.loaded} == {"policy"}
    assert_same(host(optimizer), before)


def test_moments_of_bfloat16_parameters_keep_their_bits() -> None:
    """The state of an optimizer of bfloat16 parameters is of bfloat16 and comes back bit for bit."""
    nets = [network("Adam", seed).bfloat16() for seed in (0, 1)]
    first, second = (optim.AdamW(net.parameters(), lr=0.1) for net in nets)
    for parameter in nets[0].parameters():
        parameter.grad = torch.randn_like(parameter)
    first.step()
    backend.restore(second, host(first))
    assert second.state_dict()["state"][0]["exp_avg"].dtype == torch.bfloat16
    assert_same(host(second), host(first))


class Warmup:
    """A learning-rate factor with a state of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, epoch: int) -> float:
        self.calls += 1
        return 1 / (1 + epoch + self.calls)


def halves(epoch: int) -> float:
    return 0.5**epoch


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, halves),
    "LambdaLR of an object": lambda o: schedulers.LambdaLR(o, Warmup()),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, halves),
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 6, 6, 9]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, total_iters=7),
    "LinearLR": lambda o: schedulers.LinearLR(o, total_iters=9),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, total_iters=4), schedulers.MultiStepLR(o, [3])], milestones=[7]
    ),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, total_iters=12, power=2),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 9),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, total_iters=3), schedulers.ExponentialLR(o, 0.8)]
    ),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "CyclicLR of an object": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3, scale_fn=Warmup()),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=30),
    "SWALR": lambda o: optim.swa_utils.SWALR(o, 0.05, anneal_epochs=12),
}


def test_the_table_has_every_scheduler_of_pytorch() -> None:
    """Whatever PyTorch has as a learning-rate scheduler is tested here."""
    kinds = [kind for kind in vars(schedulers).values() if isinstance(kind, type)]
    known = {kind.__name__ for kind in kinds if issubclass(kind, schedulers.LRScheduler)}
    assert known - {"LRScheduler", "_LRScheduler"} == {name.partition(" ")[0] for name in SCHEDULERS} - {"SWALR"}


def scheduled(make: Callable[[Any], Any]) -> tuple[Any, Any]:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([{"params": [parameter], "lr": 0.1}], lr=0.2, momentum=0.9)
    return optimizer, make(optimizer)


def advance(optimizer: Any, scheduler: Any, epochs: int) -> list[float]:
    """Return the learning rate of each of so many epochs."""
    rates = []
    for epoch in range(epochs):
        optimizer.step()
        if isinstance(scheduler, schedulers.ReduceLROnPlateau):
            scheduler.step(1.0 + epoch // 3)
        else:
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_where_it_was(name: str, extension: str, tmp_path: Path) -> None:
    """A scheduler and its optimizer, loaded from a file, give the learning rates of those that were never stopped."""
    optimizer, scheduler = scheduled(SCHEDULERS[name])
    before = advance(optimizer, scheduler, 5)
    agent = keepfast.Agent()
    agent.checkpoint_modules |= {"optimizer": optimizer, "scheduler": scheduler}
    path = agent.save(tmp_path / f"agent{extension}")
    other_optimizer, other = scheduled(SCHEDULERS[name])
    resumed = keepfast.Agent()
    resumed.checkpoint_modules |= {"optimizer": other_optimizer, "scheduler": other}
    assert resumed.load(path)
    assert_same(host(other), host(scheduler))
    expected = advance(optimizer, scheduler, 10)
    assert len({*before, *expected}) > 1
    assert advance(other_optimizer, other, 10) == expected
    assert_same(host(other), host(scheduler))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_copy_of_a_scheduler_stays_as_it_is(name: str) -> None:
    """The lists and counters of a scheduler's state are copied too: stepping on does not reach them, nor a restore."""
    optimizer, scheduler = scheduled(SCHEDULERS[name])
    advance(optimizer, scheduler, 2)
    saved = host(scheduler)
    expected = copy.deepcopy(saved)
    advance(optimizer, scheduler, 8)
    assert_same(saved, expected)
    backend.restore(scheduler, saved)
    advance(optimizer, scheduler, 8)
    assert_same(saved, expected)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_another_kind_of_scheduler_does_not_fit(name: str) -> None:
    """A scheduler takes the state of its own kind only; the two that multiply by a function have the same state."""
    functions = {"LambdaLR", "LambdaLR of an object", "MultiplicativeLR"}
    cycles = {"CyclicLR", "CyclicLR of an object"}
    same_state = next((kinds for kinds in (functions, cycles) if name in kinds), {name})
    optimizer, scheduler = scheduled(SCHEDULERS[name])
    advance(optimizer, scheduler, 2)
    for other, make in SCHEDULERS.items():
        other_optimizer, other_scheduler = scheduled(make)
        advance(other_optimizer, other_scheduler, 3)
        told = backend.mismatches(scheduler, host(other_scheduler))
        assert (not told) is (other in same_state), (other, told)


def test_a_scheduler_of_other_parts_does_not_fit() -> None:
    """The schedulers within another are compared too, and what is no state at all is told."""
    optimizer, chained = scheduled(SCHEDULERS["ChainedScheduler"])
    parts = [schedulers.ConstantLR(optimizer, total_iters=3), schedulers.StepLR(optimizer, 2)]
    state = host(schedulers.ChainedScheduler(parts))
    assert [str(mismatch) for mismatch in backend.mismatches(chained, state)] == [
        "_schedulers.1.step_size: extra: the module has no such entry; the file has int 2"
    ]
    state["_schedulers"].pop()
    assert [str(mismatch) for mismatch in backend.mismatches(chained, state)] == [
        "_schedulers: shape: the module has 2 scheduler(s), the file has 1 scheduler(s)"
    ]
    assert [mismatch.status for mismatch in backend.mismatches(chained, [1])] == ["kind"]


class Decay(schedulers.LRScheduler):  # type: ignore[misc, name-defined]
    """A scheduler of the user's, which keeps more as it goes."""

    def get_lr(self) -> list[float]:
        self.seen = self.last_epoch
        return [rate / (1 + self.last_epoch) for rate in self.base_lrs]


class Holding(schedulers.LRScheduler):  # type: ignore[misc, name-defined]
    """A scheduler of the user's that holds what no file can."""

    def __init__(self, optimizer: Any) -> None:
        self.factor = lambda epoch: 0.9**epoch
        self.parts = [Warmup(), halves, functools.partial(max, 0.5)]
        self.after, self.owner = schedulers.StepLR(optimizer, 2), optimizer
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [rate * self.factor(self.last_epoch) * self.parts[0](self.last_epoch) for rate in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        if self.last_epoch > 2:
            self.after.step()
        super().step(epoch)


class Written:
    """A scheduler of the user's that is of no class of PyTorch's, and holds as much."""

    def __init__(self, optimizer: Any) -> None:
        self.factor, self.parts, self.last_epoch = len, [Warmup(), halves, functools.partial(max, 0.5)], 0
        self.after, self.optimizer = schedulers.StepLR(optimizer, 2), optimizer
        self.owner = optimizer

    def step(self) -> None:
        self.last_epoch += 1
        self.after.step()
        self.optimizer.param_groups[0]["lr"] *= self.parts[0](self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


@pytest.mark.parametrize("kind", [Holding, Written])
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_a_scheduler_of_the_users_may_hold_functions(kind: Any, extension: str, tmp_path: Path) -> None:
    """As with LambdaLR, its own functions stay, and objects and the scheduler that it wraps go on where they were."""
    optimizer, scheduler = scheduled(kind)
    advance(optimizer, scheduler, 5)
    agent = keepfast.Agent({"optimizer": optimizer, "scheduler": scheduler})
    path = agent.save(tmp_path / f"agent{extension}")
    other_optimizer, other = scheduled(kind)
    held = (other.factor, *other.parts, other.after, other.owner)
    assert keepfast.Agent({"optimizer": other_optimizer, "scheduler": other}).load(path)
    assert (other.factor, *other.parts, other.after, other.owner) == held
    assert (other.parts[0].calls, other.after.last_epoch) == (scheduler.parts[0].calls, scheduler.after.last_epoch)
    assert advance(other_optimizer, other, 6) == advance(optimizer, scheduler, 6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lr": "fast"}, ["param_groups.0.lr: kind: the module has float 0.001, the file has str 'fast'"]),
        ({"lr": True}, ["param_groups.0.lr: kind: the module has float 0.001, the file has bool True"]),
        ({"lr": None}, ["param_groups.0.lr: kind: the module has float 0.001, the file has NoneType None"]),
        ({"lr": np.zeros(3)}, ["param_groups.0.lr: kind: the module has float 0.001, the file has float64 (3,)"]),
        ({"betas": (0.9, "x")}, ["param_groups.0.betas.1: kind: the module has float 0.999, the file has str 'x'"]),
        ({"amsgrad": 1}, ["param_groups.0.amsgrad: kind: the module has bool False, the file has int 1"]),
        ({"lr": np.array(0.1), "foreach": True, "weight_decay": 1}, []),
    ],
)
def test_the_options_of_an_optimizer_are_compared_by_kind(options: dict[str, Any], told: list[str]) -> None:
    """A learning rate is a number, whatever kind of number; nothing else is."""
    state = trained_state(optim.Adam)
    state["param_groups"][0].update(options)
    optimizer = optim.Adam(network("Adam").parameters())
    assert [str(mismatch) for mismatch in backend.mismatches(optimizer, state)] == told


def test_what_is_kept_for_a_parameter_is_compared_by_kind() -> None:
    """A number is no moment, and a text no count of steps; a scheduler's counters are numbers too."""
    state = trained_state(optim.Adam)
    state["state"][0].update(exp_avg=3.0, step="x")
    optimizer = optim.Adam(network("Adam").parameters())
    assert {mismatch.path for mismatch in backend.mismatches(optimizer, state)} == {"state.0.exp_avg", "state.0.step"}
    scheduler = schedulers.StepLR(optimizer, 2)
    state = {**host(scheduler), "last_epoch": "abc", "base_lrs": ["x"]}
    assert {mismatch.path for mismatch in backend.mismatches(scheduler, state)} == {"last_epoch", "base_lrs.0"}


def test_schedulers_and_objects_of_the_users_decide_by_themselves() -> None:
    """Nothing is asked of their states before they are loaded."""
    assert not backend.mismatches(scheduled(Decay)[1], {"anything": 1})
    assert not backend.mismatches(Stubborn(), {"variance": np.zeros(3)})


def test_without_strict_an_object_that_refuses_is_passed_over(tmp_path: Path) -> None:
    """An object that takes nothing, not even what it had, does not keep the network from being loaded."""
    net, other = network("Adam"), network("Adam", seed=7)
    agent, resumed = keepfast.Agent(models={"policy": net}), keepfast.Agent(models={"policy": other})
    for each in (agent, resumed):
        each.checkpoint_modules["normalizer"] = Stubborn()
    path = agent.save(tmp_path / "agent.pt")
    with pytest.raises(keepfast.LoadMismatch, match="normalizer: refused: Stubborn cannot load the file's state"):
        resumed.load(path)
    report = resumed.load(path, strict=False)
    assert report.mismatched == ["normalizer"]
    assert_same(host(other), host(net))


def test_a_gradient_scaler_comes_back(tmp_path: Path) -> None:
    """A GradScaler's scale and growth come back; a disabled one has nothing to give, so that nobody loses by it."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    parameter = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([parameter], lr=0.1)
    for _ in range(3):
        scaler.scale(parameter.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    other = torch.amp.GradScaler("cpu")
    assert keepfast.load(other, keepfast.save(scaler, tmp_path / "scaler.pt"))
    assert other.state_dict() == scaler.state_dict()
    assert (other.get_scale(), other.state_dict()["_growth_tracker"]) == (8.0, 1)
    disabled = torch.amp.GradScaler("cpu", enabled=False)
    assert host(disabled) == {}
    backend.restore(disabled, {})
    before = other.state_dict()
    backend.restore(other, {})
    assert other.state_dict() == before
    with pytest.raises(keepfast.LoadMismatch, match="GradScaler cannot load the file's state"):
        backend.restore(other, {"scale": 2.0})


def test_a_generator_of_ones_own_comes_back(tmp_path: Path) -> None:
    """A `torch.Generator` that an agent samples with is a module like any other."""
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    path = keepfast.save(generator, tmp_path / "generator.pt")
    expected = torch.rand(5, generator=generator)
    other = torch.Generator()
    keepfast.load(other, path)
    assert torch.equal(torch.rand(5, generator=other), expected)


def test_a_memory_comes_back(tmp_path: Path) -> None:
    """A memory that is registered as a module comes back with its samples and its position."""
    memory, other = (keepfast_torch.RandomMemory(4, num_envs=2, device="cpu") for _ in range(2))
    for each in (memory, other):
        each.create_tensor("states", size=3, dtype=torch.float32)
    for step in range(5):
        memory.add_samples(states=torch.full((2, 3), float(step)))
    assert keepfast.load(other, keepfast.save(memory, tmp_path / "memory.pt"))
    assert torch.equal(other.get_tensor_by_name("states"), memory.get_tensor_by_name("states"))
    assert (other.memory_index, other.filled) == (memory.memory_index, True)


class Stubborn:
    """Refuses whatever it is given."""

    def state_dict(self) -> Any:
        return {"mean": torch.zeros(2)}

    def load_state_dict(self, state: Any) -> None:
        raise KeyError("variance")


def test_an_object_that_refuses_its_state_is_named() -> None:
    """What `load_state_dict` raises becomes a LoadMismatch that says whose it was, with the cause."""
    with pytest.raises(keepfast.LoadMismatch, match="Stubborn cannot load the file's state: 'variance'") as caught:
        backend.restore(Stubborn(), {"mean": np.zeros(2)})
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_is_open_says_so() -> None:
    """Optimizers, schedulers and objects with a state dict decide what they take; modules and tensors do not."""
    optimizer, scheduler = scheduled(SCHEDULERS["StepLR"])
    assert all(map(backend.is_open, (optimizer, scheduler, Stubborn(), torch.amp.GradScaler("cpu"))))
    closed = (nn.Linear(1, 1), torch.zeros(1), nn.Parameter(torch.zeros(1)), {"a": torch.zeros(1)}, torch.Generator())
    assert not any(map(backend.is_open, closed))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["Adam", "SGD", "LBFGS", "fused Adam"])
def test_an_optimizer_goes_where_its_parameters_are(name: str) -> None:
    """A state copied from a GPU trains on on the CPU, and a CPU's on a GPU."""
    make = {**OPTIMIZERS, **VARIANTS}[name]
    for source, target in (("cuda", "cpu"), ("cpu", "cuda")):
        net, other_net = network(name).to(source), network(name).to(target)
        optimizer, other = make(net.parameters()), make(other_net.parameters())
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(lambda: torch.zeros((), device=source))  # noqa: B023  (called at once)
        backend.restore(other, host(optimizer))
        assert_same(host(other), host(optimizer))
        moments = [entry for entry in other.state[next(other_net.parameters())].values() if torch.is_tensor(entry)]
        assert all(moment.device.type == target for moment in moments if moment.ndim)
