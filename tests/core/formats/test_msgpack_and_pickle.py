"""The `.msgpack` and `.pickle` formats against Flax itself, as reader and as writer."""

from __future__ import annotations

import contextlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")

from keepfast.errors import CorruptCheckpoint, KeepfastWarning, NewerFormat, Unreadable
from keepfast.formats.checkpoints.msgpack import MsgpackStore
from keepfast.formats.checkpoints.pickle import PickleStore
from keepfast.formats.files import flax_bytes
from keepfast.formats.files.trailer import write_with_trailer
from keepfast.interfaces.checkpoint_store import SINGLE, Checkpoint
from keepfast.pickles.machine import safe_load
from keepfast.testing.checkpoint_store import assert_same, random_array
from keepfast.tree import Unread

pytestmark = pytest.mark.needs("msgpack", "flax")

STATE = {
    "policy": {"params": {"Dense_0": {"kernel": random_array(np.dtype(np.float32), (3, 4)), "bias": np.zeros(4)}}},
    "optimizer": ({"count": np.array(3), "mu": [np.ones(2), None]}, (), 0.5, True, "adam", 1 + 2j, b"\0\xff"),
}
FLAX_STATE = {
    "policy": STATE["policy"],
    "optimizer": {
        "0": {"count": np.array(3), "mu": {"0": np.ones(2), "1": None}},
        "1": {},
        "2": 0.5,
        "3": True,
        "4": "adam",
        "5": 1 + 2j,
        "6": b"\0\xff",
    },
}


@pytest.fixture
def flax() -> Any:
    return pytest.importorskip("flax.serialization")


@pytest.fixture
def msgpack_path(tmp_path: Path) -> Path:
    return tmp_path / "agent_1000.msgpack"


@pytest.fixture
def pickle_path(tmp_path: Path) -> Path:
    return tmp_path / "agent_1000.pickle"


def test_flax_restores_a_msgpack_checkpoint(flax: Any, msgpack_path: Path) -> None:
    """`flax.serialization.msgpack_restore` gives the modules as Flax's state dicts, and no other key."""
    MsgpackStore().save(Checkpoint(STATE, {"timestep": 3}), msgpack_path)
    restored = flax.msgpack_restore(msgpack_path.read_bytes())
    assert list(restored) == ["policy", "optimizer"]
    assert_same(restored, FLAX_STATE)


def test_flax_restores_every_dtype(flax: Any, msgpack_path: Path) -> None:
    """Flax gives every dtype back bit for bit, the machine-learning ones too."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    names = ("bool", "int8", "uint64", "float16", "complex64", "bfloat16", "float8_e4m3fn", "int4")
    dtypes = {name: np.dtype(getattr(ml_dtypes, name, None) or name) for name in names}
    state = {name: random_array(np.dtype(np.uint8), (8,)).astype(dtype) for name, dtype in dtypes.items()}
    MsgpackStore().save(Checkpoint(state), msgpack_path)
    restored = flax.msgpack_restore(msgpack_path.read_bytes())
    assert_same({name: np.asarray(restored[name]) for name in names}, state)


def test_a_train_state_restores_from_a_file_of_one_module(flax: Any, pickle_path: Path) -> None:
    """The bytes of a module in the older layout restore a TrainState with `flax.serialization.from_bytes`."""
    train_state, optax = pytest.importorskip("flax.training.train_state"), pytest.importorskip("optax")
    params = {"kernel": np.ones((2, 3), np.float32)}
    target = train_state.TrainState.create(apply_fn=lambda: None, params=params, tx=optax.adam(0.1))
    state = pytest.importorskip("jax").device_get(flax.to_state_dict(target.replace(step=7)))
    PickleStore().save(Checkpoint({"agent": state}), pickle_path)
    with pickle_path.open("rb") as file:
        restored = flax.from_bytes(target, pickle.load(file)["agent"])
    assert restored.step == 7
    assert restored.params["kernel"].tolist() == params["kernel"].tolist()


def test_a_plain_unpickler_reads_the_older_layout(flax: Any, pickle_path: Path) -> None:
    """`pickle.load` gives a dict of module name to Flax's bytes, exactly those that Flax itself would restore."""
    PickleStore().save(Checkpoint(STATE, {"timestep": 3}), pickle_path)
    with pickle_path.open("rb") as file:
        modules = pickle.load(file)
    assert {name: type(content) for name, content in modules.items()} == {"policy": bytes, "optimizer": bytes}
    assert_same({name: flax.msgpack_restore(content) for name, content in modules.items()}, FLAX_STATE)


