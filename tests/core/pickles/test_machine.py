"""The machine for pickles gives what Python's unpickler gives; what one asks for is bounded by its size."""

from __future__ import annotations

import codecs
import contextlib
import io
import pickle
import random
import struct
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from keepfast.formats.checkpoints.pt import PtStore
from keepfast.pickles.machine import CodeRefused, safe_load
from tests.hostile import read_all, refused
from tests.hostile.attacks import ATTACKS, memo
from tests.hostile.making import archive, text

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def tree(chosen: random.Random, depth: int = 4) -> Any:
    """Return a value of containers and leaves, none of them an array."""
    leaves = [
        lambda: chosen.choice([None, True, False, 0, 255, 256, 65_536, -1, 2**31, -(2**63), 2**90, -(2**200)]),
        lambda: chosen.choice([0.0, -0.0, 1.5, float("inf"), 1e-300]),
        lambda: chosen.choice(["", "a", "Größe 🎯", "x" * 300, 'quote " and \\ and \n']),
        lambda: complex(chosen.random(), -1),
    ]
    containers = [
        lambda: [tree(chosen, depth - 1) for _ in range(chosen.randrange(4))],
        lambda: tuple(tree(chosen, depth - 1) for _ in range(chosen.randrange(5))),
        lambda: {chosen.choice(["a", "b", 1, 2.5, (1, ("x", 2)), None]): tree(chosen, depth - 1) for _ in range(3)},
        lambda: OrderedDict((f"k{index}", tree(chosen, depth - 1)) for index in range(chosen.randrange(3))),
        lambda: {chosen.choice(["a", 1, 2.5, (1, "x"), True]) for _ in range(3)},
        lambda: [(shared := [tree(chosen, depth - 1)]), shared, (shared, shared)],
    ]
    made: Any = chosen.choice(leaves if depth == 0 else [*leaves, *containers])()
    return made


def spelled(value: Any) -> str:
    """Return a value's text, types and order included, but for the members of a set, which have none."""
    if isinstance(value, set):
        return f"set {sorted(map(repr, value))}"
    if isinstance(value, dict):
        return f"{type(value)} {[(spelled(key), spelled(child)) for key, child in value.items()]}"
    if isinstance(value, list | tuple):
        return f"{type(value)} {[spelled(child) for child in value]}"
    return repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_gives_what_pythons_unpickler_gives(protocol: int) -> None:
    """In every protocol, for containers and leaves of every kind, what is shared is shared again."""
    admitted = {"builtins.set": set, "builtins.complex": complex, "collections.OrderedDict": OrderedDict}
    for seed in range(200):
        value = [tree(random.Random(seed))]
        found = safe_load(io.BytesIO(pickle.dumps(value, protocol)), admitted)
        assert (found, spelled(found)) == (value, spelled(value)), seed
    shared = [1]
    found = safe_load(io.BytesIO(pickle.dumps([shared, shared], protocol)), {})
    assert found[0] is found[1]


@pytest.mark.parametrize("protocol", PROTOCOLS[3:])
def test_bytes_are_read(protocol: int) -> None:
    """Short and long ones, and those that can be changed."""
    value = [b"", b"a", b"b" * 300, bytes(range(256)) * 300]
    assert safe_load(io.BytesIO(pickle.dumps(value, protocol)), {}) == value
    assert safe_load(io.BytesIO(pickle.dumps(bytearray(b"abc"), 5)), {}) == b"abc"


def test_no_cut_and_no_changed_byte_does_more_than_fail() -> None:
    """Whatever the instructions, the answer is a value or an error of unpickling."""
    value = {"a": [1, 2.5, (None, "x", True)], "b": {"c": b"bytes" * 20}, 3: {1, 2}}
    content = pickle.dumps(value, 4)
    chosen = random.Random(7)
    for _ in range(4000):
        changed = bytearray(content[: chosen.randrange(1, len(content) + 1)])
        for _ in range(chosen.randrange(4)):
            changed[chosen.randrange(len(changed))] = chosen.randrange(256)
        try:
            safe_load(io.BytesIO(changed), {})
        except (pickle.UnpicklingError, CodeRefused, ValueError, OverflowError, TypeError):
            continue


