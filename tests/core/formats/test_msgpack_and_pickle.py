"""The `.msgpack` and `.pickle` formats against Flax itself, as reader and as writer."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")

from keepfast.errors import CorruptCheckpoint
from keepfast.formats.checkpoints.msgpack import MsgpackStore
from keepfast.formats.checkpoints.pickle import PickleStore
from keepfast.formats.files import flax_bytes
from keepfast.formats.files.safe_pickle import safe_load
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.testing.checkpoint_store import assert_same, random_array

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
    """`flax.serialization.msgpack_restore` gives the modules as Flax's state dicts, and one key of ours."""
    MsgpackStore().save(Checkpoint(STATE, {"timestep": 3}), msgpack_path)
    restored = flax.msgpack_restore(msgpack_path.read_bytes())
    assert list(restored) == ["policy", "optimizer", "__keepfast__"]
    assert_same({name: restored[name] for name in STATE}, FLAX_STATE)


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
def test_a_trailer_that_begins_outside_the_file_is_damage(msgpack_path: Path, digit: int) -> None:
    """Whichever digit of its position is not as written, the error is that of a damaged file."""
    MsgpackStore().save(Checkpoint(STATE), msgpack_path)
    content = bytearray(msgpack_path.read_bytes())
    place = content.rindex(b"keepfast 1 ") + len("keepfast 1 ") + digit
    content[place] = ord("7") if content[place] != ord("7") else ord("6")
    msgpack_path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        MsgpackStore().load(msgpack_path)


@pytest.mark.parametrize("content", [b"\xc7\x01\x63\0", b"\xc7\x02\x01\x93\0", b"\x81\xa1a", b"\xc1"])
def test_messagepack_that_is_not_of_flax_is_refused(msgpack_path: Path, pickle_path: Path, content: bytes) -> None:
    """Unknown extensions, malformed arrays and cut maps raise CorruptCheckpoint in both formats."""
    msgpack_path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="its content cannot be read"):
        MsgpackStore().load(msgpack_path)
    pickle_path.write_bytes(pickle.dumps({"policy": content}))
    with pytest.raises(CorruptCheckpoint, match="its content cannot be read"):
        PickleStore().load(pickle_path)
