"""Checkpoints of Flax in PyTorch, where no JAX is installed, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import keepfast  # noqa: E402
from keepfast.formats.checkpoints.safetensors import SafetensorsStore  # noqa: E402


def flax_file(tmp_path: Path, variables: Any) -> Path:
    """Return a file of arrays as Flax lays them out."""
    path = tmp_path / "flax.safetensors"
    SafetensorsStore().save(keepfast.Checkpoint(variables), path)
    return path


def dense(random: np.random.Generator, ins: int, outs: int) -> dict[str, Any]:
    return {"kernel": random.normal(size=(ins, outs)), "bias": random.normal(size=outs)}


def mlp(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(ins, outs, dtype=torch.float64) for ins, outs in pairwise(sizes)]
    return nn.Sequential(*(each for layer in layers for each in (layer, nn.Tanh())))[:-1]


def test_a_tree_of_flax_goes_into_a_network_of_pytorch(tmp_path: Path) -> None:
    """Outputs are those of the tree; equal widths are told apart by their numbers."""
    random = np.random.default_rng(0)
    tree = {"params": {f"Dense_{i}": dense(random, *size) for i, size in enumerate([(3, 8), (8, 8), (8, 8), (8, 2)])}}
    net = mlp(3, 8, 8, 8, 2)
    assert keepfast.migrate(net, flax_file(tmp_path, tree))
    values = inputs = random.normal(size=(5, 3))
    for number, layer in enumerate(tree["params"].values()):
        values = (values if number == 0 else np.tanh(values)) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(net(torch.as_tensor(inputs)).detach().numpy(), values, rtol=1e-12, atol=1e-12)


def test_what_is_ambiguous_is_refused_with_the_lines_that_settle_it(tmp_path: Path) -> None:
    """Names that no order follows from leave two layers of one shape open; a line of `name_map` for each settles it."""
    random = np.random.default_rng(0)
    tree = {"params": {"aleph": dense(random, 4, 4), "bet": dense(random, 4, 4)}}
    net = mlp(4, 4, 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(keepfast.LoadMismatch, match=r'name_map={"0": "params.bet"}'):
        keepfast.migrate(net, flax_file(tmp_path, tree))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    report = keepfast.migrate(net, tmp_path / "flax.safetensors", name_map={"0": "bet", "2": "aleph"})
    assert report
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), tree["params"]["bet"]["kernel"].T)


def test_nothing_is_loaded_halfway(tmp_path: Path) -> None:
    """A layer that the file lacks keeps all others as they were; `strict=False` loads them, and it is told."""
    random = np.random.default_rng(0)
    tree = {"params": {"Dense_0": dense(random, 3, 8)}}
    net = mlp(3, 8, 2)
    before = net[0].weight.detach().clone()
    with pytest.raises(keepfast.LoadMismatch, match=r"2\.weight.*missing"):
        keepfast.migrate(net, flax_file(tmp_path, tree))
    assert torch.equal(net[0].weight, before)
    with pytest.warns(keepfast.KeepfastWarning, match=r"2\.weight.*missing"):
        report = keepfast.migrate(net, tmp_path / "flax.safetensors", strict=False)
    assert not report
    assert report.missing == ["module.2.weight", "module.2.bias"]
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), tree["params"]["Dense_0"]["kernel"].T)


def test_a_check_that_fails_puts_everything_back(tmp_path: Path) -> None:
    """Outputs that were promised are proved, or nothing is changed."""
    random = np.random.default_rng(0)
    tree = {"params": {"Dense_0": dense(random, 3, 2)}}
    net = mlp(3, 2)
    before = net[0].weight.detach().clone()
    inputs = random.normal(size=(7, 3))
    outputs = inputs @ tree["params"]["Dense_0"]["kernel"] + tree["params"]["Dense_0"]["bias"]
    with pytest.raises(keepfast.LoadMismatch, match="differ by up to"):
        keepfast.migrate(net, flax_file(tmp_path, tree), check=(inputs, outputs + 0.1))
    assert torch.equal(net[0].weight, before)
    report = keepfast.migrate(net, tmp_path / "flax.safetensors", check=(inputs, outputs))
    assert report.difference is not None
    assert report.difference < 1e-12


def test_settings_that_no_file_holds_are_warned_of(tmp_path: Path) -> None:
    """LayerNorm's eps and gelu are not what they are in Flax unless told otherwise."""
    tree = {"params": {"LayerNorm_0": {"scale": np.ones(4), "bias": np.zeros(4)}}}
    path = flax_file(tmp_path, tree)
    net = nn.Sequential(nn.LayerNorm(4, dtype=torch.float64), nn.GELU())
    warnings = "\n".join(keepfast.migrate(net, path, dry_run=True).warnings)
    assert "`eps` is 1e-05 in the module, and 1e-06 in Flax" in warnings
    assert "gelu is exact" in warnings
    same = nn.Sequential(nn.LayerNorm(4, eps=1e-6, dtype=torch.float64), nn.GELU(approximate="tanh"))
    assert keepfast.migrate(same, path).warnings == ()


