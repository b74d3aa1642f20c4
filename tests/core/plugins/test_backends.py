"""Finding the backend of whatever is at hand, and holding values until they are fetched."""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.plugins import backends, registry
from keepfast.tracking.held import Holder

Register = Callable[[Mapping[str, Any]], None]


@pytest.fixture
def register() -> Iterator[Register]:
    """Return a function that registers backends by hand; all is taken back at the end."""
    plugins: list[SimpleNamespace] = []
    broken = list(registry().broken)

    def register(table: Mapping[str, Any]) -> None:
        @keepfast.hookimpl
        def keepfast_backends() -> Mapping[str, Any]:
            return table

        plugins.append(SimpleNamespace(keepfast_backends=keepfast_backends))
        registry().register(plugins[-1], f"by-hand-{len(plugins)}")

    before = dict(backends._made)
    yield register
    for plugin in plugins:
        registry().unregister(plugin)
    backends._made.clear()
    backends._made.update(before)
    registry().broken[:] = broken


def test_a_module_is_recognized_by_its_backend(numpy_backend: Any, net: Callable[..., Any]) -> None:
    """Who registers a module need not name its framework; what nobody knows gives None."""
    assert backends.recognize(net(0)) is numpy_backend
    assert backends.recognize(object()) is None


def test_a_backend_is_made_once(numpy_backend: Any) -> None:
    """Every question for a name gets the same one."""
    assert backends.backend_named("numpy") is numpy_backend
    assert backends.backend_named("numpy") is backends.backend_named("numpy")


def test_the_configuration_wins_over_the_environment(numpy_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "auto" leaves it to KEEPFAST_BACKEND, and where that is unset to the modules."""
    assert backends.configured("auto") is None
    monkeypatch.setenv("KEEPFAST_BACKEND", "numpy")
    assert backends.configured("auto") is numpy_backend
    monkeypatch.setenv("KEEPFAST_BACKEND", "nmpy")
    assert backends.configured("numpy") is numpy_backend
    named = r"the environment variable `KEEPFAST_BACKEND` names an unknown backend `nmpy`; .* Did you mean `numpy`\?"
    with pytest.raises(keepfast.UnknownPlugin, match=named):
        backends.configured("auto")
    with pytest.raises(keepfast.UnknownPlugin, match=r"^unknown backend `nmpi`"):
        backends.configured("nmpi")
    monkeypatch.setenv("KEEPFAST_BACKEND", "")
    assert backends.configured("auto") is None


def test_companions_lend_their_backend_to_objects_nobody_knows(numpy_backend: Any) -> None:
    """An object that only has a state is captured by the backend of the modules beside it, or the named one."""
    assert backends.backend_of(object(), None, [numpy_backend]) is numpy_backend
    assert backends.backend_of(object(), numpy_backend) is numpy_backend


def test_what_nobody_knows_says_what_to_install(register: Register) -> None:
    """Where a framework is not installed, the error about a module of it has the command that installs it."""
    register({"absent": keepfast.lazy("absent:Backend", requires=("absent_framework",), extra="absent")})
    with pytest.raises(keepfast.UnsupportedModule) as raised:
        backends.backend_of(object(), None)
    head, *hints = str(raised.value).splitlines()
    assert head.startswith("no backend knows what to do with a builtins.object; name one in the configuration")
    assert '  absent needs `absent_framework`, which is not installed; run: pip install "keepfast[absent]"' in hints
    assert not any("ready" in hint for hint in hints)


def test_a_framework_half_installed_hurts_nobody_else(
    numpy_backend: Any, net: Callable[..., Any], register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX imported without Flax, a backend that fails when it is made: modules of others are still recognized."""
    monkeypatch.setitem(sys.modules, "half_framework", SimpleNamespace(__spec__=SimpleNamespace()))

    def failing() -> Any:
        raise RuntimeError("no device")

    half = keepfast.lazy("half:Backend", requires=("half_framework", "its_other_half"), extra="half")
    register({"a-half": half, "a-failing": failing})
    assert backends.recognize(net(0)) is numpy_backend
    with pytest.raises(keepfast.MissingDependency, match="`its_other_half`"):
        backends.backend_named("a-half")
    with pytest.raises(RuntimeError, match="no device"):
        backends.backend_named("a-failing")


def test_a_name_claimed_twice_hurts_only_who_asks_for_it(
    numpy_backend: Any, net: Callable[..., Any], register: Register
) -> None:
    """Recognition goes on; naming the backend is an error with both plugins, however often it was recognized."""
    register({"numpy": type(numpy_backend)})
    assert backends.recognize(net(0)) is numpy_backend
    with pytest.raises(keepfast.PluginConflict, match="claimed by numpy-backend and by-hand-1"):
        backends.backend_named("numpy")


def test_a_backend_in_use_stays_so_where_its_plugin_fails_later(register: Register) -> None:
    """What a file has of it is made by it, not by another one, whatever asking for all plugins meets."""
    table: Any = UserDict(own=lambda: SimpleNamespace(name="own"))
    register(table)
    own = backends.backend_named("own")
    table.data = None
    assert backends.in_use("own") is own
    assert backends.in_use("another") is None


def test_a_framework_that_is_set_up_knows_the_rank(register: Register) -> None:
    """Each that is set up for a distributed run tells its own."""
    for name, rank in (("alone", None), ("first", 0), ("third", 3)):
        register({name: lambda name=name, rank=rank: SimpleNamespace(name=name, rank=lambda: rank)})
    assert backends.group_ranks() == {"first": 0, "third": 3}


def test_held_values_are_fetched_as_they_were() -> None:
    """Numbers, lists and arrays, in their order; a buffer changed since is a matter of its owner."""
    holder = Holder()
    buffer = np.array([1.0, 2.0], np.float32)
    values = [buffer, 3, 2.5, True, [1, 2], np.float16(0.5)]
    held = [holder.hold(value) for value in values]
    buffer[...] = 9.0
    fetched = holder.fetch(held)
    assert [array.tolist() for array in fetched] == [[1.0, 2.0], 3, 2.5, True, [1, 2], 0.5]
    assert fetched[0].dtype == np.float32
