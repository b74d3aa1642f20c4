"""A load changes everything or nothing, whatever raises, and wherever."""

from __future__ import annotations

import abc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import keepfast
from keepfast import KeepfastError
from keepfast._system.memory import giving
from keepfast.modules import restoring
from keepfast.modules.options import LoadOptions
from keepfast.modules.registered import copy_all, registered
from keepfast.plugins.formats import read_checkpoint
from keepfast.tree import flatten, is_array
from tests.both_backends.framework import Framework

OURS = {"keepfast", "keepfast_torch", "keepfast_jax"}


class Fault(RuntimeError):
    """Stands for whatever may go wrong."""


def is_step(frame: FrameType, event: str) -> bool:
    """Say whether an event is a call by Keepfast or of it; where a framework leaves one of its modes, nothing fails."""
    if event == "c_call" or is_ours(frame):
        return event in ("call", "c_call") and is_ours(frame)
    called = event == "call" and frame.f_code.co_name != "__exit__"
    return called and frame.f_back is not None and is_ours(frame.f_back)


def is_ours(frame: FrameType) -> bool:
    """Say whether code of Keepfast runs in a frame."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] in OURS


class Steps:
    """Counts the calls that Keepfast makes to load modules, of Python's functions and of C's; has one of them raise."""

    def __init__(self, failing: int = 0) -> None:
        self.count, self.failing, self._loading = 0, failing, False

    def __call__(self, frame: FrameType, event: str, _what: object) -> None:
        code = frame.f_code
        if code.co_qualname == "_restored" and code.co_filename == restoring.__file__:
            self._loading = event != "return"
        elif self._loading and is_step(frame, event):
            self.count += 1
            if self.count == self.failing:
                sys.setprofile(None)
                raise Fault(f"step {self.count}: {code.co_qualname}")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count in the block."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)


def bits(modules: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that there is of modules, bit for bit."""
    state = flatten(copy_all(registered(modules, None)))
    return {path: np.asarray(leaf).tobytes() if is_array(leaf) else repr(leaf) for path, leaf in state.items()}


class UndoneSuite(Framework):
    """Has loads fail at every step and in every kind of module."""

    steps: ClassVar[int] = 600
    """About how many of the steps are made to fail, evenly spread."""

    @abc.abstractmethod
    def agent(self, seed: int) -> dict[str, Any]:
        """Return modules of every kind, of values that a seed decides."""

    # A generator that is given up is closed by a call, and what that raises Python only tells of.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("spent", [False, True], ids=["copied", "kept"])
    def test_every_step_of_a_restore_may_fail(
        self, spent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever an error comes from, all modules are bit for bit what they were, and the error names the file.

        So it is where arrays of the file are copied, and where modules keep them or exchange their numbers for those.
        """
        monkeypatch.setattr(giving, "_WORTH_GIVING", 1)
        saved = self.agent(1)
        path = keepfast.Agent(saved).save(tmp_path / f"agent{self.extension}")
        counting, other = Steps(), self.agent(2)
        load(self.agent(2), path, counting, spent=spent)
        before, failed = bits(other), 0
        for step in range(1 + spent, counting.count + 1, 2 * max(1, counting.count // self.steps)):
            error = load(other, path, Steps(step), spent=spent)
            if error is None:  # it was expected where it came, and the load went on
                assert bits(other) == bits(saved)
                other = self.agent(2)
                continue
            failed += 1
            assert bits(other) == before, step
            assert str(path) in str(error)
        assert failed > self.steps / 4
        assert load(other, path, Steps(), spent=spent) is None
        assert bits(other) == bits(saved)

    @pytest.mark.parametrize("name", ["object", "setter"])
    def test_what_raises_whenever_it_is_loaded_is_put_back_without_being_asked(self, name: str, tmp_path: Path) -> None:
        """An object that fails half-way, an owner that takes no value: all is as it was, and the error says what."""
        make = {"object": Halfway, "setter": lambda seed: keepfast.attribute(Owner(seed), "value")}[name]
        saved, other = ({**self.agent(seed), name: make(seed)} for seed in (1, 2))
        path = keepfast.Agent(saved).save(tmp_path / f"agent{self.extension}")
        before = bits(other)
        with pytest.raises(KeepfastError, match=name) as raised:
            keepfast.Agent(other).load(path)
        assert bits(other) == before
        assert all(text in str(raised.value) for text in (str(path), "always"))

    def test_without_strict_what_refuses_is_as_it_was_and_all_else_is_loaded(self, tmp_path: Path) -> None:
        """The report tells which one refused, and why."""
        saved, other = ({"object": Halfway(seed), **self.agent(seed)} for seed in (1, 2))
        path = keepfast.Agent(saved).save(tmp_path / f"agent{self.extension}")
        report = keepfast.Agent(other).load(path, strict=False)
        assert [str(entry) for entry in report.differences] == [
            "object: refused: Halfway cannot load the file's state: this one always refuses"
        ]
        assert bits(other) == bits(saved) | bits({"object": Halfway(2)})


class Halfway:
    """Changes itself, and an object that it has, before it says no."""

    def __init__(self, seed: int) -> None:
        self.array, self.inner = np.full(3, float(seed)), SimpleNamespace(count=seed, deep={"last": [seed]})

    def state_dict(self) -> dict[str, Any]:
        return {"array": self.array, "count": self.inner.count, "last": list(self.inner.deep["last"])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.array[:] = state["array"]
        self.inner.deep["last"][0] = self.inner.count = state["count"]
        raise RuntimeError("this one always refuses")


class Owner:
    """Takes no other value than the one it has."""

    def __init__(self, value: int) -> None:
        self._value = value

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        before, self._value = self._value, value
        if value == 1:
            raise OSError(f"always {before}")


def load(modules: Mapping[str, Any], path: Path, steps: Steps, *, spent: bool) -> KeepfastError | None:
    """Load modules, every call a step, and return what went wrong."""
    known, checkpoint = registered(modules, None), read_checkpoint(path)
    try:
        with steps.counted():
            restoring.restore_all(known, checkpoint, path, LoadOptions(), spent=spent)
    except KeepfastError as error:
        return error
    return None
