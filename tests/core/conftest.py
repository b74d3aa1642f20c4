"""A backend that needs nothing but NumPy, so that the machine is tested where no framework is installed."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

import keepfast
from keepfast.plugins import backends
from keepfast.tree import Tree


@final
class Net(keepfast.Saving):
    """A module whose state is a nested dictionary of NumPy arrays, changed in place; it saves and loads itself."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays


@final
class Momentum:
    """An open module, as an optimizer is: it takes what it does not have yet, and checks what it takes.

    It tells beforehand of what is no number, and refuses a negative learning rate when it is loaded.
    """

    def __init__(self, lr: float) -> None:
        self.state: dict[str, Any] = {"lr": lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "lr" not in state:
            raise ValueError("no learning rate in the state")
        if state["lr"] < 0:
            raise keepfast.LoadMismatch(f"the learning rate {state['lr']} is negative")
        self.state = dict(state)


@final
class NumpyBackend(keepfast.Backend):
    """Captures `Net` and `Momentum`."""

    name = "numpy"
    checkpoint_format = "safetensors"

    def recognizes(self, module: object) -> bool:
        return isinstance(module, Net | Momentum)

    def capture(self, module: Any) -> Tree:
        if isinstance(module, Net):
            return module.arrays
        if isinstance(module, Momentum):
            return module.state
        raise keepfast.UnsupportedModule(f"a {type(module).__name__} is no module of NumPy arrays")

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        if isinstance(module, Momentum):
            module.load_state_dict(state)
        else:
            _assign(module.arrays, state)
        return module

    def is_open(self, module: Any) -> bool:
        return isinstance(module, Momentum)

    def mismatches(self, module: Any, state: Tree) -> Sequence[keepfast.Mismatch]:
        if isinstance(state.get("lr", 0.0), str):
            return [keepfast.Mismatch("lr", "kind", "a number", repr(state["lr"]))]
        return []


def _assign(own: dict[str, Any], state: Mapping[str, Any]) -> None:
    for key, value in state.items():
        if isinstance(value, Mapping):
            _assign(own[key], value)
        elif isinstance(own[key], np.ndarray):
            own[key][...] = value
        else:
            own[key] = value


@pytest.fixture
def numpy_backend() -> Iterator[NumpyBackend]:
    """Register a plugin with the backend by hand, as a script does that ships none."""

    @keepfast.hookimpl
    def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
        return {"numpy": NumpyBackend}

    plugin = SimpleNamespace(keepfast_backends=keepfast_backends)
    keepfast.plugins.registry().register(plugin, "numpy-backend")
    yield backends.backend_named("numpy")
    keepfast.plugins.registry().unregister(plugin)
    backends._made.pop("numpy", None)


@pytest.fixture
def net(numpy_backend: NumpyBackend) -> Callable[..., Net]:
    """Return a maker of networks: ``net(seed)`` has two layers, keywords replace or add entries."""

    def make(seed: int = 0, **entries: Any) -> Net:
        rng = np.random.default_rng(seed)
        layers = {
            "body": {"weight": rng.normal(size=(3, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)},
            "head": {"weight": rng.normal(size=(4, 2)).astype(np.float32), "bias": np.ones(2, np.float32)},
        }
        return Net({**layers, **entries})

    return make


@pytest.fixture
def momentum(numpy_backend: NumpyBackend) -> Callable[[float], Momentum]:
    """Return a maker of open modules."""
    return Momentum


@pytest.fixture(scope="session")
def example() -> Callable[[type], str]:
    """Return what returns the code in a docstring: what is indented after the first line that ends with two colons."""

    def found(documented: type) -> str:
        lines = (inspect.getdoc(documented) or "").partition("::\n")[2].splitlines()
        end = next(number for number, line in enumerate(lines) if line and not line.startswith(" "))
        return textwrap.dedent("\n".join(lines[:end]))

    return found