def test_what_a_layer_is_can_be_said(tmp_path: Path) -> None:
    """A convolution of as many channels in as out may be a transposed one where no name and no network tells."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 4))
    tree = {"params": {"mix": {"kernel": kernel, "bias": np.zeros(4)}}}
    net = {"mix.weight": torch.zeros(4, 4, 3, 3, dtype=torch.float64), "mix.bias": torch.zeros(4, dtype=torch.float64)}
    path = flax_file(tmp_path, tree)
    with pytest.raises(keepfast.LoadMismatch, match="may be Conv2d or ConvTranspose2d"):
        keepfast.migrate(net, path)
    assert keepfast.migrate(net, path, layers={"mix": "Conv2d"})
    np.testing.assert_array_equal(net["mix.weight"].numpy(), kernel.transpose(3, 2, 0, 1))


def test_an_agent_migrates_its_networks(tmp_path: Path) -> None:
    """Actor and critic of equal widths find their own; `name_map` and `verbose` are per module."""
    random = np.random.default_rng(0)
    tree = {
        role: {f"Dense_{i}": dense(random, *size) for i, size in enumerate([(3, 8), (8, 8), (8, 1)])}
        for role in ("critic", "actor")
    }
    agent = keepfast.Agent({"policy": mlp(3, 8, 8, 1), "value": mlp(3, 8, 8, 1)})
    report = agent.migrate(flax_file(tmp_path, {"params": tree}))
    assert report
    for name, role in (("policy", "actor"), ("value", "critic")):
        for number in range(3):
            weight = agent.models[name][2 * number].weight.detach().numpy()
            np.testing.assert_array_equal(weight, tree[role][f"Dense_{number}"]["kernel"].T)


def test_the_listing_shows_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verbose` prints the entries of the module and of the file with their shapes, and what goes where."""
    tree = {"params": {"Dense_0": dense(np.random.default_rng(0), 3, 2)}}
    keepfast.migrate(mlp(3, 2), flax_file(tmp_path, tree), verbose=True)
    told = capsys.readouterr().out
    assert "module.0.weight: (2, 3)" in told
    assert "params.Dense_0.kernel: (3, 2)" in told
    assert "module.0.weight (2, 3): migrated <- params.Dense_0.kernel" in told


class Named(nn.Module):
    """Dense layers of one width under names of one's own, made in that order."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(4, 4))


ORDERS = {
    "as they are numbered": (("fc1", "fc2", "fc10"), True),
    "against their numbers": (("fc2", "fc1"), False),
    "the last one last": (("body", "out"), True),
    "the last one first": (("out", "body"), False),
}


@pytest.mark.parametrize("case", ORDERS)
@pytest.mark.parametrize("is_source", [True, False])
def test_an_order_that_names_contradict_is_none(case: str, is_source: bool) -> None:
    """Layers of one shape go by the order in which they were made, unless a number or a name tells another one."""
    names, is_told = ORDERS[case]
    sides = [Named(*names), nn.Sequential(*(nn.Linear(4, 4) for _ in names))]
    source, target = sides if is_source else sides[::-1]
    if is_told:
        assert keepfast.migrate(target, state_dict=source.state_dict())
        pairs = zip(source.parameters(), target.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        return
    with pytest.raises(keepfast.LoadMismatch, match=r"ambiguous(.|\n)*name_map="):
        keepfast.migrate(target, state_dict=source.state_dict())


def test_entries_that_are_named_from_several_layers_are_used() -> None:
    """A weight of one and a bias of another: what the report calls unused is the rest."""
    source = Named("one", "other").state_dict()
    net = nn.Linear(4, 4)
    report = keepfast.migrate(net, state_dict=source, name_map={"weight": "one.weight", "bias": "other.bias"})
    assert report
    assert set(report.unused) == {"one.bias", "other.weight"}
    assert torch.equal(net.bias, source["other.bias"])
