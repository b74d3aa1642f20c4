"""What agents keep beside networks comes back beside modules of PyTorch, and among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from keepfast.testing import KeptContract  # noqa: E402
from keepfast.testing.kept import Kept  # noqa: E402
from tests.both_backends.kept import KeptSuite, seen  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402

nn = torch.nn


class TestKeptBesideTorch(KeptContract):
    """Every kind, beside a network and its optimizer."""

    @pytest.fixture
    def companions(self) -> Callable[[int], Mapping[str, Any]]:
        def make(seed: int) -> dict[str, Any]:
            torch.manual_seed(seed)
            network = nn.Linear(2, 2)
            return {"policy": network, "optimizer": torch.optim.Adam(network.parameters())}

        return make


class TestKeptByTorch(Torch, KeptSuite):
    """Every kind, with tensors, networks and optimizers among them."""

    def array(self, *values: float) -> Any:
        return torch.tensor(values, dtype=torch.float32)

    def network(self, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        network = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1 / seed)
        network(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1 + seed)
        return {"policy": network, "optimizer": optimizer, "scheduler": scheduler}

    def averaged(self, seed: int) -> Kept:
        policy = self.network(seed)["policy"]
        average = torch.optim.swa_utils.AveragedModel(policy)
        for _ in range(seed):
            average.update_parameters(policy)
        ema = torch.optim.swa_utils.AveragedModel(policy, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        return self.kept({"policy": policy, "average": average, "ema": ema})

    def scaled(self, seed: int) -> Kept:
        parts, scaler = self.network(seed), torch.amp.GradScaler("cpu", init_scale=2.0**seed, growth_interval=seed)
        scaler.scale(parts["policy"](torch.ones(1, 3)).sum()).backward()
        scaler.step(parts["optimizer"])
        scaler.update()
        return self.kept({**parts, "scaler": scaler, "off": torch.amp.GradScaler("cpu", enabled=False)})

    def scheduled(self, seed: int) -> Kept:
        parts = self.network(seed)
        schedule = torch.optim.lr_scheduler.LambdaLR(parts["optimizer"], lambda step: 1 / (step + seed))
        parts["scheduler"] = Warmup(parts["optimizer"], lambda step: 0.5**step, seed)
        for _ in range(seed):
            parts["optimizer"].step()
            parts["scheduler"].step()
            schedule.step()
        return self.kept({**parts, "schedule": schedule})

    def reordered(self, seed: int) -> Kept:
        policy = self.network(seed)["policy"]
        policy = nn.Sequential(policy, nn.Linear(2, 2), nn.Linear(2, 2))
        optimizer = torch.optim.Adam(list(policy.parameters())[:: 1 if seed == 1 else -1], 0.1 / seed)
        policy(torch.full((4, 3), float(seed))).square().sum().backward()
        optimizer.step()
        named = dict(policy.named_parameters())
        return Kept(
            {"policy": policy, "optimizer": optimizer},
            lambda: seen({name: [each.detach(), optimizer.state[each]["exp_avg"]] for name, each in named.items()}),
        )

    rows: ClassVar[dict[str, Callable[[Any, int], Kept]]] = {
        **KeptSuite.rows,
        "averaged models": averaged,
        "a GradScaler": scaled,
        "schedulers that hold a function": scheduled,
        "an optimizer built in another order": reordered,
        "a buffer that is expanded": lambda self, seed: self.kept({"kept": Expanded(seed)}),
    }


class Warmup(torch.optim.lr_scheduler.LRScheduler):  # type: ignore[misc]
    """A scheduler as somebody writes it, with a function among its attributes."""

    def __init__(self, optimizer: Any, factor: Callable[[int], float], warmup: int) -> None:
        self.factor, self.warmup = factor, warmup
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [base * self.factor(max(0, self.last_epoch - self.warmup)) for base in self.base_lrs]


class Expanded(nn.Module):  # type: ignore[misc,name-defined]
    """Has a buffer of one element in the place of four."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.register_buffer("scale", torch.full((1,), float(seed)).expand(4))


