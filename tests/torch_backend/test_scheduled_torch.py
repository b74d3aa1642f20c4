"""Schedulers of rates set to a number of steps, as a migration does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.optim import lr_scheduler as rates  # noqa: E402

from keepfast_torch.backend import TorchBackend  # noqa: E402

TOLD: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda optimizer: rates.LambdaLR(optimizer, [lambda step: 0.9**step, lambda step: 1 / (1 + step)]),
    "StepLR": lambda optimizer: rates.StepLR(optimizer, 3, 0.5),
    "MultiStepLR": lambda optimizer: rates.MultiStepLR(optimizer, [2, 5], 0.5),
    "ExponentialLR": lambda optimizer: rates.ExponentialLR(optimizer, 0.9),
    "LinearLR": lambda optimizer: rates.LinearLR(optimizer, 0.1, 1.0, 20),
    "PolynomialLR": lambda optimizer: rates.PolynomialLR(optimizer, 20, 2.0),
    "CosineAnnealingLR": lambda optimizer: rates.CosineAnnealingLR(optimizer, 20),
}
UNTOLD: dict[str, Callable[[Any], Any]] = {
    "MultiplicativeLR": lambda optimizer: rates.MultiplicativeLR(optimizer, lambda step: 0.9),
    "OneCycleLR": lambda optimizer: rates.OneCycleLR(optimizer, 0.1, 20),
}


def optimizer() -> Any:
    groups = [{"params": [torch.zeros(2, requires_grad=True)], "lr": rate} for rate in (0.1, 0.3)]
    return torch.optim.SGD(groups, lr=1.0)


@pytest.mark.parametrize("kind", TOLD)
def test_a_scheduler_is_as_if_it_had_made_the_steps(kind: str) -> None:
    """Its state, and the rates then, are those of one that was stepped; it stays where it is."""
    own, stepped = TOLD[kind](optimizer()), TOLD[kind](optimizer())
    before = own.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer was stepped
        for _ in range(7):
            stepped.step()
    found = TorchBackend().scheduled(own, 7)
    assert found is not None
    state, made = found
    assert made == pytest.approx([group["lr"] for group in stepped.optimizer.param_groups], rel=1e-9)
    expected = stepped.state_dict()
    assert {name: state[name] for name in ("last_epoch", "_step_count")} == {
        name: expected[name] for name in ("last_epoch", "_step_count")
    }
    assert state["_last_lr"] == pytest.approx(expected["_last_lr"], rel=1e-9)
    assert own.state_dict() == before


@pytest.mark.parametrize("kind", UNTOLD)
def test_where_steps_do_not_tell_the_rates_nothing_is_told(kind: str) -> None:
    """They follow from those before, or from more than that."""
    assert TorchBackend().scheduled(UNTOLD[kind](optimizer()), 7) is None
    assert TorchBackend().scheduled(optimizer(), 7) is None
