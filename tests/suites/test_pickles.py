"""Hostile pickles of the kinds that picklescan and fickling look for: none runs, whichever file it is in."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fickling.fickle
import numpy as np
import pytest
from fickling.fickle import Pickled
from picklescan import scanner

import keepfast
from keepfast.formats.checkpoints.pickle import PickleStore
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.pickles.machine import safe_load
from keepfast.tree import Unread
from tests.hostile.making import tensor, text


def names() -> Iterator[tuple[str, str]]:
    """Yield all that the two scanners call unsafe; of a module that is unsafe as a whole, a few names."""
    for module, unsafe in scanner._unsafe_globals.items():
        yield from ((module, name) for name in sorted(unsafe if unsafe != "*" else ("run", "system", "a.b")))
    for module in sorted(fickling.fickle.UNSAFE_IMPORTS):
        yield module, "run"


def by_global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(S'touch ran'\ntR."


def by_stack(module: str, name: str) -> bytes:
    return b"\x80\x04" + short(module) + short(name) + b"\x93" + short("touch ran") + b"\x85R."


def by_instance(module: str, name: str) -> bytes:
    return b"(S'touch ran'\n" + f"i{module}\n{name}\n".encode() + b"."


def by_object(module: str, name: str) -> bytes:
    return b"(" + f"c{module}\n{name}\n".encode() + b"S'touch ran'\no."


def by_new(module: str, name: str) -> bytes:
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"(U\ttouch rant\x81."


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


WAYS: dict[str, Callable[[str, str], bytes]] = {
    "GLOBAL": by_global,
    "STACK_GLOBAL": by_stack,
    "INST": by_instance,
    "OBJ": by_object,
    "NEWOBJ": by_new,
}


def archive(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", bytes(4))
        file.writestr("archive/version", "3\n")
    return path


def beside_weights(hostile: bytes) -> bytes:
    """Return a pickle of a dictionary with a tensor, and a hostile pickle's value beside it."""
    body = hostile[2:-1] if hostile[:1] == b"\x80" else hostile[:-1]
    return b"\x80\x02}(" + text("w") + tensor((1,), (1,)) + text("x") + body + b"u."


@pytest.fixture
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where a hostile pickle has left its trace, or something was imported for it."""
    before = set(sys.modules)
    yield
    assert not Path("ran").exists()
    assert {name for name in set(sys.modules) - before if name.partition(".")[0] in UNSAFE} == set()


UNSAFE = {module.partition(".")[0] for module, _ in names()} - set(sys.modules)


@pytest.mark.usefixtures("nothing_ran")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("module", "name"), sorted(set(names())))
def test_what_scanners_call_unsafe_is_not_run(module: str, name: str, way: str, tmp_path: Path) -> None:
    """In a `.pickle` it is refused; in a `.pt`, alone it is refused, and beside weights refused or left unread."""
    hostile = WAYS[way](module, name)
    (tmp_path / "x.pickle").write_bytes(hostile)
    with pytest.raises(keepfast.KeepfastError):
        PickleStore().load(tmp_path / "x.pickle")
    with pytest.raises(keepfast.KeepfastError):
        PtStore().load(archive(tmp_path / "alone.pt", hostile))
    try:
        state = PtStore().load(archive(tmp_path / "beside.pt", beside_weights(hostile))).state
    except keepfast.KeepfastError:
        return
    assert (state["w"].tolist(), type(state["x"])) == ([0.0], Unread)


def benign() -> bytes:
    return pickle.dumps({"policy": {"w": [1.0, 2.0]}}, 2)


def by_fickling(change: Callable[[Any], None]) -> bytes:
    made = Pickled.load(benign())
    change(made)
    return bytes(made.dumps())


FUNCTION = "def run(value):\n    open('ran', 'w')\n    return value"
INJECTED: dict[str, Callable[[], bytes]] = {
    "insert_python_exec": lambda: by_fickling(lambda made: made.insert_python_exec("open('ran', 'w')")),
    "insert_python_exec first": lambda: by_fickling(lambda made: made.insert_python_exec("open('ran', 'w')", True)),
    "insert_python_eval": lambda: by_fickling(lambda made: made.insert_python_eval("open('ran', 'w')")),
    "insert_python": lambda: by_fickling(lambda made: made.insert_python("touch ran", module="os", attr="system")),
    "insert_function_call": lambda: by_fickling(
        lambda made: made.insert_function_call_on_unpickled_object(
            "def run(value):\n    open('ran', 'w')\n    return value"
        )
    ),
    "a second pickle": lambda: benign() + by_global("os", "system"),
    "a second pickle of data": lambda: benign() + benign(),
    "two protocols": lambda: b"\x80\x02" + by_global("os", "system")[:-1] + b"0" + benign(),
    "code that is popped": lambda: by_global("os", "system")[:-1] + b"0" + benign()[2:],
    "code that is kept in the memo": lambda: by_global("os", "system")[:-1] + b"q\x000" + benign()[2:],
    "a name by parts": lambda: b"\x80\x04" + short("os") + short("path.os.system") + b"\x93" + short("ls") + b"\x85R.",
    "a name that is joined": lambda: b"c__builtin__\ngetattr\n(cos\npath\nS'system'\ntR(S'touch ran'\ntR.",
    "a copyreg extension": lambda: b"\x80\x02\x82\x01.",
    "a persistent name": lambda: b"Pos.system\n.",
    "an expansion": lambda: b"\x80\x02]" + b"".join(b"2\x86" for _ in range(64)) + b".",
    "a length without content": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "no pickle": lambda: b"\x89PNG\r\n\x1a\n",
    "an unknown instruction after code": lambda: by_global("os", "system")[:-1] + b"\xff.",
}


@pytest.mark.usefixtures("nothing_ran")
@pytest.mark.parametrize("kind", INJECTED)
def test_what_was_put_into_a_pickle_is_not_run(kind: str, tmp_path: Path) -> None:
    """By fickling's own hand, or in the ways that its checks look for."""
    content = INJECTED[kind]()
    (tmp_path / "x.pickle").write_bytes(content)
    with pytest.raises(keepfast.KeepfastError):
        PickleStore().load(tmp_path / "x.pickle")
    with pytest.raises(keepfast.KeepfastError):
        PtStore().load(archive(tmp_path / "x.pt", content))


def test_a_pickle_without_a_fault_is_read() -> None:
    """So that the cases above are refused for what was put in."""
    assert safe_load(io.BytesIO(benign()), {}) == {"policy": {"w": [1.0, 2.0]}}


@pytest.mark.usefixtures("nothing_ran")
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_objects_of_numpy_are_not_unpickled(kind: str, tmp_path: Path) -> None:
    """Picklescan looks into arrays too; a memory is of numbers."""
    if kind == "npy":
        pytest.skip("the product reads no single array of NumPy")
    np.savez(tmp_path / "x.npz", x=np.array([[print]], object))
    with pytest.raises(keepfast.KeepfastError):
        keepfast.read_memory(tmp_path / "x.npz")