def multi_agent(seed: int) -> dict[str, Any]:
    """Return modules as skrl's multi-agents register them, by the agent's id and then by name."""
    agents: dict[str, Any] = {}
    for name in ("agent_0", "agent_1"):
        torch.manual_seed(seed + len(agents))
        network = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        network(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        agents[name] = {
            "policy": network,
            "optimizer": optimizer,
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2),
            "mean": torch.full((2,), float(seed)),
            "epsilon": 1.0 / seed,
        }
    return agents


def bits(modules: Mapping[str, Any]) -> str:
    states = {
        name: {key: part.state_dict() if hasattr(part, "state_dict") else part for key, part in agent.items()}
        for name, agent in modules.items()
    }
    return repr(states)


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_a_nested_dict_of_modules_comes_back(extension: str, tmp_path: Path) -> None:
    """Networks, optimizers that have stepped and fresh ones, schedulers, tensors and numbers, by agent and name."""
    saved, other = multi_agent(1), multi_agent(2)
    other["agent_0"]["optimizer"] = torch.optim.Adam(other["agent_0"]["policy"].parameters())
    path = keepfast.Agent({"agents": saved}).save(tmp_path / f"agent{extension}")
    report = keepfast.Agent({"agents": other}).load(path)
    assert {"agents.agent_0.policy.weight", "agents.agent_1.optimizer.state.0.exp_avg"} <= set(report.loaded)
    assert bits(other) == bits(saved)


def test_a_nested_dict_is_stored_as_nested(tmp_path: Path) -> None:
    """PyTorch reads the state dict of each module under the agent's id and its name."""
    agents = multi_agent(1)
    path = keepfast.Agent({"agents": agents}).save(tmp_path / "agent.pt")
    found = torch.load(path, weights_only=True)["agents"]
    nn.Linear(3, 2).load_state_dict(found["agent_1"]["policy"])
    assert found["agent_0"]["epsilon"] == 1.0


def test_every_difference_in_a_nested_dict_is_told_and_nothing_is_loaded(tmp_path: Path) -> None:
    """Each by its full path; without `strict` the modules that fit are loaded, and an optimizer as a whole or not."""
    saved, other = multi_agent(1), multi_agent(2)
    other["agent_1"]["policy"] = wider = nn.Linear(4, 2)
    other["agent_1"]["optimizer"] = torch.optim.Adam([wider.weight])
    del saved["agent_0"]["epsilon"], other["agent_0"]["mean"]
    path = keepfast.Agent({"agents": saved}).save(tmp_path / "agent.pt")
    agent, before = keepfast.Agent({"agents": other}), bits(other)
    with pytest.raises(keepfast.LoadMismatch) as caught:
        agent.load(path)
    told = [line.split(": ")[:2] for line in str(caught.value).splitlines()[1:]]
    assert told[:2] == [["  agents.agent_0.epsilon", "missing"], ["  agents.agent_1.policy.weight", "shape"]]
    assert ["  agents.agent_0.mean", "extra"] in told
    assert bits(other) == before
    report = agent.load(path, strict=False)
    assert torch.equal(other["agent_0"]["policy"].weight, saved["agent_0"]["policy"].weight)
    assert not any(name.startswith("agents.agent_1.optimizer") for name in report.loaded)


def test_rename_and_modules_reach_into_a_nested_dict(tmp_path: Path) -> None:
    """A row may give an agent, a module of one, or an entry of it another name."""
    saved, other = multi_agent(1), multi_agent(2)
    path = keepfast.Agent({"agents": saved}).save(tmp_path / "agent.pt")
    renamed = {"left": other["agent_0"], "right": other["agent_1"]}
    rename = {"agents.agent_0": "agents.left", "agents.agent_1": "agents.right"}
    assert keepfast.Agent({"agents": renamed}).load(path, rename=rename)
    assert bits({"agent_0": renamed["left"], "agent_1": renamed["right"]}) == bits(saved)


