"""The contract of backends accepts the smallest one, and catches each way of getting it wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import keepfast
from keepfast.testing import BackendContract, BackendSubject
from keepfast.tree import map_leaves


class NumpyBackend(keepfast.Backend):
    """The example of `Backend`'s documentation, and random numbers."""

    name: ClassVar[str] = "numpy"
    checkpoint_format: ClassVar[str] = "safetensors"

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def recognizes(self, module: object) -> bool:
        return isinstance(module, dict)

    def capture(self, module: Any) -> Any:
        return module

    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        for key, value in state.items():
            module[key][...] = value
        return module

    def random_state(self) -> Any:
        return dict(self.generator.bit_generator.state)

    def set_random_state(self, state: Any) -> None:
        self.generator.bit_generator.state = state


def make_module(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"weight": rng.normal(size=(3, 2)), "bias": rng.normal(size=2).astype(np.float32)}


def train(module: dict[str, Any]) -> dict[str, Any]:
    module["weight"] *= 0.5
    module["bias"] += module["weight"].sum(axis=0)
    return module


def subject_of(backend: Any) -> BackendSubject:
    return BackendSubject(backend, make_module, train, np.array, backend.generator.random)


class TestSmallestBackend(BackendContract):
    @pytest.fixture
    def subject(self) -> BackendSubject:
        return subject_of(NumpyBackend())


class SharesItsCopy(NumpyBackend):
    def host_copy(self, tree: Any) -> Any:
        return tree


class CopiesItsContainerOnly(NumpyBackend):
    def host_copy(self, tree: Any) -> Any:
        return dict(tree)


class KeepsWhatItIsGiven(NumpyBackend):
    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        module.update(state)
        return module


class LosesBits(NumpyBackend):
    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        return super().restore(module, map_leaves(lambda _path, leaf: leaf.astype(np.float16), state))


class ForgetsAnEntry(NumpyBackend):
    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        return super().restore(module, {"weight": state["weight"]})


class RecognizesEverything(NumpyBackend):
    def recognizes(self, module: object) -> bool:
        return True


class ReturnsAnother(NumpyBackend):
    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        return super().restore(dict(module), state)


class HoldsTheArrayItself(NumpyBackend):
    def hold(self, value: Any) -> Any:
        return value


class FlattensWhatItFetches(NumpyBackend):
    def fetch(self, held: Any) -> Any:
        return [value.reshape(-1) for value in held]


class ForgetsRandomness(NumpyBackend):
    def set_random_state(self, state: Any) -> None:
        return


class WritesNoFormat(NumpyBackend):
    checkpoint_format: ClassVar[str] = "stone"


@pytest.mark.parametrize(
    ("backend", "check"),
    [
        (SharesItsCopy, lambda test, subject: test.test_training_on_does_not_reach_a_copy(subject)),
        (SharesItsCopy, lambda test, subject: test.test_changing_a_copy_does_not_reach_the_module(subject)),
        (CopiesItsContainerOnly, lambda test, subject: test.test_training_on_does_not_reach_a_copy(subject)),
        (KeepsWhatItIsGiven, lambda test, subject: test.test_a_restored_module_shares_nothing_with_the_state(subject)),
        (LosesBits, lambda test, subject: test.test_a_restored_module_is_bit_identical(subject)),
        (ForgetsAnEntry, lambda test, subject: test.test_a_restored_module_is_bit_identical(subject)),
        (ForgetsAnEntry, lambda test, subject: test.test_restoring_twice_is_restoring_once(subject)),
        (RecognizesEverything, lambda test, subject: test.test_it_recognizes_nothing_else(subject)),
        (
            ReturnsAnother,
            lambda test, subject: test.test_a_module_keeps_its_identity_unless_it_is_replaced(subject),
        ),
        (HoldsTheArrayItself, lambda test, subject: test.test_what_is_held_keeps_its_value(subject)),
        (
            FlattensWhatItFetches,
            lambda test, subject: test.test_held_values_of_all_kinds_are_fetched_in_order(subject),
        ),
        (ForgetsRandomness, lambda test, subject: test.test_the_random_state_comes_back(subject)),
        (WritesNoFormat, lambda test, subject: test.test_its_checkpoint_format_exists(subject)),
    ],
)
def test_a_wrong_backend_is_caught(
    backend: type[NumpyBackend], check: Callable[[BackendContract, BackendSubject], None]
) -> None:
    """Each mistake of a backend fails the part of the contract that is about it."""
    check(TestSmallestBackend(), subject_of(NumpyBackend()))
    with pytest.raises((AssertionError, ValueError)):
        check(TestSmallestBackend(), subject_of(backend()))
