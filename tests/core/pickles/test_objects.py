"""Objects of a pickle are read as what they are made of."""

from __future__ import annotations

import argparse
import collections
import enum
import io
import pickle
from typing import Any

import numpy as np
import pytest

from keepfast.migration.files.inert import PickledObject, tree_of
from keepfast.pickles.machine import load_objects
from keepfast.pickles.objects import Pickled
from keepfast.tree import Unread


class Kind(enum.Enum):
    """A member of it is a call with its value."""

    FIRST = 1


class Slots:
    """An object whose state is that of its slots."""

    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 3


class ListOf(list[int]):
    """A list with an attribute."""


class DictOf(dict[str, int]):
    """A dict of a class."""


class Ran:
    """An object that would tell if it were made."""

    def __reduce__(self) -> Any:
        return tell, ("run",)


def tell(what: str) -> None:
    raise AssertionError(what)


def of_lists() -> ListOf:
    made = ListOf([1, 2])
    made.name = "x"  # type: ignore[attr-defined]
    return made


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, None, True, (1, "x")], 3: b"bytes" * 100, (1, 2): {1, 2}},
    "object": argparse.Namespace(lr=0.1, layers=[64, 64]),
    "slots": Slots(),
    "list": of_lists(),
    "dict": DictOf(a=1, b=2),
    "ordered": collections.OrderedDict(a=1),
    "enum as a key": {Kind.FIRST: 1},
    "number as a key": {np.int64(3): "x"},
    "array": np.arange(12, dtype=np.float32).reshape(3, 4),
    "in Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "of the other byte order": np.arange(4, dtype=">f8"),
    "empty": np.zeros((0, 4), np.float32),
    "number": np.float64(2.5),
    "code": Ran(),
}


class Reference(pickle.Unpickler):
    """Python's own unpickler, with names that do nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return type("Inert", (Inert,), {"path": f"{module}.{name}"})


class Inert:
    """What Python's unpickler makes of any class here."""

    path = ""

    def __new__(cls, *arguments: Any, **_named: Any) -> Any:
        made: Any = object.__new__(cls)
        made.arguments, made.attributes, made.parts = arguments, {}, []
        return made

    def __setstate__(self, state: Any) -> None:
        self.attributes = state[1] if isinstance(state, tuple) and len(state) == 2 and state[1] else state

    def append(self, item: Any) -> None:
        self.parts.append(item)  # type: ignore[attr-defined]

    def extend(self, items: Any) -> None:
        self.parts += items

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append((key, value))  # type: ignore[attr-defined]


def spelled(value: Any) -> Any:
    """Return a value as text, an object by what it is made of."""
    if isinstance(value, Inert | Pickled):
        made: Any = value
        return ["made", renamed(made.path), *map(spelled, (made.arguments, made.attributes, made.parts))]
    if isinstance(value, Unread) or (isinstance(value, type) and issubclass(value, Inert)):
        return ["named", renamed(value.name if isinstance(value, Unread) else value.path)]
    if isinstance(value, dict):
        return ["dict", [(spelled(key), spelled(each)) for key, each in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [spelled(each) for each in value]]
    return repr(value)


def renamed(path: str) -> str:
    return path.replace("__builtin__", "builtins")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", [name for name in VALUES if name != "slots"])
def test_objects_are_what_they_are_made_of(name: str, protocol: int) -> None:
    """As Python's unpickler gives them where no name does anything: class, arguments, attributes and parts."""
    content = pickle.dumps(VALUES[name], protocol)
    found = spelled(load_objects(content))
    assert found == spelled(Reference(io.BytesIO(content)).load())


def test_the_state_of_slots_is_read() -> None:
    """It is the second part of a pair."""
    made = load_objects(pickle.dumps(VALUES["slots"], 4))
    assert made.attributes == {"x": 3}


@pytest.mark.parametrize("name", ["array", "in Fortran order", "of the other byte order", "empty", "number"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_out_of_any_protocol(name: str, protocol: int) -> None:
    """With their dtype, shape and values; before protocol 3, their bytes are a text and what encodes it."""
    found = tree_of(pickle.dumps({"x": VALUES[name]}, protocol), "x")["x"]
    if name == "empty" and protocol < 3:  # no bytes are what `bytes` returns there, which is not called
        assert found == {}
        return
    assert (found.dtype, found.tolist()) == (VALUES[name].dtype, VALUES[name].tolist())
    assert found.shape == np.shape(VALUES[name])


def test_what_is_no_number_is_named_by_its_kind() -> None:
    """However long its text would be."""
    told = {"long": "x" * 1000, "pair": (1, (2, 3)), "huge": 10**5000, "plain": 0.5, "array": np.float64(2.5)}
    found = PickledObject(pickle.dumps(argparse.Namespace(**told), 4), "x")
    assert [found.number(name) for name in told] == ["a str", "a tuple", "a int", "0.5", "2.5"]
    assert found.number("none of that name") == "None"


TWICE = b"2\x86" * 45
"""Has what is on the stack twice in a tuple, and that twice in another, without end."""

ENDLESS = {
    "a tuple": b"K\x01" + TWICE,
    "a key": b"}K\x01" + TWICE + b"Ns",
    "what an object is made of": b"cx\ny\n" + b"K\x01" + TWICE + b"\x85R",
    "the state of an object": b"cx\ny\n)R" + b"K\x01" + TWICE + b"b",
    "the number of a dtype": b"cnumpy\ndtype\nK\x01" + TWICE + b"\x89\x88\x87R",
    "lists": b"]q\x00"
    + b"]q\x01(h\x00h\x00e".replace(b"q\x01", b"")
    + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(2, 45)),
    "a list in itself": b"]q\x00h\x00a",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_repeats_its_parts_without_end_is_refused(name: str) -> None:
    """Whoever compared, hashed or showed it would go through them all, and no signal ends that."""
    with pytest.raises(pickle.UnpicklingError, match=r"repeats its parts without end|asks for more"):
        load_objects(b"\x80\x04" + ENDLESS[name] + b".")


def test_an_object_may_stand_in_many_places() -> None:
    """Also one that has itself among its attributes, and one that a thousand others have."""
    shared = argparse.Namespace(values=list(range(1000)))
    shared.own = shared
    found = load_objects(pickle.dumps([argparse.Namespace(shared=shared, same=shared.values) for _ in range(3000)]))
    assert len({id(each.attributes["shared"]) for each in found}) == 1