@pytest.mark.parametrize("make", [lambda nets: nets, tuple], ids=["a list", "a tuple"])
def test_an_ensemble_comes_back(make: Callable[[list[Any]], Any], tmp_path: Path) -> None:
    """Networks in a list or a tuple are changed where they are."""
    saved, other = ([nn.Linear(2, 2) for _ in range(3)] for _ in range(2))
    path = keepfast.save(make(saved), tmp_path / "ensemble.pt")
    keepfast.load(make(other), path)
    assert all(torch.equal(one.weight, two.weight) for one, two in zip(saved, other, strict=True))


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_a_pool_of_opponents_comes_back(extension: str, tmp_path: Path) -> None:
    """A deque of state dicts that was longer when it was saved, into one that is empty or shorter: tensors again."""
    pool = deque([nn.Linear(2, 2).state_dict() for _ in range(3)], maxlen=4)
    path = keepfast.save(pool, tmp_path / f"pool{extension}")
    for other in (deque(maxlen=4), deque([nn.Linear(2, 2).state_dict()], 4)):  # type: ignore[var-annotated]
        keepfast.load(other, path)
        assert (len(other), other.maxlen) == (3, 4)
        for ours, theirs in zip(other, pool, strict=True):
            nn.Linear(2, 2).load_state_dict(ours)
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_numbers_of_a_module_are_its_name(tmp_path: Path) -> None:
    """An agent may number its models; the file has the numbers as text."""
    models = {0: nn.Linear(1, 1), 1: nn.Linear(1, 1)}
    path = keepfast.Agent(models).save(tmp_path / "agent.pt")  # type: ignore[arg-type]
    assert list(torch.load(path, weights_only=True)) == ["0", "1"]
    other = {0: nn.Linear(1, 1), 1: nn.Linear(1, 1)}
    keepfast.Agent(other).load(path)  # type: ignore[arg-type]
    assert torch.equal(other[1].weight, models[1].weight)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({(1, 2): nn.Linear(1, 1)}, r"a module is registered as \(1, 2\) \(tuple\); allowed: names, and integers"),
        ({"a": {(1, 2): nn.Linear(1, 1)}}, r"a dict of modules has the key \(1, 2\) \(tuple\)"),
        ({"a": {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}}, "two keys of a dict of modules read the same: 1, '1'"),
        ({1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}, "two modules are registered as `1`"),
        ({"a": ({"b": torch.zeros(1)}, (torch.zeros(1),), nn.Linear(1, 1))}, r"`a\.1` is a tuple, which is replaced"),
    ],
)
def test_names_that_are_none_are_refused(modules: Any, message: str, tmp_path: Path) -> None:
    """They are told before anything is written."""

    def save_and_load() -> None:
        agent = keepfast.Agent(modules)
        agent.load(agent.save(tmp_path / "agent.pt"))

    with pytest.raises(keepfast.UnsupportedModule, match=message):
        save_and_load()


def test_attributes_may_be_of_any_kind(tmp_path: Path) -> None:
    """A tensor, a parameter, a network, a number and an array of one object are kept together."""

    def make(seed: int) -> Any:
        torch.manual_seed(seed)
        return SimpleNamespace(
            mean=torch.randn(2), scale=nn.Parameter(torch.randn(())), net=nn.Linear(1, 1), n=seed, a=np.full(2, seed)
        )

    saved, other = make(1), make(2)
    mean, scale = other.mean, other.scale
    names = ("mean", "scale", "net", "n", "a")
    path = keepfast.save(keepfast.attributes(saved, *names), tmp_path / "normalizer.pt")
    assert keepfast.load(keepfast.attributes(other, *names), path)
    assert other.mean is mean
    assert other.scale is scale
    assert (torch.equal(mean, saved.mean), torch.equal(scale, saved.scale), other.n) == (True, True, 1)
    assert torch.equal(other.net.weight, saved.net.weight)
    assert other.a.tolist() == [1, 1]
