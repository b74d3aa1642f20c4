"""Environments: what they are in the middle of, taken and put back into others like them."""

from __future__ import annotations

import enum
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.adapters.environments import EnvironmentState, OpaqueEnvironment, captured, restored
from keepfast.plain.state import restore
from keepfast.tree import leaves


class Weather(enum.Enum):
    CALM = 1
    STORM = 2


class Boat:
    """A part of an environment, which is an object too."""

    def __init__(self) -> None:
        self.position, self.log = np.zeros(2, np.float32), list[float]()


class Lake:
    """An environment as people write them, with every kind of state."""

    def __init__(self, seed: int = 0) -> None:
        self.np_random: Any = None
        self.boat = Boat()
        self.sailor = self.boat  # the same object again
        self.weather = Weather.CALM
        self.last: Any = None
        self.seen: dict[Any, Any] = {}
        self.lines: deque[int] = deque(maxlen=3)
        self.chart = np.array([b"S", b"F"], "S1")
        self.on_end = lambda: None
        self.seed = seed

    def reset(self) -> Any:
        self.np_random = np.random.default_rng(self.seed)
        self.boat.position[:] = 0
        return self.boat.position.copy()

    def step(self, action: float) -> Any:
        self.boat.position += self.np_random.normal(size=2) * action
        self.boat.log.append(float(self.boat.position[0]))
        self.weather = Weather.STORM if self.boat.log[-1] > 0 else Weather.CALM
        self.last = np.float32(action)
        self.seen[len(self.boat.log), "x"] = {"at": (self.boat.position.copy(), frozenset({1}))}
        self.lines.append(len(self.seen))
        return self.boat.position.copy(), float(self.sailor.position.sum()), self.weather


class Wrapper:
    def __init__(self, env: Any) -> None:
        self.env, self.elapsed = env, None if env.np_random is None else 0

    def step(self, action: float) -> Any:
        self.elapsed = (self.elapsed or 0) + 1
        return self.env.step(action)


def under_way() -> Wrapper:
    env = Wrapper(Lake(3))
    env.env.reset()
    for action in range(7):
        env.step(action)
    return env


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_an_environment_goes_on_where_another_one_was(extension: str, tmp_path: Path) -> None:
    """Through a file, into one that was never reset: the same steps to the bit, and all that the steps leave behind."""
    saved, other = under_way(), Wrapper(Lake())
    path = keepfast.save({"env": EnvironmentState(saved)}, tmp_path / f"env{extension}")
    boat, position = other.env.boat, other.env.boat.position
    state = EnvironmentState(other)
    keepfast.load({"env": state}, path)
    assert state.is_restored
    assert other.env.boat is boat
    assert boat.position is position
    assert other.env.sailor is boat
    for action in range(5):
        np.testing.assert_equal(other.step(action), saved.step(action))
    assert type(other.env.last) is np.float32
    assert other.elapsed == saved.elapsed == 12
    assert other.env.lines == saved.env.lines
    assert other.env.lines.maxlen == 3
    np.testing.assert_equal(other.env.seen, saved.env.seen)
    np.testing.assert_equal(other.env.chart, saved.env.chart)


def test_what_shows_and_describes_an_environment_is_no_state() -> None:
    """A window may be of any kind, and stays what it is; so do functions and classes."""
    env, other = under_way(), under_way()
    env.env.screen, env.env.kind, other.env.screen = memoryview(b"pixels"), Lake, "own"  # type: ignore[attr-defined]
    state = EnvironmentState(env)
    assert state.obstacle == ""
    restored(other, captured(env))
    assert other.env.screen == "own"


@pytest.mark.parametrize("part", [memoryview(b"physics"), np.array([object()]), iter([1]), {Weather.CALM: 1}])
def test_an_environment_with_a_part_that_nobody_can_know_is_not_kept(part: Any, tmp_path: Path) -> None:
    """Half of a state is none: nothing of it is stored, and nothing is put back; why not is told by name."""
    env, other = under_way(), Wrapper(Lake())
    env.env.physics = part
    state = EnvironmentState(env)
    assert "env.physics" in state.obstacle
    with pytest.raises(OpaqueEnvironment, match=r"env\.physics"):
        captured(env)
    restorer = EnvironmentState(other)
    keepfast.load({"env": restorer}, keepfast.save({"env": state}, tmp_path / "env.pt"))
    assert not restorer.is_restored
    assert other.elapsed is None


def test_the_state_of_another_kind_of_environment_is_refused() -> None:
    """The error says so, and no more than that it does not fit."""
    with pytest.raises(keepfast.LoadMismatch, match="is not that of such an environment"):
        restored(Weather.CALM, captured(under_way()))
    tree = captured(np.random.default_rng(1))
    tree["state"]["bit_generator"] = "os"
    with pytest.raises(keepfast.LoadMismatch, match="random generator `os`; known: PCG64"):
        restored(None, tree)


def test_a_line_of_objects_without_an_end_is_refused() -> None:
    """It does not exhaust the stack."""
    first: list[Any] = []
    node = first
    for _ in range(200):
        node.append([])
        node = node[0]
    with pytest.raises(OpaqueEnvironment, match="more than 40 objects deep"):
        captured(first)


def _record(kind: type, length: int) -> list[Any]:
    return [kind(each) for each in range(length)]


@pytest.mark.parametrize("length", [3, 50])
def test_a_record_of_many_episodes_is_few_arrays(length: int) -> None:
    """Of numbers, and of tables of the same numbers; it comes back with the kinds that it had, also a mixed one."""
    record = {
        "returns": _record(float, length),
        "lengths": _record(int, length),
        "wide": [2**80] * length,
        "mixed": [1, 2.0] * length,
        "last": deque([{"r": 0.5, "l": each} for each in range(length)], maxlen=100),
        "unlike": [{"r": 0.5} | ({"x": 1} if each else {}) for each in range(length)],
        "named": [{"name": "a"}] * length,
    }
    state = captured(record)
    if length > 16:
        columns = dict(zip(state["keys"], state["values"], strict=True))
        assert all(len(list(leaves(columns[name]))) < 8 for name in ("returns", "lengths", "last"))
    found = restored(None, state)
    assert found == record
    assert [type(each) for each in found["mixed"]] == [type(each) for each in record["mixed"]]
    assert {type(each["l"]) for each in found["last"]} == {int}


def test_a_state_of_before_is_put_back() -> None:
    """Files that Keepfast wrote before have the states of environments value by value, as trees."""
    lake, other = Lake(), Lake()
    lake.reset()
    for _ in range(4):
        lake.step(0.5)
    restore(EnvironmentState(other), {"state": captured(lake)})
    assert other.step(0.5)[1:] == lake.step(0.5)[1:]