def test_a_file_of_one_module_is_the_pickle_of_its_bytes(flax: Any, pickle_path: Path) -> None:
    """Stored separately, a module's file is a pickle of its bytes, as the older layout has it."""
    PickleStore().save(Checkpoint(STATE["policy"], {"module": "policy"}), pickle_path)
    with pickle_path.open("rb") as file:
        assert_same(flax.msgpack_restore(pickle.load(file)), STATE["policy"])
    assert_same(PickleStore().load(pickle_path).modules, {"policy": STATE["policy"]})


def test_bytes_of_flax_are_read(flax: Any, msgpack_path: Path) -> None:
    """What `flax.serialization.to_bytes` wrote comes back as its state dict, arrays writable."""
    jnp = pytest.importorskip("jax.numpy")
    tree = {"params": {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(2, jnp.bfloat16)}, "n": (1, 2.5), "z": 1j}
    msgpack_path.write_bytes(flax.to_bytes({**tree, "scalar": np.float32(2)}))
    loaded = MsgpackStore().load(msgpack_path)
    assert loaded.metadata == {}
    expected = {
        "params": {"w": np.asarray(tree["params"]["w"]), "b": np.asarray(tree["params"]["b"])},
        "n": {"0": 1, "1": 2.5},
        "z": 1j,
        "scalar": np.array(2, np.float32),
    }
    assert_same(dict(sorted(loaded.state.items())), dict(sorted(expected.items())))
    assert loaded.state["params"]["w"].flags.writeable


def test_a_pickle_of_bytes_of_flax_is_read(flax: Any, pickle_path: Path) -> None:
    """The older layout, written by `pickle` and Flax, is read: of a whole agent and of one module."""
    modules = {"policy": flax.to_bytes({"w": np.ones(2)}), "value": flax.to_bytes({"w": np.zeros(3)})}
    for protocol in (3, 4, 5):
        pickle_path.write_bytes(pickle.dumps(modules, protocol=protocol))
        expected = {"policy": {"w": np.ones(2)}, "value": {"w": np.zeros(3)}}
        assert_same(PickleStore().load(pickle_path).state, expected)
        pickle_path.write_bytes(pickle.dumps(modules["policy"], protocol=protocol))
        assert_same(PickleStore().load(pickle_path).state, expected["policy"])


@pytest.mark.parametrize("size", [0, 15, 16, 17, 100])
def test_large_arrays_are_chunked_as_flax_does(
    flax: Any, msgpack_path: Path, pickle_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Arrays above the largest chunk (2**30 bytes; here 64) are in pieces, which Flax and we put together."""
    monkeypatch.setattr(flax_bytes, "LARGEST_CHUNK", 64)
    state = {"before": np.ones(3), "large": {"x": random_array(np.dtype(np.float32), (size, 1))}, "after": np.ones(1)}
    MsgpackStore().save(Checkpoint(state), msgpack_path)
    assert msgpack_path.read_bytes().count(b"__msgpack_chunked_array__") == (size * 4 > 64)
    restored = flax.msgpack_restore(msgpack_path.read_bytes())
    assert_same({name: restored[name] for name in state}, state)
    assert_same(MsgpackStore().load(msgpack_path).state, state)
    PickleStore().save(Checkpoint(state), pickle_path)
    assert_same(PickleStore().load(pickle_path).state, state)


def test_chunked_arrays_of_flax_are_read(flax: Any, msgpack_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that Flax wrote in chunks come back whole."""
    monkeypatch.setattr(flax, "MAX_CHUNK_SIZE", 64)
    state = {"x": random_array(np.dtype(np.float32), (10, 10))}
    msgpack_path.write_bytes(flax.to_bytes(state))
    assert_same(MsgpackStore().load(msgpack_path).state, state)


def test_chunks_are_put_together_by_their_numbers(flax: Any, msgpack_path: Path) -> None:
    """In whichever order a file has them: a map has none."""
    values = random_array(np.dtype(np.float32), (12,))
    chunks = {str(number): values[number : number + 1] for number in (3, 10, 0, 11, 5, 2, 1, 4, 9, 6, 7, 8)}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"1": 4, "0": 3}, "chunks": chunks}
    msgpack_path.write_bytes(flax.msgpack_serialize({"x": chunked}))
    assert_same(MsgpackStore().load(msgpack_path).state, {"x": values.reshape(3, 4)})