@pytest.mark.parametrize(
    "instruction", ["OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"]
)
def test_instances_and_registries_have_no_instruction(instruction: str) -> None:
    """What makes an instance of a class, or takes something from elsewhere, is not run."""
    content = b"\x80\x02)" + getattr(pickle, instruction) + b"a\nb\n."
    with pytest.raises(pickle.UnpicklingError, match="which is not run"):
        safe_load(io.BytesIO(content), {"a.b": dict})


def test_a_name_is_the_whole_of_it() -> None:
    """One that begins as a name of the table is another."""
    with pytest.raises(CodeRefused, match=r"torch\.Sizeless"):
        safe_load(io.BytesIO(b"ctorch\nSizeless\n."), {"torch.Size": tuple})


def test_parts_that_stand_in_several_places_are_counted() -> None:
    """Each time they stand there, as whoever goes through them sees them: four million here, of forty bytes."""
    with pytest.raises(pickle.UnpicklingError, match="repeats its parts without end"):
        safe_load(io.BytesIO(b"K\1" + b"2\x86" * 21 + b"."), {})


def test_parts_of_a_key_are_counted_as_those_of_a_value() -> None:
    """Each time they stand there, though a dictionary's keys are none of its values."""
    with pytest.raises(pickle.UnpicklingError, match="repeats its parts without end"):
        safe_load(io.BytesIO(b"}K\1" + b"2\x86" * 19 + b"Ns."), {})


REPEATED = b"K\1" + b"2\x86" * 22  # a tuple of eight million parts, in fifty bytes
"""More than may be hashed, and few enough for a machine that hashed them all the same to come to an end."""

WORK = {
    "the hash of a key": b"}" + REPEATED + b"Ns.",
    "the hash of a member": b"cbuiltins\nset\n((" + REPEATED + b"ltR.",
    "a long argument, often": text("x" * (1 << 16)) + b"q\0(" + b"ccollections\nOrderedDict\n(h\0tR" * 100 + b"l.",
}


@pytest.mark.parametrize("work", WORK)
def test_what_a_pickle_asks_for_is_charged_before_it_is_done(work: str) -> None:
    """By the size of what is hashed or given to a function, each time that it is."""
    admitted = {"builtins.set": set, "collections.OrderedDict": len}
    with pytest.raises(pickle.UnpicklingError, match="asks for more than one of its size may"):
        safe_load(io.BytesIO(WORK[work]), admitted)


