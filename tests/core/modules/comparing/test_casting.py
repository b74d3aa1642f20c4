"""A cast makes a number of Python one of the kind that is in its place, and never another number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast

CAST = [
    (0.5, 3, 3.0),
    (0.5, True, 1.0),
    (1j, 3, 3 + 0j),
    (1j, 0.5, 0.5 + 0j),
    (7, 3.0, 3),
    (7, True, 1),
    (False, 1, True),
]
ALREADY = [(0.5, 3.5), (7, 3), (True, False), (1j, 2j), (0.5, float("nan"))]


class Scaler:
    """Restores itself, from whatever it is given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize("form", [lambda number: number, np.asarray, lambda number: np.asarray(number)[()]])
@pytest.mark.parametrize(("own", "found", "cast"), CAST, ids=str)
def test_a_number_gets_the_kind_of_its_place(own: Any, found: Any, cast: Any, form: Any, tmp_path: Path) -> None:
    """Whatever form the file has it in, and wherever it goes: a tree, a variable, an object that restores itself."""
    tree, owner, scaler = {"n": own}, SimpleNamespace(n=own), Scaler(own)
    path = tmp_path / "state.safetensors"
    assert keepfast.load(tree, keepfast.save({"n": form(found)}, path), cast=True).cast == ["module.n"]
    place = keepfast.attribute(SimpleNamespace(n=form(found)), "n")
    keepfast.load(keepfast.attribute(owner, "n"), keepfast.save(place, path), cast=True)
    keepfast.load(scaler, keepfast.save(Scaler(form(found)), path), cast=True)
    assert [(type(each), each) for each in (tree["n"], owner.n, scaler.value)] == [(type(cast), cast)] * 3


@pytest.mark.parametrize(("own", "found"), ALREADY, ids=str)
def test_what_is_of_one_kind_is_not_called_cast(own: Any, found: Any, tmp_path: Path) -> None:
    """The report names what was converted, and nothing else."""
    tree = {"n": own}
    report = keepfast.load(tree, keepfast.save({"n": found}, tmp_path / "state.safetensors"), cast=True)
    assert (report.cast, repr(tree["n"])) == ([], repr(found))


def test_a_variable_that_may_take_another_kind_keeps_what_no_cast_can_hold(tmp_path: Path) -> None:
    """An epsilon that began as 1 takes 0.5, with a cast and without."""
    path = keepfast.save(keepfast.attribute(SimpleNamespace(epsilon=0.5), "epsilon"), tmp_path / "epsilon.safetensors")
    for cast in (False, True):
        owner = SimpleNamespace(epsilon=1)
        assert keepfast.load(keepfast.attribute(owner, "epsilon"), path, cast=cast).cast == []
        assert owner.epsilon == 0.5


def test_without_a_cast_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    """A whole number goes into the place of a float as the whole number that it is."""
    tree = {"n": 0.5}
    assert keepfast.load(tree, keepfast.save({"n": 3}, tmp_path / "state.safetensors"))
    assert repr(tree["n"]) == "3"