class Malice:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Malice(), "builtins.exec"),
        ({"policy": np.ones(2)}, "numpy"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (Path("x"), "pathlib"),
        ({1, 2}, "builtins.set"),
    ],
    ids=["code", "array", "OrderedDict", "path", "set of protocol 2"],
)
def test_pickles_that_name_anything_are_refused(pickle_path: Path, value: Any, name: str) -> None:
    """The older layout admits dicts, strings, numbers and bytes; whatever else is named is refused by that name."""
    pickle_path.write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(CorruptCheckpoint, match=f"carries code, `{name}"):
        PickleStore().load(pickle_path)


def test_no_name_at_all_is_admitted(pickle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dicts, strings, numbers and bytes need none."""
    tables: list[Any] = []

    def noting(file: Any, admitted: Any, *rest: Any) -> Any:
        tables.append(dict(admitted))
        return safe_load(file, admitted, *rest)

    monkeypatch.setattr("keepfast.formats.checkpoints.pickle.safe_load", noting)
    pickle_path.write_bytes(pickle.dumps({"a": 1}))
    assert PickleStore().load(pickle_path).state == {"a": 1}
    assert tables == [{}]


def test_data_outside_the_file_is_refused(pickle_path: Path) -> None:
    """A pickle may say that a part of it lies elsewhere; the older layout has no elsewhere."""
    pickle_path.write_bytes(b"\x80\x02}X\x06\x00\x00\x00policyX\x01\x00\x00\x000Qs.")
    with pytest.raises(CorruptCheckpoint, match="refers to data outside it"):
        PickleStore().load(pickle_path)


def test_the_beginning_alone_is_no_older_file(pickle_path: Path) -> None:
    """Our file without its trailer is a whole pickle of the older layout, and still known to be truncated."""
    PickleStore().save(Checkpoint(STATE), pickle_path)
    content = pickle_path.read_bytes()
    pickle_path.write_bytes(content[: content.index(b'.{"payloads"') + 1])
    with pickle_path.open("rb") as file:
        assert list(pickle.load(file)) == ["policy", "optimizer"]
    with pytest.raises(CorruptCheckpoint, match="the ending is not what was written"):
        PickleStore().load(pickle_path)


def test_a_pickle_that_repeats_its_parts_without_end_is_refused(pickle_path: Path) -> None:
    """Forty lists, each twice in the next, take 200 bytes in a file and no time to refuse."""
    node: list[Any] = []
    for _ in range(40):
        node = [node, node]
    pickle_path.write_bytes(pickle.dumps({"policy": node}))
    with pytest.raises(CorruptCheckpoint, match="repeats its parts without end"):
        PickleStore().load(pickle_path)


@pytest.mark.parametrize("digit", range(16))
def test_a_trailer_that_begins_outside_the_file_is_damage(pickle_path: Path, digit: int) -> None:
    """Whichever digit of its position is not as written, the error is that of a damaged file."""
    PickleStore().save(Checkpoint(STATE), pickle_path)
    content = bytearray(pickle_path.read_bytes())
    place = content.rindex(b"keepfast 1 ") + len("keepfast 1 ") + digit
    content[place] = ord("7") if content[place] != ord("7") else ord("6")
    pickle_path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        PickleStore().load(pickle_path)


@pytest.mark.parametrize("content", [b"\xc7\x02\x01\x93\0", b"\x81\xa1a", b"\xc1"])
def test_messagepack_that_is_not_of_flax_is_refused(msgpack_path: Path, pickle_path: Path, content: bytes) -> None:
    """Malformed arrays and cut maps raise CorruptCheckpoint in both formats."""
    msgpack_path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="its content cannot be read"):
        MsgpackStore().load(msgpack_path)
    pickle_path.write_bytes(pickle.dumps({"policy": content}))
    with pytest.raises(CorruptCheckpoint, match="its content cannot be read"):
        PickleStore().load(pickle_path)


def test_what_is_beside_the_state_is_invisible_to_flax(flax: Any, tmp_path: Path) -> None:
    """A state of any kind is restored as it is, a TrainState from its own file too; without a state a key is there."""
    states = [
        {"a": 1},
        {"b": {"c": np.ones(2)}, "a": "x"},
        {"n" * 40_000: [], 3: 1.5},
        {str(key): key for key in range(70_000)},
    ]
    for state in states:
        for store, single in ((MsgpackStore(), {}), (PickleStore(), {"module": SINGLE})):
            path = tmp_path / f"x{store.extension}"
            store.save(Checkpoint(state, {"timestep": 3, **single}), path)
            restored = flax.msgpack_restore(path.read_bytes())
            assert list(restored) == list(map(str, state))
            theirs = flax.msgpack_restore(flax.msgpack_serialize(flax.to_state_dict(state)))
            assert_same(restored, {key: theirs[key] for key in restored})  # which sorts its keys
            found = store.load(path)
            assert (store.wrote(path), found.metadata["timestep"]) == (True, 3)
            assert_same(found.state, state)
    MsgpackStore().save(Checkpoint({}, {"timestep": 3}), path)
    assert list(flax.msgpack_restore(path.read_bytes())) == ["__keepfast__"]
    assert MsgpackStore().load(path).metadata == {"timestep": 3}


def test_a_train_state_is_restored_from_a_file_of_ours(flax: Any, tmp_path: Path) -> None:
    """Flax, which refuses a state with a field that it does not know, meets none."""
    train_state, optax = pytest.importorskip("flax.training.train_state"), pytest.importorskip("optax")
    params = {"kernel": np.ones((2, 3), np.float32)}
    target = train_state.TrainState.create(apply_fn=lambda: None, params=params, tx=optax.adam(0.1))
    state = pytest.importorskip("jax").device_get(flax.to_state_dict(target.replace(step=7)))
    MsgpackStore().save(Checkpoint(state, {"timestep": 1}), tmp_path / "x.msgpack")
    restored = flax.from_bytes(target, (tmp_path / "x.msgpack").read_bytes())
    assert (restored.step, restored.params["kernel"].tolist()) == (7, params["kernel"].tolist())


def test_a_file_of_the_layout_before_is_read(msgpack_path: Path) -> None:
    """Whose outer map ends with a key of ours, and its damage is noticed, whichever of its marks it is."""
    with msgpack_path.open("xb") as file:
        children = [(str(key), child) for key, child in STATE.items()]
        document: list[flax_bytes.Piece] = [flax_bytes.pack_map_header(len(children) + 1)]
        for key, child in children:
            document += [flax_bytes.pack(key), *flax_bytes.pieces(child, key)]
        introduce = flax_bytes.pack("__keepfast__") + b"\xdb"
        write_with_trailer(
            file, Checkpoint(STATE, {"timestep": 3}), document, lambda length: introduce + length.to_bytes(4, "big")
        )
    found = MsgpackStore().load(msgpack_path)
    assert (found.metadata, MsgpackStore().wrote(msgpack_path)) == ({"timestep": 3}, True)
    assert_same(found.state, STATE)
    content = msgpack_path.read_bytes()
    places = [content.index(b"__keepfast__"), content.index(b'{"payloads"'), content.rindex(b"keepfast 1 ")]
    for place in [at + offset for at in places for offset in range(12)] + list(range(len(content) - 40, len(content))):
        msgpack_path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptCheckpoint):
            MsgpackStore().load(msgpack_path)


WORDS = [
    {"__keepfast__": 1, "w": 2},
    {"__keepfast__": "a text", "w": 2},
    {"w": "keepfast 1 0123456789abcdef 01234567"},
    {"w": "x", "keepfast": "keepfast 2 01234567 {} keepfast 2"},
    {"keepfast": "keepfast 2 01234567", "w": '{"payloads":['},
]


@pytest.mark.parametrize("state", WORDS, ids=str)
def test_a_word_of_ours_is_not_our_seal(flax: Any, tmp_path: Path, state: dict[str, Any]) -> None:
    """A file of Flax's that has one of our words is Flax's."""
    for store in (MsgpackStore(), PickleStore()):
        path = tmp_path / f"x{store.extension}"
        path.write_bytes(flax.to_bytes(state))
        found = store.load(path)
        assert (found.state, found.metadata, store.wrote(path)) == (state, {}, False)


@pytest.mark.parametrize("size", range(1, 12))
def test_a_pickle_that_was_cut_after_its_first_bytes_is_damage(pickle_path: Path, size: int) -> None:
    """Its first byte alone is an empty map in MessagePack, which nobody wrote."""
    PickleStore().save(Checkpoint(STATE, {"timestep": 3}), pickle_path)
    pickle_path.write_bytes(pickle_path.read_bytes()[:size])
    with pytest.raises(CorruptCheckpoint):
        PickleStore().load(pickle_path)


KEYS = (b"\xa6policy", b"\xa6pol)cy")
DAMAGES: list[tuple[bytes, bytes]] = [
    (b"keepfast 2 ", b"keepfast \x12 "),
    (b" keepfast 2", b" keepfast 0"),
    (b'{"payloads":[', b'{"payloafs":['),
    (b'"metadata":', b'"metadatb":'),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_an_introduction_whose_key_is_damaged_too_is_no_entry(msgpack_path: Path, damage: tuple[bytes, bytes]) -> None:
    """The key that stands there twice hides it from Flax; with another second one it is a text that nobody wrote."""
    MsgpackStore().save(Checkpoint(STATE, {"timestep": 3}), msgpack_path)
    content = msgpack_path.read_bytes()
    second = content.rindex(KEYS[0])
    content = content[:second] + KEYS[1] + content[second + len(KEYS[1]) :]
    assert damage[0] in content
    msgpack_path.write_bytes(content.replace(*damage, 1))
    with pytest.raises(CorruptCheckpoint):
        MsgpackStore().load(msgpack_path)


def test_what_flax_wrote_anew_is_flaxs(flax: Any, msgpack_path: Path) -> None:
    """A file of ours that Flax has read, changed and written has nothing of ours left, and no damage."""
    MsgpackStore().save(Checkpoint(STATE, {"timestep": 3}), msgpack_path)
    restored = flax.msgpack_restore(msgpack_path.read_bytes())
    restored["policy"]["params"]["Dense_0"]["bias"] = np.ones(4)
    msgpack_path.write_bytes(flax.to_bytes(restored))
    found = MsgpackStore().load(msgpack_path)
    assert (found.metadata, MsgpackStore().wrote(msgpack_path)) == ({}, False)
    assert_same(found.state, restored)


def test_a_later_layout_is_told_as_one(msgpack_path: Path) -> None:
    """What a later Keepfast writes in a later layout is no damage."""
    MsgpackStore().save(Checkpoint(STATE, {"timestep": 3}), msgpack_path)
    msgpack_path.write_bytes(msgpack_path.read_bytes().replace(b"keepfast 2", b"keepfast 3"))
    with pytest.raises(NewerFormat, match="of a later Keepfast"):
        MsgpackStore().load(msgpack_path)


def array(
    shape: bytes = b"\x91\x02", dtype: bytes = b"\xc4\x05uint8", content: bytes = b"\xc4\x02ab", more: bytes = b""
) -> bytes:
    inner = b"\x93" + shape + dtype + content + more
    return b"\x81\xa1x\xc7" + bytes([len(inner), 1]) + inner


DOCUMENTS = {
    "an array": array(),
    "an array of two dimensions": array(b"\x92\x01\x02"),
    "an array of another dtype": array(b"\x91\x01", b"\xc4\x07float16"),
    "an array without a dimension": array(b"\x90", content=b"\xc4\x01a"),
    "a map by numbers": b"\x81\x01\x02",
    "a number": b"\x07",
    "a list": b"\x92\x01\x02",
    "nothing": b"",
    "a second document behind it": array() + b"\x80",
    "a byte behind it": array() + b"\0",
    "a byte behind an array": array(more=b"\0"),
    "fewer bytes than its shape": array(b"\x91\x03"),
    "more bytes than its shape": array(b"\x91\x01"),
    "half a number": array(b"\x91\x01", b"\xc4\x07float16", b"\xc4\x01a"),
    "a dtype that is none": array(dtype=b"\xc4\x05uint9"),
    "objects": array(b"\x91\x01", b"\xc4\x01O", b"\xc4\x08aaaaaaaa"),
    "a list as a key": b"\x81\x90\x01",
    "text that is no UTF-8": b"\x81\xa1x\xa1\xff",
    "a byte order mark before it": b"\xef\xbb\xbf" + array(),
    "a code that is none": b"\xc1",
    "a cut": array()[:-1],
    "a chunk less": b"\x81\xa1x\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa10\x02\xa6chunks\x80",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_judged_as_flax_judges_it(flax: Any, msgpack_path: Path, name: str) -> None:
    """What Flax refuses is refused, and what it takes is the same here."""
    msgpack_path.write_bytes(DOCUMENTS[name])
    theirs = None
    try:
        theirs = flax.msgpack_restore(DOCUMENTS[name])
    except Exception:  # noqa: BLE001  (nearly any)
        with pytest.raises((CorruptCheckpoint, Unreadable)):
            MsgpackStore().load(msgpack_path)
    else:
        unlikely = pytest.warns(KeepfastWarning, match="if it is one, it is damaged")
        with unlikely if name in ("a number", "a map by numbers") else contextlib.nullcontext():
            assert_same(MsgpackStore().load(msgpack_path).state, theirs)
    taken = name.startswith(("an array", "a map", "a number", "a list")) and name != "a list as a key"
    assert (theirs is not None) is taken


def test_what_flax_gives_and_keepfast_has_not_is_no_damage(flax: Any, msgpack_path: Path) -> None:
    """What is no plain data is left unread and named; a key that is there twice is told as what we do not read."""
    import msgpack

    for leaf, says in (
        (msgpack.ExtType(9, b"x"), "msgpack.ExtType 9"),
        (msgpack.Timestamp(5, 5), "msgpack.Timestamp"),
    ):
        msgpack_path.write_bytes(msgpack.packb({"x": leaf, "in": [leaf], "w": 1}))
        flax.msgpack_restore(msgpack_path.read_bytes())
        assert MsgpackStore().load(msgpack_path).state == {"x": Unread(says), "in": [Unread(says)], "w": 1}
    for array in (np.array(["a", "b"]), np.array(5, "m8[s]"), np.array(5, "m"), np.zeros(2, "clongdouble")):
        inner = msgpack.packb((array.shape, array.dtype.str, array.tobytes()))
        msgpack_path.write_bytes(msgpack.packb({"x": msgpack.ExtType(1, inner)}))
        assert MsgpackStore().load(msgpack_path).state["x"].tolist() == array.tolist()
    msgpack_path.write_bytes(b"\x82\xa1x\x01\xa1x\x02")
    with pytest.raises(CorruptCheckpoint, match="has the key `x` twice"):
        MsgpackStore().load(msgpack_path)


@pytest.mark.parametrize("more", [b"\0", pickle.dumps({"a": b"x"}), b"cos\nsystem\n(S'true'\ntR."])
def test_a_second_pickle_behind_the_first_is_refused(flax: Any, pickle_path: Path, more: bytes) -> None:
    """Of a whole agent and of one module, by our own hand too: with its trailer cut off, it is not another tool's."""
    for content in (pickle.dumps({"policy": flax.to_bytes({"w": 1})}), pickle.dumps(flax.to_bytes({"w": 1}))):
        pickle_path.write_bytes(content + more)
        with pytest.raises(CorruptCheckpoint, match="behind its end"):
            PickleStore().load(pickle_path)
