"""The state of an optimizer goes to the parameters that it was kept for, in whatever order either side has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402

nn, Adam = torch.nn, torch.optim.Adam


def network(seed: int) -> Any:
    """Return a network of which many parameters have one shape."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


def train(net: Any, optimizer: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, 3, generator=generator)).square().sum().backward()
        optimizer.step()


def backwards(parameters: Iterable[Any]) -> list[Any]:
    return list(parameters)[::-1]


def halves(net: Any, *rates: float) -> list[dict[str, Any]]:
    return [{"params": list(part.parameters()), "lr": rate} for part, rate in zip(net, rates, strict=True)]


Make = Callable[[Any], Any]
Register = Callable[[Any, Any], dict[Any, Any]]


def beside(net: Any, optimizer: Any) -> dict[Any, Any]:
    return {"policy": net, "optimizer": optimizer}


def pair(make: Make, other: Make, register: Register, path: Path) -> tuple[Any, Any, Any, Any]:
    """Return a trained network with its optimizer, saved, and another network with an optimizer made otherwise."""
    net, resumed = network(0), network(5)
    optimizer, second = make(net), other(resumed)
    train(net, optimizer, seed=1)
    keepfast.Agent(register(net, optimizer)).save(path)
    return net, optimizer, resumed, second


ORDERS: dict[str, tuple[Make, Make, Register]] = {
    "names of the optimizer's own": (
        lambda net: Adam(net.named_parameters()),
        lambda net: Adam(backwards(net.named_parameters())),
        beside,
    ),
    "names of a compiled network": (
        lambda net: Adam(torch.compile(net, backend="eager").named_parameters()),
        lambda net: Adam(backwards(net.named_parameters())),
        beside,
    ),
    "names of the network beside it": (
        lambda net: Adam(net.parameters()),
        lambda net: Adam(backwards(net.parameters())),
        beside,
    ),
    "names of a network beside it that is wrapped": (
        lambda net: Adam(net.parameters()),
        lambda net: Adam(backwards(net.parameters())),
        lambda net, optimizer: {"optimizer": optimizer, "policy": nn.DataParallel(net)},
    ),
    "groups in another order": (
        lambda net: Adam(halves(net, 0.1, 0.2)),
        lambda net: Adam(backwards(halves(net, 0.3, 0.4))),
        beside,
    ),
    "an agent among several": (
        lambda net: Adam(net.parameters()),
        lambda net: Adam(backwards(net.parameters())),
        lambda net, optimizer: {"agents": {"a": {"policy": net, "optimizer": optimizer}, "b": network(7)}},
    ),
    "numbers for names": (
        lambda net: Adam(net.parameters()),
        lambda net: Adam(backwards(net.parameters())),
        lambda net, optimizer: {0: net, 1: optimizer},
    ),
    "a parameter that stands alone": (
        lambda net: Adam(net.parameters()),
        lambda net: Adam(backwards(net.parameters())),
        lambda net, optimizer: {"first": net[0], "weight": net[1].weight, "bias": net[1].bias, "optimizer": optimizer},
    ),
}


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ORDERS)
def test_moments_go_where_they_belong(name: str, extension: str, tmp_path: Path) -> None:
    """Names decide, and training goes on bit for bit as it would have."""
    make, other, register = ORDERS[name]
    path = tmp_path / f"agent{extension}"
    net, optimizer, resumed, second = pair(make, other, register, path)
    assert keepfast.Agent(register(resumed, second)).load(path)
    train(net, optimizer, seed=2)
    train(resumed, second, seed=2)
    for ours, theirs in zip(resumed.parameters(), net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(second.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 4, 0, 5, 1, 3]])
def test_an_optimizer_that_has_stepped_takes_the_state_of_another_order(
    order: list[int], extension: str, tmp_path: Path
) -> None:
    """Of parameters of several shapes too, which its own entries of the same numbers do not have."""
    nets = [nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(2)]
    optimizer = Adam(nets[0].parameters())
    parameters = list(nets[1].parameters())
    second = Adam([parameters[number] for number in order])
    train(nets[0], optimizer, seed=1)
    train(nets[1], second, seed=2)
    path = keepfast.Agent(beside(nets[0], optimizer)).save(tmp_path / f"agent{extension}")
    assert keepfast.Agent(beside(nets[1], second)).load(path)
    for ours, theirs in zip(parameters, nets[0].parameters(), strict=True):
        assert torch.equal(second.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])


