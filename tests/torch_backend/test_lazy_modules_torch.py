"""Lazy modules, whose parameters have no shape until they are run: a load gives them the shapes of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

import keepfast  # noqa: E402

pytestmark = [
    pytest.mark.needs("torch"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
]

PAIRS = {
    "linear": (lambda: nn.Linear(3, 4), lambda: nn.LazyLinear(4)),
    "normalization": (lambda: nn.BatchNorm1d(4), nn.LazyBatchNorm1d),
    "convolution": (lambda: nn.Conv2d(2, 4, 3), lambda: nn.LazyConv2d(4, 3)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(4, 3, 3), lambda: nn.LazyConvTranspose2d(3, 3)),
    "instance norm": (
        lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        lambda: nn.LazyInstanceNorm2d(affine=True, track_running_stats=True),
    ),
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(2))


def uninitialized(module: nn.Module) -> list[str]:
    return [name for name, value in module.state_dict(keep_vars=True).items() if is_lazy(value)]


def values(module: nn.Module) -> dict[str, Any]:
    return {name: value.tolist() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_load_initializes_as_pytorch_does(kind: str, tmp_path: Path) -> None:
    """Each lazy module has the file's values in the end, its parameters being the objects that they were."""
    source, target = (make() for make in PAIRS[kind])
    parameters = list(target.parameters())
    assert keepfast.load(target, keepfast.save(source, tmp_path / "m.pt"))
    assert values(target) == values(source)
    assert all(map(lambda one, other: one is other, parameters, target.parameters()))


def test_a_loaded_lazy_network_computes_what_was_saved(tmp_path: Path) -> None:
    """With its optimizer, which was made of parameters that had no shape, and onto the agent's device."""
    net, fresh = network(), lazy()
    optimizer, other = torch.optim.Adam(net.parameters()), torch.optim.Adam(fresh.parameters())
    net(torch.ones(8, 3)).sum().backward()
    optimizer.step()
    path = keepfast.Agent({"policy": net, "optimizer": optimizer}).save(tmp_path / "agent.pt")
    assert keepfast.Agent({"policy": fresh, "optimizer": other}, device="cpu").load(path)
    assert torch.equal(fresh.eval()(torch.ones(5, 3)), net.eval()(torch.ones(5, 3)))
    assert repr(other.state_dict()["state"]) == repr(optimizer.state_dict()["state"])


@pytest.mark.parametrize("other", ["another dtype", "fewer entries", "another module"])
def test_a_refused_load_leaves_it_uninitialized(other: str, tmp_path: Path) -> None:
    """Everything or nothing: also where what is refused is another module of the file."""
    net = network()
    saved = {"another dtype": network().double(), "fewer entries": net[:1]}.get(other, net)
    path = keepfast.Agent({"policy": saved, "value": nn.Linear(2, 2)}).save(tmp_path / "agent.pt")
    value = nn.Linear(3, 3) if other == "another module" else nn.Linear(2, 2)
    fresh = lazy()
    before, parameters = uninitialized(fresh), list(fresh.parameters())
    with pytest.raises(keepfast.LoadMismatch):
        keepfast.Agent({"policy": fresh, "value": value}).load(path)
    assert uninitialized(fresh) == before
    assert all(map(lambda one, other: one is other, parameters, fresh.parameters()))
    assert keepfast.load(fresh, keepfast.save(net, tmp_path / "net.pt"))
    assert values(fresh) == values(net)


def test_what_does_not_fit_stays_uninitialized(tmp_path: Path) -> None:
    """A load that is not strict gives shapes to what it gives values to, and to nothing else."""
    net = network()
    net[2].double()
    fresh = lazy()
    report = keepfast.load(fresh, keepfast.save(net, tmp_path / "net.pt"), strict=False)
    assert [entry.path for entry in report.entries if entry.status != "loaded"] == ["2.weight", "2.bias"]
    assert uninitialized(fresh) == ["2.weight", "2.bias"]
    assert fresh[0].weight.tolist() == net[0].weight.tolist()


def test_what_is_not_initialized_is_not_saved(tmp_path: Path) -> None:
    """There is nothing yet to save; the error says what to do."""
    with pytest.raises(keepfast.UsageError, match=r"`0\.weight` is not initialized yet; run the module once"):
        keepfast.save(lazy(), tmp_path / "net.pt")
    assert not (tmp_path / "net.pt").exists()
