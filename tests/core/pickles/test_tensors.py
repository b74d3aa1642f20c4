"""Tensors that are made at once are those that the machine makes, one instruction after the other."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections import Counter, OrderedDict
from typing import Any

import pytest

from keepfast.formats.files import torch_pickle
from keepfast.formats.files.stored_tensor import StoredTensor
from keepfast.formats.files.torch_pickle import TreePickler
from keepfast.pickles import machine as machines
from keepfast.pickles import tensors
from keepfast.pickles.budget import StandIn

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

pytestmark = pytest.mark.needs("torch")

PROTOCOLS = (2, 3, 4, 5)
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex64", "uint16")


def state(count: int = 30) -> dict[str, Any]:
    """Return tensors of many kinds, most of them alike but for their storage."""
    made: dict[str, Any] = {f"Größe.{index}": torch.zeros(3) for index in range(count)}
    made |= {f"{name}.{index}": torch.zeros(2, 3, dtype=getattr(torch, name)) for name in DTYPES for index in range(3)}
    made |= {f"scalar.{index}": torch.tensor(1.5) for index in range(4)}
    made |= {f"deep.{index}": torch.zeros(1, 2, 3, 4, 5) for index in range(3)}
    base = torch.arange(600.0).reshape(20, 30)
    made |= {f"shared.{index}": base[index : index + 2].T for index in range(4)}
    made |= {f"large.{index}": torch.zeros(70_000, dtype=torch.int8)[::7] for index in range(3)}
    made |= {f"parameter.{index}": torch.nn.Parameter(torch.zeros(4)) for index in range(4)}
    made |= {f"asks.{index}": torch.zeros(4, requires_grad=True) for index in range(4)}
    return made | {"again": made["scalar.1"], "hooks": OrderedDict(a=1)}


def pickled(value: Any, protocol: int) -> bytes:
    """Return the pickle of what PyTorch saves."""
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol)
    with zipfile.ZipFile(file) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def ours(count: int = 30) -> bytes:
    """Return the pickle of what Keepfast saves."""
    arrays = {f"layer.{index}.weight": np.full(3, index, np.float32) for index in range(count)}
    return TreePickler().dumps(arrays | {f"bias.{index}": np.full((), index) for index in range(5)})


def spelled(value: Any, known: dict[int, int]) -> str:
    """Return a value's text, types and order included, and which of its parts are one object."""
    if isinstance(value, dict | list | StoredTensor):
        if id(value) in known:
            return f"the {known[id(value)]}."
        known[id(value)] = len(known)
    if isinstance(value, dict):
        pairs = [(spelled(key, known), spelled(child, known)) for key, child in value.items()]
        return f"{type(value)} {pairs} {getattr(value, '_metadata', None)}"
    if isinstance(value, list | tuple):
        return f"{type(value)} {[spelled(child, known) for child in value]}"
    return f"the function {value._function}" if isinstance(value, StandIn) else repr(value)


def outcome(content: bytes, *, at_once: bool) -> tuple[Any, ...]:
    """Return what comes of a pickle: the value, what is kept and what is left to ask for, or how it is refused."""
    again = torch_pickle.AGAIN if at_once else None
    machine = machines._Machine(
        content, torch_pickle._ADMITTED, torch_pickle._stored, torch_pickle._is_harmless, again=again
    )
    try:
        value = machine.checked()
    except Exception as error:  # noqa: BLE001  (a changed pickle may raise anything; it is compared)
        return type(error), str(error), machine.budget.left, type(error.__cause__)
    known: dict[int, int] = {}
    machine.memo.make_all()
    kept = [(at, spelled(part, known)) for at, part in sorted(machine.memo.items())]
    return spelled(value, known), kept, machine.budget.left


def same(content: bytes) -> bool:
    """Say whether what is made at once differs in nothing."""
    return outcome(content, at_once=True) == outcome(content, at_once=False)