def test_the_options_of_a_group_go_with_it(tmp_path: Path) -> None:
    """Groups that stand in another order take each their own learning rate."""
    make, other, register = ORDERS["groups in another order"]
    _, _, resumed, second = pair(make, other, register, tmp_path / "agent.pt")
    keepfast.Agent(register(resumed, second)).load(tmp_path / "agent.pt")
    assert [group["lr"] for group in second.param_groups] == [0.2, 0.1]


@pytest.mark.parametrize("rename", [{"policy": "actor"}, None], ids=["renamed", "the optimizer alone"])
def test_a_network_of_another_name_is_no_other_network(rename: Any, tmp_path: Path) -> None:
    """What `rename` calls it counts; where it is not said, names are compared without the module's."""
    path = tmp_path / "agent.pt"
    make, other, _ = ORDERS["names of the network beside it"]
    net, optimizer, resumed, second = pair(make, other, beside, path)
    agent = keepfast.Agent({"actor": resumed, "optimizer": second})
    assert agent.load(path, rename=rename, modules=None if rename else ["optimizer"])
    for ours, theirs in zip(resumed.parameters(), net.parameters(), strict=True):
        assert torch.equal(second.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])


def test_parameters_that_nobody_names_are_taken_in_their_order(tmp_path: Path) -> None:
    """Those that are named find their places all the same."""
    path = tmp_path / "agent.pt"

    def register(net: Any, optimizer: Any) -> dict[Any, Any]:
        return {"first": net[0], "optimizer": optimizer}

    net, optimizer, resumed, second = pair(
        lambda net: Adam([*net[0].parameters(), *net[1].parameters()]),
        lambda net: Adam([*net[1].parameters(), *backwards(net[0].parameters())]),
        register,
        path,
    )
    assert keepfast.Agent(register(resumed, second)).load(path)
    for ours, theirs in zip(resumed.parameters(), net.parameters(), strict=True):
        assert torch.equal(second.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])


def by_kind(net: Any) -> Any:
    weights, biases = [net[0].weight, net[1].weight], [net[0].bias, net[1].bias]
    return Adam([{"params": weights}, {"params": biases}])


def renamed(net: Any) -> Any:
    return Adam([("last" if name == "1.bias" else name, value) for name, value in net.named_parameters()])


@pytest.mark.parametrize(
    ("make", "other", "told"),
    [
        (
            lambda net: Adam(halves(net, 0.1, 0.2)),
            by_kind,
            (
                "the module has the groups `policy.0.weight`, `policy.1.weight` | `policy.0.bias`, `policy.1.bias`, "
                "the file has the groups `policy.0.weight`, `policy.0.bias` | `policy.1.weight`, `policy.1.bias`"
            ),
        ),
        (
            lambda net: Adam(net.named_parameters()),
            renamed,
            "the module has the parameters `last`, the file has the parameters `1.bias`",
        ),
    ],
    ids=["other groups", "other names"],
)
def test_names_that_do_not_fit_are_told(make: Make, other: Make, told: str, tmp_path: Path) -> None:
    """Both sides are named, and nothing is loaded."""
    path = tmp_path / "agent.pt"
    _, _, resumed, second = pair(make, other, beside, path)
    before = repr(resumed.state_dict())
    with pytest.raises(keepfast.LoadMismatch) as caught:
        keepfast.Agent(beside(resumed, second)).load(path)
    assert f"  optimizer.param_groups: kind: {told}" in str(caught.value).splitlines()
    assert repr(resumed.state_dict()) == before


def test_a_group_added_in_mid_training_is_told_with_what_to_do(tmp_path: Path) -> None:
    """The optimizer is given the same groups before it is loaded, and goes on then."""
    net = network(0)
    optimizer = Adam(net[0].parameters())
    optimizer.add_param_group({"params": list(net[1].parameters()), "lr": 0.5})
    train(net, optimizer, seed=1)
    path = keepfast.Agent(beside(net, optimizer)).save(tmp_path / "agent.pt")
    resumed = network(5)
    second = Adam(resumed[0].parameters())
    agent = keepfast.Agent(beside(resumed, second))
    with pytest.raises(keepfast.LoadMismatch, match=r"1 group\(s\), the file has 2 group\(s\); add the same groups"):
        agent.load(path)
    second.add_param_group({"params": list(resumed[1].parameters())})
    assert agent.load(path)
    assert second.param_groups[1]["lr"] == 0.5
    third = Adam(halves(network(6), 0.1, 0.1))
    agent = keepfast.Agent(beside(net, Adam(net[0].parameters())))
    agent.save(tmp_path / "before.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"load before the groups .* are added by `add_param_group`"):
        keepfast.load(third, tmp_path / "before.pt", modules=["optimizer"])
