"""Which optimizers of a file come along, which stay behind and why, on trees of NumPy alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore

RANDOM = np.random.default_rng(0)
ADAM = {"lr": 3e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
SGD = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0, "maximize": False}
RMSPROP = {"lr": 0.1, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False, "weight_decay": 0.0}
ADAGRAD = {"lr": 0.1, "lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0, "weight_decay": 0.0}
SLOTS = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "amsgrad": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "sgd": ("momentum_buffer",),
    "rmsprop": ("square_avg",),
    "adagrad": ("sum",),
}


def normal(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype("float32")


def network(*prefixes: str) -> dict[str, Any]:
    """Return two dense layers of PyTorch below each prefix."""
    shapes = {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5), "2.bias": (2,)}
    return {f"{prefix}{name}": normal(*shape) for prefix in prefixes for name, shape in shapes.items()}


def kept(parameters: dict[str, Any], kind: str = "adam", steps: Any = 4, **options: Any) -> dict[str, Any]:
    """Return the state of an optimizer of PyTorch over parameters."""
    group = {"adam": ADAM, "amsgrad": ADAM, "sgd": SGD, "rmsprop": RMSPROP, "adagrad": ADAGRAD}[kind] | options
    group = {**group, "amsgrad": True} if kind == "amsgrad" else group
    state = {}
    for number, array in enumerate(parameters.values()):
        entry = {slot: np.abs(normal(*array.shape)) for slot in SLOTS[kind]}
        step = steps(number) if callable(steps) else steps
        state[number] = entry if kind == "sgd" else {"step": np.float32(step), **entry}
    return {"state": state, "param_groups": [{**group, "params": list(range(len(parameters)))}]}


class Flax:
    """A network of Flax, and what optax keeps for it, as trees of NumPy."""

    def __init__(self, state: Callable[[Any], Any], module: str = "policy") -> None:
        sizes = {"Dense_0": (3, 5), "Dense_1": (5, 2)}
        layers = {
            name: {"kernel": np.zeros(size, "f4"), "bias": np.zeros(size[1], "f4")} for name, size in sizes.items()
        }
        self.params = {"params": layers}
        sevens = state(keepfast.tree.map_leaves(lambda _, leaf: np.full_like(leaf, 7), self.params))
        self.state = keepfast.tree.map_leaves(lambda _, leaf: leaf.copy(), sevens)  # no array twice
        self.agent = keepfast.Agent({})
        for name, attribute in ((module, "params"), ("optimizer", "state")):
            self.agent.checkpoint_modules[name] = keepfast.attribute(self, attribute)


def adam(ones: Any, **more: Any) -> Any:
    return ({"count": np.int32(0), "mu": ones, "nu": ones, **more}, {})


STATES: dict[str, Callable[[Any], Any]] = {
    "adam": adam,
    "amsgrad": lambda ones: adam(ones, nu_max=ones),
    "sgd": lambda ones: ({"trace": ones}, {}),
    "rmsprop": lambda ones: ({"nu": ones}, {}, {}),
    "adagrad": lambda ones: ({"sum_of_squares": ones}, {}),
    "average": lambda ones: (*adam(ones), {"count": np.int32(0), "ema": ones}),
    "two": lambda ones: (*adam(ones), {"trace": ones}),
}


def save(path: Path, **modules: Any) -> Path:
    PtStore().save(keepfast.Checkpoint(modules), path)
    return path


NET = network("")
STAYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no optimizer": ("adam", {}, "the file has no state of an optimizer"),
    "another family": ("rmsprop", {"optimizer": kept(NET)}, "it is RMSprop, and the file's `optimizer` is Adam"),
    "an average beside it": ("average", {"optimizer": kept(NET)}, "no counterpart"),
    "a combination of two": ("two", {"optimizer": kept(NET)}, "it is none that is known"),
    "other networks": ("adam", {"optimizer": kept({"a": normal(9)})}, "no network has parameters of these shapes"),
    "other steps": ("adam", {"optimizer": kept(NET, steps=lambda number: number)}, "steps|times"),
    "a class of PyTorch's alone": ("adam", {"optimizer": kept(NET, momentum_decay=0.1)}, "it is NAdam"),
    "text for a step": ("adam", {"optimizer": kept(NET) | {"state": {0: {"step": "x"}}}}, "it is no state"),
    "no groups": ("adam", {"optimizer": {"state": {}, "param_groups": 3}}, "it is no state"),
    "a group of nothing": ("adam", {"optimizer": {"state": {}, "param_groups": [{"params": [7]}]}}, "not known"),
    "two of one network": (
        "adam",
        {"first": kept(NET), "second": kept(NET)},
        r'say which one, `name_map={"optimizer": "first"}`',
    ),
    "a correction that matters": ("amsgrad", {"optimizer": kept(NET, "amsgrad")}, "below 1e-06"),
}


@pytest.mark.parametrize("case", STAYS)
def test_what_has_no_place_stays_behind_whole(case: str, tmp_path: Path) -> None:
    """The networks are migrated, and not a number of the optimizer is another; the report says why."""
    kind, optimizers, why = STAYS[case]
    own = Flax(STATES[kind])
    report = own.agent.migrate(save(tmp_path / "file.pt", policy=NET, **optimizers))
    assert report
    np.testing.assert_array_equal(own.params["params"]["Dense_0"]["kernel"], NET["0.weight"].T)
    (left,) = [each for each in report.optimizers if each.name == "optimizer" and each.status != "unused"]
    assert left.status == "left"
    assert re.search(why, left.why), left.why
    assert str(left) in str(report)
    assert all(np.all(leaf == 7) for path, leaf in keepfast.tree.leaves(own.state) if "count" not in path)
    assert {each.name for each in report.optimizers if each.status == "unused"} == optimizers.keys()


def test_a_network_that_got_no_values_gets_no_moments(tmp_path: Path) -> None:
    """Where only a part was loaded, the optimizer keeps its own."""
    part = {name: array for name, array in NET.items() if name.startswith("0")}
    own = Flax(adam)
    with pytest.warns(keepfast.KeepfastWarning, match="not complete"):
        report = own.agent.migrate(save(tmp_path / "file.pt", policy=part, optimizer=kept(part)), strict=False)
    assert "`policy.Dense_1.kernel` got no value" in report.optimizers[0].why
    assert np.all(own.state[0]["mu"]["params"]["Dense_0"]["kernel"] == 7)


def test_a_check_that_fails_puts_the_optimizer_back(tmp_path: Path) -> None:
    """As it does the networks; and a dry run changes neither."""
    own = Flax(adam)
    path = save(tmp_path / "file.pt", policy=NET, optimizer=kept(NET))
    assert own.agent.migrate(path, dry_run=True).optimizers[0].status == "migrated"
    with pytest.raises(keepfast.LoadMismatch, match="differ by up to"):
        own.agent.migrate(path, check={"policy": (np.ones(1), np.ones(1), lambda inputs: inputs + 1)})
    assert int(own.state[0]["count"]) == 0
    assert np.all(own.state[0]["nu"]["params"]["Dense_1"]["bias"] == 7)
    assert not np.any(own.params["params"]["Dense_0"]["kernel"])


def test_a_name_chooses_among_several(tmp_path: Path) -> None:
    """Of two that keep something for the same network, and an unknown one is told."""
    own = Flax(adam)
    first, second = kept(NET), kept(NET, steps=9)
    path = save(tmp_path / "file.pt", policy=NET, first=first, second=second)
    with pytest.raises(keepfast.LoadMismatch, match="Did you mean `second`"):
        own.agent.migrate(path, name_map={"optimizer": "secnod"})
    assert own.agent.migrate(path, name_map={"optimizer": "second"})
    assert int(own.state[0]["count"]) == 9
    np.testing.assert_array_equal(own.state[0]["mu"]["params"]["Dense_1"]["kernel"], second["state"][2]["exp_avg"].T)


def test_an_optimizer_is_of_the_network_that_its_name_tells(tmp_path: Path) -> None:
    """Of two networks of one structure; where no name tells, it stays behind."""
    nets = {"policy": network(""), "value": network("")}
    for names, status in ((("policy_optimizer", "value_optimizer"), "migrated"), (("one", "other"), "left")):
        states = {name: kept(net) for name, net in zip(names, nets.values(), strict=True)}
        own = Flax(adam, "value")
        report = own.agent.migrate(save(tmp_path / "file.pt", **nets, **states))
        assert report.optimizers[0].status == status, report
        if status == "migrated":
            found = own.state[0]["mu"]["params"]["Dense_0"]["bias"]
            np.testing.assert_array_equal(found, states["value_optimizer"]["state"][1]["exp_avg"])
        else:
            assert "several networks have parameters of these shapes" in report.optimizers[0].why


def test_one_optimizer_becomes_that_of_a_part_of_its_networks(tmp_path: Path) -> None:
    """One of policy and value goes into one of the policy alone; what is trained comes in the order of the file."""
    nets = {"policy": network(""), "value": network("")}
    both = {f"{role}.{name}": array for role, net in nets.items() for name, array in net.items()}
    state = kept(both)
    for role, start in (("policy", 0), ("value", 4)):
        own = Flax(adam, role)
        assert own.agent.migrate(save(tmp_path / "file.pt", **nets, optimizer=state))
        found = own.state[0]["nu"]["params"]["Dense_1"]["kernel"]
        np.testing.assert_array_equal(found, state["state"][start + 2]["exp_avg_sq"].T)


def test_a_trunk_that_goes_into_two_networks_takes_no_moments(tmp_path: Path) -> None:
    """Its gradients were those of both."""
    trunk = {"shared.weight": normal(5, 3), "shared.bias": normal(5)}
    heads = {f"{role}.{part}": normal(*shape) for role in ("policy", "value") for part, shape in SHAPES.items()}
    own = Flax(adam)
    other = {"params": keepfast.tree.map_leaves(lambda _, leaf: leaf.copy(), own.params["params"])}
    own.agent.checkpoint_modules |= {"value": other, "policy_optimizer": own.agent.checkpoint_modules.pop("optimizer")}
    path = save(tmp_path / "file.pt", model={**trunk, **heads}, optimizer=kept({**trunk, **heads}))
    with pytest.warns(keepfast.KeepfastWarning, match="several times"):
        report = own.agent.migrate(path)
    assert report
    assert "went into several" in report.optimizers[0].why


SHAPES = {"weight": (2, 5), "bias": (2,)}

WARNED = {
    "adam": ("adam", {}, ("`eps_root`", "`optax.adam(0.0003, b1=0.9, b2=0.999, eps=1e-08)`")),
    "Adam with decay": ("adam", {"weight_decay": 0.1}, ("`optax.add_decayed_weights` in front",)),
    "AdamW": (
        "adam",
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ("AdamW multiplies `weight_decay` with the rate", "`optax.adamw(0.0003, b1=0.9, b2=0.999"),
    ),
    "maximized": ("adam", {"maximize": True}, ("negative rate",)),
    "dampened": ("sgd", {"dampening": 0.25}, ("`optax.scale(0.75)` in front of `optax.trace`",)),
    "sgd": ("sgd", {"nesterov": True}, ("`optax.sgd(0.1, momentum=0.9, nesterov=True)`",)),
    "rmsprop": ("rmsprop", {}, ("`decay`", "PyTorch's `alpha`", "`eps_in_sqrt=False`", "`initial_scale`")),
    "adagrad": ("adagrad", {"lr_decay": 0.1}, ("`eps`", "`initial_accumulator_value`", "`lr_decay`")),
}


@pytest.mark.parametrize("case", WARNED)
def test_each_hyperparameter_that_means_something_else_is_warned_of(case: str, tmp_path: Path) -> None:
    """By name, and the call that makes the same optimizer, since no state of optax holds it."""
    kind, options, words = WARNED[case]
    own = Flax(STATES[kind])
    report = own.agent.migrate(save(tmp_path / "file.pt", policy=NET, optimizer=kept(NET, kind, **options)))
    assert report.optimizers[0].status == "migrated"
    told = "\n".join(report.warnings)
    assert [word for word in words if word not in told] == []


def test_a_train_state_is_network_and_optimizer(tmp_path: Path) -> None:
    """Its parameters, its state of optax and its count of steps, there and back."""
    own = Flax(adam)
    zeros = [keepfast.tree.map_leaves(lambda _, leaf: leaf.copy(), own.params["params"]) for _ in range(3)]
    state = ({"count": np.int32(0), "mu": zeros[1], "nu": zeros[2]}, {})
    own.state = {"step": 0, "params": zeros[0], "opt_state": state}
    agent = keepfast.Agent({})
    agent.checkpoint_modules["policy"] = keepfast.attribute(own, "state")
    expected = kept(NET)
    report = agent.migrate(save(tmp_path / "file.pt", policy=NET, optimizer=expected))
    assert report
    assert str(report.optimizers[0]) == "optimizer policy.opt_state: migrated <- optimizer (Adam, 4 steps)"
    assert (own.state["step"], int(own.state["opt_state"][0]["count"])) == (4, 4)
    found = own.state["opt_state"][0]["mu"]["Dense_1"]["kernel"]
    np.testing.assert_array_equal(found, expected["state"][2]["exp_avg"].T)
    other = Flax(adam)
    assert other.agent.migrate(agent.save(tmp_path / "state.safetensors"))
    np.testing.assert_array_equal(other.state[0]["mu"]["params"]["Dense_1"]["kernel"], found)
    np.testing.assert_array_equal(other.params["params"]["Dense_1"]["kernel"], NET["2.weight"].T)


def test_a_schedule_counts_on_where_a_scheduler_stood(tmp_path: Path) -> None:
    """SGD counts nothing itself; without a scheduler the count stays, and that is told."""
    scheduler = {"last_epoch": 12, "_step_count": 13, "base_lrs": [0.1], "_last_lr": [0.1]}
    for more, count in (({"scheduler": scheduler}, 12), ({}, 3)):
        own = Flax(lambda ones: ({"trace": ones}, {"count": np.int32(3)}))
        report = own.agent.migrate(save(tmp_path / "file.pt", policy=NET, optimizer=kept(NET, "sgd"), **more))
        assert int(own.state[1]["count"]) == count
        assert any("schedules keep their own count" in each for each in report.warnings) is (not more)
        plain = Flax(lambda _: ({}, {"count": np.int32(3)}))  # SGD without momentum keeps nothing else
        report = plain.agent.migrate(save(tmp_path / "plain.pt", policy=NET, optimizer=kept(NET, "sgd"), **more))
        assert int(plain.state[1]["count"]) == count
        assert report.optimizers[0].status == ("migrated" if more else "left")
