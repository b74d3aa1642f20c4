"""Modules that are replaced as training goes on: saved as they are now, and put back where they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, final

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast.plugins import backends
from keepfast.tree import Tree


@final
@dataclasses.dataclass(frozen=True)
class Frozen:
    """A train state that nobody can change."""

    weight: NDArray[Any]


@final
class FrozenBackend(keepfast.Backend):
    """Makes a new one at each restore."""

    name: ClassVar[str] = "frozen"
    checkpoint_format: ClassVar[str] = "safetensors"

    def recognizes(self, module: object) -> bool:
        return isinstance(module, Frozen)

    def replaces(self, module: Any) -> bool:
        return True

    def capture(self, module: Any) -> Tree:
        return {"weight": module.weight}

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        return Frozen(np.array(state["weight"]))


@pytest.fixture(autouse=True)
def _frozen() -> Iterator[None]:
    @keepfast.hookimpl
    def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
        return {"frozen": FrozenBackend}

    plugin = SimpleNamespace(keepfast_backends=keepfast_backends)
    keepfast.plugins.registry().register(plugin, "frozen-backend")
    yield
    keepfast.plugins.registry().unregister(plugin)
    backends._made.pop("frozen", None)


def owner(value: float) -> SimpleNamespace:
    return SimpleNamespace(state=Frozen(np.full(3, value)))


def test_the_present_value_is_saved_and_the_owner_gets_the_restored_one(tmp_path: Path) -> None:
    """What the owner held when the attribute was named is of no account."""
    agent, other = owner(1.0), owner(0.0)
    named = keepfast.attribute(agent, "state")
    agent.state = Frozen(np.full(3, 2.0))
    keepfast.save(named, tmp_path / "state.safetensors")
    before = other.state
    keepfast.load(keepfast.attribute(other, "state"), tmp_path / "state.safetensors")
    assert other.state.weight.tolist() == [2.0] * 3
    assert before.weight.tolist() == [0.0] * 3


def test_what_is_replaced_needs_a_place_to_go(tmp_path: Path) -> None:
    """Loaded into nothing, it would be lost: whoever registers or loads it is told how."""
    agent = owner(1.0)
    keepfast.save(agent.state, tmp_path / "state.safetensors")
    way = r"is a Frozen, which is replaced, not changed; register it as keepfast\.attribute\(owner, "
    with pytest.raises(keepfast.UnsupportedModule, match=way):
        keepfast.load(agent.state, tmp_path / "state.safetensors")
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": []}
    with keepfast.Experiment(cfg) as experiment, pytest.raises(keepfast.UnsupportedModule, match=way):
        experiment.register(state=agent.state)


def test_an_array_that_grew_is_not_its_neighbour(tmp_path: Path) -> None:
    """Were it changed in place, it would reach into the memory behind it; but it is replaced."""

    def neighbours(size: int) -> SimpleNamespace:
        memory = np.arange(size + 2, dtype=np.float64)
        return SimpleNamespace(grown=memory[:size], fixed=memory[size:])

    source, target = neighbours(5), neighbours(2)
    path = keepfast.save(keepfast.attributes(source, "grown", "fixed"), tmp_path / "x.safetensors")
    assert keepfast.load(keepfast.attributes(target, "grown", "fixed"), path).tied == {}
    assert (target.grown.tolist(), target.fixed.tolist()) == ([0.0, 1.0, 2.0, 3.0, 4.0], [5.0, 6.0])