@pytest.mark.timing
def test_a_hundred_thousand_entries_take_no_time(tmp_path: Path) -> None:
    """Of a `.pt`: at most ten seconds of a processor; a quiet machine needs less than one."""
    value = {f"layer.{index}.weight": index / 7 for index in range(100_000)}
    path, began = archive(tmp_path / "x.pt", pickle.dumps(value, 2)), time.process_time()
    assert PtStore().load(path).state == value
    assert time.process_time() - began < 10


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_pickles_made_to_hurt_are_refused_within_their_limits(tmp_path: Path) -> None:
    """No stack ends, no memory fills and no time passes, whatever of the machine a pickle misuses."""
    files = [
        ("checkpoint", archive(tmp_path / f"{name.replace(' ', '_')}.pt", b"\x80\x02" + attack))
        for name, attack in ATTACKS.items()
    ]
    assert refused(read_all(files)) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_number_in_the_memo_is_a_name_alone(tmp_path: Path) -> None:
    """However large it is, it takes the room of one."""
    path = archive(tmp_path / "x.pt", b"\x80\x02K\7" + memo(2**32 - 1) + b"0j" + b"\xff" * 4 + b".")
    assert read_all([("checkpoint", path)]) == {path: "value"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.needs("msgpack")
def test_the_older_layout_is_read_by_the_same_machine(tmp_path: Path) -> None:
    """Where no name at all is admitted."""
    names = ("deep key", "deep member", "doubled key", "colliding keys", "doubled value", "length")
    for name in names:
        (tmp_path / f"{name}.pickle").write_bytes(b"\x80\x04" + ATTACKS[name])
    found = read_all([("checkpoint", tmp_path / f"{name}.pickle") for name in names])
    assert refused(found) == {}


@pytest.mark.parametrize("more", [b"\0", b".", pickle.dumps({"a": 1}), b"cos\nsystem\n(S'true'\ntR.", bytes(4096)])
@pytest.mark.parametrize("protocol", range(6))
def test_nothing_stands_behind_a_pickle(more: bytes, protocol: int) -> None:
    """A second pickle behind the first, which Python's reader leaves for the next call, is refused and not run."""
    first = pickle.dumps({"policy": [1, "two", None]}, protocol)
    assert safe_load(io.BytesIO(first), {}) == {"policy": [1, "two", None]}
    with pytest.raises(pickle.UnpicklingError, match="bytes behind its end"):
        safe_load(io.BytesIO(first + more), {})


WRONG_FOR_PYTHON = {
    "a protocol of tomorrow": b"\x80\x06N.",
    "a frame longer than the pickle": b"\x80\x04\x95" + struct.pack("<Q", 3) + b"N.",
    "a frame that ends within a text": b"\x80\x04\x95" + struct.pack("<Q", 3) + b"\x8c\x08abcdefgh.",
    "a frame in a frame": b"\x80\x04\x95" + struct.pack("<Q", 11) + b"\x95" + struct.pack("<Q", 1) + b"N.",
    "a part below zero": b"K\1p-1\n.",
    "a part that is asked for before it is there": b"g0\n.",
    "an underscore in a number": b"F1_0.5\n.",
    "a space before a number": b"F 1.5\n.",
    "a length below zero": b"T\xff\xff\xff\xffabc.",
    "no instruction": b"\xff.",
    "an odd number of keys and values": b"}(K\1u.",
    "a mark where a value belongs": b"](a.",
    "no stop": b"K\1",
    "nothing": b"",
    "nothing to return": b".",
    "text that is no UTF-8": b"\x8c\1\xff.",
    "a text without its quotes": b"Sabc\n.",
}


@pytest.mark.parametrize("name", WRONG_FOR_PYTHON)
def test_what_pythons_unpickler_refuses_is_refused(name: str) -> None:
    """Nothing is read that the reference does not read, also where it is only the way of writing that is wrong."""
    with contextlib.suppress(*PYTHONS):
        pickle.load(io.BytesIO(WRONG_FOR_PYTHON[name]))
        assert name == "a frame in a frame"  # which only the reader in Python itself refuses
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        safe_load(io.BytesIO(WRONG_FOR_PYTHON[name]), {})


PYTHONS = (pickle.UnpicklingError, ValueError, EOFError, IndexError, KeyError)


def test_no_changed_byte_is_read_that_pythons_unpickler_refuses() -> None:
    """Of 6000 pickles with a changed byte or two, what is read here is what Python's unpickler reads."""
    value = {"a": [1, 2.5, (None, "x", True), -5, 2**70, 70_000], "b": {"c": b"bytes" * 20}, "u": "Größe", 3: [[]]}
    chosen, read = random.Random(3), 0
    for _ in range(6000):
        content = bytearray(pickle.dumps(value, chosen.randrange(6)))
        for _ in range(chosen.randrange(1, 3)):
            content[chosen.randrange(len(content))] = chosen.randrange(256)
        try:
            found = safe_load(io.BytesIO(content), {"_codecs.encode": codecs.encode})
        except (pickle.UnpicklingError, CodeRefused, ValueError, OverflowError, TypeError, LookupError):
            continue
        with contextlib.suppress(MemoryError):  # which it has where a part has a large number
            assert spelled(found) == spelled(pickle.load(io.BytesIO(content))), bytes(content)
        read += 1
    assert read > 1000


@pytest.mark.parametrize("reference", [b"K\1Q.", b"\x80\4NQ.", b"Pa\n."])
def test_data_outside_the_pickle_is_refused(reference: bytes) -> None:
    """Where nobody said what it is, in each way that a pickle has to refer to it."""
    with pytest.raises(pickle.UnpicklingError, match="refers to data outside it"):
        safe_load(io.BytesIO(reference), {})