def at_once(content: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Return how many tensors of a pickle were made at once, how many with their keys, and how many learned before."""
    counted: dict[str, int] = Counter()
    make, learn = tensors._made, tensors._learn

    def making(*given: Any) -> Any:
        made = make(*given)
        counted["made"] += made is not None
        counted["entries"] += made is not None and len(given) > 5
        return made

    def learning(*given: Any) -> None:
        counted["learned"] += 1
        learn(*given)

    with monkeypatch.context() as patched:
        patched.setattr(tensors, "_made", making)
        patched.setattr(tensors, "_learn", learning)
        outcome(content, at_once=True)
    return counted["made"], counted["entries"], counted["learned"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_pytorch_writes_is_made_alike(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each dtype, layout and kind, in each protocol, and most of it at once."""
    content = pickled(state(1000), protocol)
    assert same(content)
    made, entries, learned = at_once(content, monkeypatch)
    assert (made > 850, entries > (800 if protocol < 4 else -1), learned < 60) == (True, True, True)


def test_what_keepfast_writes_is_made_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which keeps nothing of a tensor to refer to."""
    assert same(ours(1000))
    made, entries, learned = at_once(ours(1000), monkeypatch)
    assert (made > 990, entries > 980, learned < 10) == (True, True, True), (made, entries, learned)


@pytest.mark.parametrize("protocol", [2, 4])
def test_more_parts_than_two_bytes_count_are_kept_alike(protocol: int) -> None:
    """Of ten thousand tensors there are eighty thousand, and a later tensor may be an early one."""
    made = {f"layer{index}.weight": torch.zeros(3) for index in range(10_000)}
    assert same(pickled(made | {"first": made["layer300.weight"], "last": made["layer9999.weight"]}, protocol))


def changed(content: bytes, chosen: random.Random) -> bytes:
    """Return a pickle with a few bytes, or a stretch of it, changed; near tensors that are made at once, mostly."""
    made = bytearray(content)
    for _ in range(chosen.randrange(1, 4)):
        at = chosen.randrange(len(made))
        way = chosen.randrange(6)
        if way == 0:
            made[at] = chosen.randrange(256)
        elif way == 1:
            made[at] = chosen.choice(b"(h\x94jtQR)\x85\x86\x87\x88\x89NK0q2")
        elif way == 2:
            del made[at : at + chosen.randrange(1, 6)]
        elif way == 3:
            other = chosen.randrange(len(made))
            made[at:at] = made[other : other + chosen.randrange(1, 120)]
        elif (place := made.find(chosen.choice((b"r", b"j")), at)) >= 0:  # where a part is kept, or taken from
            made[place + 1 : place + 5] = struct.pack("<I", chosen.randrange(400))
        elif (place := made.find(b"h", at)) >= 0:
            made[place + 1] = chosen.randrange(256)
    return bytes(made)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, None])
def test_what_is_changed_is_made_or_refused_alike(protocol: int | None) -> None:
    """Whatever is changed in it, value and refusal, what is kept and what is charged, are those of the machine."""
    content = ours() if protocol is None else pickled(state(), protocol)
    chosen = random.Random(protocol)
    for number in range(400):
        assert same(changed(content, chosen)), (protocol, number)


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\nq\0ctorch\nFloatStorage\nq\1X\7\0\0\0storageq\2X\3\0\0\0cpuq\3"
"""The function, the class of the storage, and two texts, kept as 0 to 3; the hooks' class is 4."""

BEGINNING = b"\x80\2" + REBUILD + b"ccollections\nOrderedDict\nq\4]"
TENSOR = b"h\0((h\2h\1X\1\0\0\0%dh\3K\3tQK\0K\3\x85K\1\x85\x89h\4)RtRa"
LONGER = TENSOR.replace(b"X\1", b"X\3").replace(b"%d", b"%b")
ENTRY = b"X\1\0\0\0k" + TENSOR.removesuffix(b"a")
KEPT = b"h\0((h\2h\1X\1\0\0\0%dr%bh\3K\3tr%bQK\0K\3\x85r%bK\1\x85r%b\x89h\4)Rr%btr%bRr%ba"  # of seven parts


def kept(number: int, *at: int) -> bytes:
    """Return a tensor whose parts are kept under the numbers."""
    return KEPT % (number, *(struct.pack("<I", each) for each in at))


SPELLED = {
    "twice": TENSOR % 1 + TENSOR % 2,
    "another class of the same number": TENSOR % 1 + b"ctorch\nLongStorage\nq\0010" + TENSOR % 2,
    "another function of the same number": TENSOR % 1 + b"ctorch._utils\n_rebuild_tensor_v3\nq\0000" + TENSOR % 2,
    "a place that is no text": TENSOR % 1 + b"]q\0030" + TENSOR % 2,
    "a place that grows": b"]q\0030" + TENSOR % 1 + b"h\3(K\1K\1K\1e0" + TENSOR % 2,
    "entries": TENSOR % 1 + b"(" + ENTRY % 2 + ENTRY % 3 + ENTRY % 4 + b"e",
    "entries behind a place that is no text": TENSOR % 1 + b"]q\0030(" + ENTRY % 2 + ENTRY % 3 + ENTRY % 4 + b"e",
    "entries behind another function": TENSOR % 1 + b"cbuiltins\nset\nq\0040(" + ENTRY % 2 + ENTRY % 3 + b"e",
    "an entry whose key is half a character": TENSOR % 1 + b"(" + ENTRY % 2 + (ENTRY % 3).replace(b"k", b"\xed") + b"e",
    "entries that are cut": TENSOR % 1 + b"(" + ENTRY % 2 + (ENTRY % 3)[:-9],
    "hooks that are no function": TENSOR % 1 + b"Nq\0040" + TENSOR % 2,
    "hooks of another function": TENSOR % 1 + b"cbuiltins\nset\nq\0040" + TENSOR % 2,
    "a part that is kept over the hooks": kept(1, *range(300, 307)) + kept(2, 4, *range(400, 406)) + TENSOR % 3,
    "a part that is kept over another": kept(1, *range(300, 307)) + kept(2, *range(303, 310)) + b"j/\1\0\0a",
    "two parts of one number": kept(1, *range(300, 307)) + kept(2, 310, 311, 312, 313, 310, 311, 311) + b"j6\1\0\0a",
    "hooks that are filled afterwards": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + b"j\x94\1\0\0K\1K\2s0",
    "parts that are asked for": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + b"j\x91\1\0\0aj\x95\1\0\0a",
    "a part that was kept over the place": kept(1, 3, *range(300, 306))
    + b"X\3\0\0\0cpuq\0030"
    + kept(2, *range(400, 407)),
    "parts with a gap": kept(1, *range(300, 307)) + kept(2, *range(400, 406), 407) + b"j\x96\1\0\0a",
    "parts before others": kept(1, *range(500, 507)) + kept(2, *range(400, 407)) + b"j\x94\1\0\0a",
    "parts that fall among others": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + kept(3, *range(404, 411)),
    "another part kept over one": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + b"Nr\x92\1\0\0a"
    + b"j\x92\1\0\0aj\x91\1\0\0aj\x92\1\0\0a",
    "another part kept behind": kept(1, *range(300, 307)) + b"Nr\x93\1\0\0a" + kept(2, *range(400, 407)) + TENSOR % 3,
    "what is kept behind all": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + b"N\x94aj\x91\1\0\0a",
    "what was never kept": kept(1, *range(300, 307)) + kept(2, *range(400, 407)) + b"j\xf4\1\0\0a",
    "a key of another length": TENSOR % 1 + TENSOR.replace(b"X\1", b"X\2") % 2,
    "a key that is longer than its length": TENSOR % 1 + TENSOR % 12,
    "instructions of digits behind a key": TENSOR % 120 + TENSOR % 120,
    "a long key": TENSOR % 1 + TENSOR.replace(b"X\1\0\0\0", b"X\x0f\0\0\0") % 123456789012345,
    "a key of half a character": LONGER % b"100" + LONGER % b"101" + LONGER % b"\xed\xa0\x80" + LONGER % b"abc",
    "the one and the other by turns": (TENSOR % 1 + kept(2, *range(300, 307)) + LONGER % b"103") * 2 + TENSOR % 4,
    "what is cut": (TENSOR % 1 + TENSOR % 2)[:-9],
    "two numbers where one belongs": TENSOR % 1 + TENSOR.replace(b"QK\0K\3\x85", b"QK\0K\7K\3\x85") % 2,
    "a number too few": TENSOR % 1 + TENSOR.replace(b"K\3\x85", b"K\3\x86") % 2,
    "no function": TENSOR[2:] % 1,
    "what is not kept": (TENSOR % 1).replace(b"h\3", b"h\7") * 2,
    "another dtype": (TENSOR % 1).replace(b")Rt", b")Rh\3t") * 2,
    "a frame that ends in it": TENSOR % 1 + b"\x95" + struct.pack("<Q", 30) + TENSOR % 2,
    "a frame that ends with it": TENSOR % 1 + b"\x95" + struct.pack("<Q", len(TENSOR % 2) - 1) + TENSOR % 2,
    "more than may be asked for": b"X\0\0\2\0" + b"c" * 0x20000 + b"q\0030" + (TENSOR % 1) * 99,
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLED)
def test_what_is_spelled_in_another_way_is_made_or_refused_alike(name: str) -> None:
    """Where what is named by a number is another thing by now, and where something else is out of the ordinary."""
    assert same(BEGINNING + SPELLED[name] + b".")
