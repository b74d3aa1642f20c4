"""Safetensors files that nobody writes by accident, judged by the library itself and by us."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import keepfast
from keepfast.errors import CorruptCheckpoint, InvalidValue, NewerFormat, Unreadable
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.formats.files.safetensors import container
from keepfast.interfaces.checkpoint_store import Checkpoint

X = '"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
Y = X.replace('"x"', '"y"')
PLAIN = f"{{{X}}}"


def told(dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]", more: str = "") -> str:
    return f'{{"x":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}}}'


def deep(depth: int) -> str:
    """Return a header with so many objects and lists in each other."""
    return told(more=f',"n":{"[" * (depth - 2)}{"]" * (depth - 2)}')


def ones(count: int) -> str:
    return f"[{','.join('1' * count)}]"


HEADERS: dict[str, str | bytes] = {
    "no metadata": PLAIN,
    "metadata null": f'{{"__metadata__":null,{X}}}',
    "metadata empty": f'{{"__metadata__":{{}},{X}}}',
    "metadata last": f'{{{X},"__metadata__":{{"a":"b"}}}}',
    "metadata a list": f'{{"__metadata__":[],{X}}}',
    "metadata a text": f'{{"__metadata__":"a",{X}}}',
    "metadata of numbers": f'{{"__metadata__":{{"a":1}},{X}}}',
    "metadata of nothing": f'{{"__metadata__":{{"a":null}},{X}}}',
    "metadata of truth": f'{{"__metadata__":{{"a":"b","c":false}},{X}}}',
    "metadata of lists": f'{{"__metadata__":{{"a":["b"]}},{X}}}',
    "metadata twice": f'{{"__metadata__":{{}},{X},"__metadata__":{{}}}}',
    "a key of metadata twice": f'{{"__metadata__":{{"a":"1","a":"2"}},{X}}}',
    "a tensor twice": f"{{{X},{X}}}",
    "a field twice": told(more=',"shape":[2]'),
    "a field more": told(more=',"note":"of somebody"'),
    "a field more, twice": told(more=',"note":1,"note":2'),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "utf-16 without a mark": PLAIN.encode("utf-16-le"),
    "utf-16, big end first": PLAIN.encode("utf-16-be"),
    "utf-32": PLAIN.encode("utf-32-le"),
    "latin-1": PLAIN.replace("x", "\xe4").encode("latin-1"),
    "utf-8": PLAIN.replace("x", "\xe4\u4e2d\U0001f600").encode(),
    "a surrogate in utf-8": PLAIN.encode().replace(b"x", b"\xed\xa0\x80"),
    "an overlong character": PLAIN.encode().replace(b"x", b"\xc1\xb8"),
    "half a pair": PLAIN.replace("x", "\\ud800"),
    "the other half": PLAIN.replace("x", "\\uDFFF"),
    "half a pair in the metadata": f'{{"__metadata__":{{"a":"\\uDBFF!"}},{X}}}',
    "a pair": PLAIN.replace("x", "\\ud83d\\ude00"),
    "a backslash before ud800": PLAIN.replace("x", "\\\\ud800"),
    "a tab in a name": PLAIN.replace("x", "a\tb"),
    "a NUL in a name": PLAIN.replace("x", "a\\u0000b"),
    "no name": PLAIN.replace('"x"', '""'),
    "an escape that is none": PLAIN.replace("x", "\\q"),
    "space before": f" \n{PLAIN}",
    "space within": f"{{ \n\t{X} \r}}",
    "space behind": f"{PLAIN}   ",
    "lines behind": f"{PLAIN}\r\n\t",
    "zeros behind": f"{PLAIN}\0\0",
    "an object behind": PLAIN + "{}",
    "a form feed": f"{{\f{X}}}",
    "a comma behind": f"{{{X},}}",
    "a comment": f"{{{X}/**/}}",
    "single quotes": PLAIN.replace('"', "'"),
    "truth as offsets": told('"U8"', "[8]", "[false,8]"),
    "truth as a side": told('"U8"', "[true,8]"),
    "fractions as offsets": told(offsets="[0,8.0]"),
    "fractions as sides": told(shape="[2.0]"),
    "an exponent": told(shape="[2e0]"),
    "texts as offsets": told(offsets='["0","8"]'),
    "less than nothing": told(offsets="[-0,8]"),
    "sides below nothing": told(shape="[-1,-2]"),
    "no sides": told(shape="null"),
    "a side of nothing": told(shape="[null]"),
    "an offset too many": told(offsets="[0,8,9]"),
    "an offset too few": told(offsets="[8]"),
    "offsets by name": told(offsets='{"0":0,"1":8}'),
    "no dtype": '{"x":{"shape":[2],"data_offsets":[0,8]}}',
    "no shape": '{"x":{"dtype":"F32","data_offsets":[0,8]}}',
    "no offsets": '{"x":{"dtype":"F32","shape":[2]}}',
    "an entry in a list": '{"x":["F32",[2],[0,8]]}',
    "an entry in a longer list": '{"x":["F32",[2],[0,8],1]}',
    "an entry that is nothing": f'{{"z":null,{X}}}',
    "a dtype in an object": told('{"F32":null}'),
    "a dtype in small letters": told('"f32"'),
    "a dtype that is a number": told("3"),
    "a dtype that nobody has": told('"F3"'),
    "not a number": told(more=',"n":NaN'),
    "infinity": told(more=',"n":-Infinity'),
    "a number out of range": told(more=',"n":1e999'),
    "a whole number out of range": told(more=f',"n":{"9" * 400}'),
    "a whole number in range": told(more=f',"n":{"9" * 300}'),
    "a zero in front": told(shape="[02]"),
    "a plus": told(shape="[+2]"),
    "a side of 64 bits and none": told(shape="[0,18446744073709551615,2]", offsets="[0,0]"),
    "a size beyond 64 bits, then none": told(shape="[18446744073709551615,2,0]", offsets="[0,0]"),
    "a side beyond 64 bits": told(shape="[0,18446744073709551616]", offsets="[0,0]"),
    "127 in each other": deep(127),
    "128 in each other": deep(128),
    "3000 in each other": deep(3000),
    "two tensors of nothing": f'{{"a":{told(shape="[0]", offsets="[0,0]")[5:-1]},{X}}}',
    "nothing in the middle": f'{{"a":{told(shape="[0]", offsets="[4,4]")[5:-1]},{X}}}',
    "nothing at the end": f'{{"a":{told(shape="[3,0]", offsets="[8,8]")[5:-1]},{X}}}',
    "an overlap": f"{{{X},{Y}}}",
    "a gap": f"{{{X.replace('[2]', '[1]').replace('8', '4')},{Y.replace('[2]', '[0]').replace('[0,8]', '[8,8]')}}}",
    "a beginning behind the first byte": told(shape="[1]", offsets="[4,8]"),
    "fewer bytes than there are": told(shape="[1]", offsets="[0,4]"),
    "more bytes than there are": told(shape="[3]", offsets="[0,12]"),
    "offsets backwards": told(offsets="[8,0]"),
    "a size that does not fit": told(shape="[3]"),
    "no tensors": "{}",
    "a list": "[]",
    "a number": "3",
    "nothing": "null",
    "an open brace": "{",
    "no bytes": "",
    "64 dimensions": told('"F64"', ones(64)),
    "65 dimensions": told('"F64"', ones(65)),
    "200 dimensions": told('"F64"', ones(200)),
    **{
        f"{tag} of {shape}": told(f'"{tag}"', shape)
        for tag in ("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E4M3", "F8_E3M4", "F8_E4M3B11FNUZ")
        for shape in ("[8]", "[2,4]", "[7]")
    },
    **{
        f"{tag} of {shape}": told(f'"{tag}"', shape) for tag in ("F4", "I4", "U4") for shape in ("[16]", "[8,2]", "[8]")
    },
    "F4 of half a byte": told('"F4"', "[15]"),
    **{tag: told(f'"{tag}"', "[2,4]", "[0,6]") for tag in ("F6_E2M3", "F6_E3M2")},
    "C64": told('"C64"', "[1]"),
    "C128": told('"C128"', "[]"),
}

BEYOND_US = {
    "a key of metadata twice": "a key twice",
    "a tensor twice": "a key twice",
    "a field more, twice": "a key twice",
    "a side of 64 bits and none": "rows of nothing",
    "65 dimensions": "65 dimensions",
    "200 dimensions": "200 dimensions",
    "F6_E2M3": "the dtype `F6_E2M3`",
    "F6_E3M2": "the dtype `F6_E3M2`",
}
"""What the library takes and we cannot, with what is said of it."""


def content_of(header: str | bytes, data: bytes = bytes(range(8)), length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def is_taken(path: Path) -> bool:
    """Say whether the library itself opens a file, and finds what its header tells."""
    try:
        shapes(path)
    except (safetensors.SafetensorError, OSError):
        return False
    return True


def shapes(path: Path) -> dict[str, list[int]]:
    """Return the shapes of what the library finds in a file."""
    with safetensors.safe_open(path, "numpy") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (no mapping)


@pytest.mark.needs("ml_dtypes")
@pytest.mark.parametrize("name", HEADERS)
def test_the_library_and_keepfast_judge_alike(tmp_path: Path, name: str) -> None:
    """What the library refuses is refused, what it takes is taken, or Keepfast says that it is Keepfast who cannot."""
    path = tmp_path / "x.safetensors"
    data = bytes(range(6 if name.startswith("F6") else 0 if "then none" in name or "and none" in name else 8))
    path.write_bytes(content_of(HEADERS[name], data))
    with contextlib.ExitStack() as stack:
        if name in BEYOND_US or not is_taken(path):
            kinds = Unreadable if name in BEYOND_US else (CorruptCheckpoint, Unreadable)
            raised = stack.enter_context(pytest.raises(kinds))
        state = SafetensorsStore().load(path).state
        assert {name: list(array.shape) for name, array in state.items()} == shapes(path)
        return
    says = BEYOND_US.get(name, "of which Keepfast knows nothing")
    assert isinstance(raised.value, Unreadable) is (says in str(raised.value))
    assert is_taken(path) is (name in BEYOND_US)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "ends after"),
        (bytes(7), "ends after"),
        (content_of(PLAIN, length=2**63), "ends after"),
        (content_of(PLAIN, length=200), "ends after"),
        (content_of(PLAIN, length=20), "no JSON"),
        (content_of("", bytes(100_000_001), length=100_000_001), "more than the 100,000,000 bytes"),
    ],
    ids=["empty", "7 bytes", "endless", "longer", "shorter", "too long"],
)
def test_a_length_that_the_library_refuses_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    """A header of a length that is none ends reading before anything is read."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert not is_taken(path)
    with pytest.raises(CorruptCheckpoint, match=says):
        SafetensorsStore().load(path)


@pytest.mark.needs("torch", "ml_dtypes")
@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3fn"])
def test_small_floats_are_those_of_pytorch(tmp_path: Path, name: str) -> None:
    """A dtype that PyTorch writes is that dtype here, bit for bit, and what we write is that dtype for PyTorch."""
    import torch
    from safetensors.torch import load_file, save_file

    bits = torch.arange(8, dtype=torch.uint8).reshape(2, 4)
    save_file({"x": bits.view(getattr(torch, name))}, tmp_path / "theirs.safetensors")
    found = SafetensorsStore().load(tmp_path / "theirs.safetensors").state["x"]
    assert (str(found.dtype), found.shape, found.tobytes()) == (name, (2, 4), bytes(range(8)))
    SafetensorsStore().save(Checkpoint({"x": found}), tmp_path / "ours.safetensors")
    loaded = load_file(tmp_path / "ours.safetensors")["x"]
    assert (loaded.dtype, loaded.view(torch.uint8).tolist()) == (getattr(torch, name), bits.tolist())
    assert SafetensorsStore().load(tmp_path / "ours.safetensors").state["x"].dtype == found.dtype


@pytest.mark.needs("torch", "ml_dtypes")
def test_floats_of_four_bits_are_taken_apart(tmp_path: Path) -> None:
    """Of PyTorch's two in a byte, the first is in its lower half; here each is a number of its own."""
    import torch
    from safetensors.torch import save_file

    packed = torch.tensor([[0x21, 0x43], [0xF5, 0x07]], dtype=torch.uint8)
    save_file({"x": packed.view(torch.float4_e2m1fn_x2)}, tmp_path / "x.safetensors")
    found = SafetensorsStore().load(tmp_path / "x.safetensors").state["x"]
    assert str(found.dtype) == "float4_e2m1fn"
    assert found.astype(np.float32).tolist() == [[0.5, 1.0, 1.5, 2.0], [3.0, -6.0, 6.0, 0.0]]


def test_what_keepfast_cannot_read_is_no_damage(tmp_path: Path) -> None:
    """The error is its own, says who cannot, and is an OSError as others about files are."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content_of(told('"F64"', ones(65))))
    with pytest.raises(keepfast.Unreadable, match="cannot be read by Keepfast, whole as it may be") as raised:
        keepfast.read_checkpoint(path)
    assert not isinstance(raised.value, keepfast.CorruptFile)
    assert isinstance(raised.value, OSError | ValueError)


STATE = {"policy": {"net": [{"w": np.arange(6, dtype=np.float32)}, {"b": np.ones(2, np.int64)}], "step": 7}}


def saved(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the library reads of a file of ours: arrays and metadata."""
    SafetensorsStore().save(Checkpoint(STATE, {"timestep": 9}), path)
    with safetensors.safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("change", ["nothing", "values", "a tensor more", "a tensor less", "a dtype"])
def test_what_the_library_wrote_anew_is_no_damaged_file(tmp_path: Path, kept: bool, change: str) -> None:
    """A file that another tool has read, changed and written, with our metadata or without, is read as that tool's."""
    path = tmp_path / "x.safetensors"
    for _ in range(3):  # its metadata come in any order
        arrays, metadata = saved(path)
        if change == "values":
            arrays["policy.net.0.w"] *= 2
        elif change == "a tensor more":
            arrays["ema"] = np.zeros(3)
        elif change == "a tensor less":
            del arrays["policy.net.1.b"]
        elif change == "a dtype":
            arrays["policy.net.0.w"] = arrays["policy.net.0.w"].astype(np.float16)
        safetensors.numpy.save_file(arrays, path, metadata if kept else None)
        telling = pytest.warns(keepfast.KeepfastWarning, match=f"{path.name}` was written anew by another tool")
        with telling if kept else contextlib.nullcontext():
            found = SafetensorsStore().load(path)
        leaves = keepfast.tree.flatten(found.state)
        assert {name: leaves[name].tolist() for name in arrays} == {name: arrays[name].tolist() for name in arrays}
        keeps_tree = kept and change in {"nothing", "values", "a dtype"}
        assert sorted(leaves) == sorted([*arrays, "policy.step"] if keeps_tree else arrays)
        assert (found.metadata, SafetensorsStore().wrote(path)) == ({}, False)


def test_a_changed_byte_is_not_taken_for_another_tools_writing(tmp_path: Path) -> None:
    """Two line feeds tell our layout, so that none of them is missing by accident."""
    path = tmp_path / "x.safetensors"
    saved(path)
    content = path.read_bytes()
    assert content.count(b"\n\n") == 1
    for old, new in ((b"}\n\n", b"} \n"), (b"}\n\n", b"}\n "), (b'"keepfast":"2', b'"keepfast":"3')):
        path.write_bytes(content.replace(old, new))
        with pytest.raises(CorruptCheckpoint):
            SafetensorsStore().load(path)


def test_a_file_of_the_layout_before_is_read(tmp_path: Path) -> None:
    """The first layout, which had no line feeds, is read and verified; one that is to come is told as that."""
    path = tmp_path / "x.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_VERSION", b"1")
        patch.setattr(container, "_END", b"")
        saved(path)
    found = SafetensorsStore().load(path)
    assert (found.metadata, found.state["policy"]["net"][1]["b"].tolist()) == ({"timestep": 9}, [1, 1])
    path.write_bytes(path.read_bytes().replace(b'["float32"', b'["float64"').replace(b'"timestep', b'"timestop'))
    with pytest.raises(CorruptCheckpoint):
        SafetensorsStore().load(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_VERSION", b"7")
        saved(path)
    with pytest.raises(NewerFormat, match="of the layout 7, of a later Keepfast"):
        SafetensorsStore().load(path)


def test_a_name_that_is_no_text_is_one_that_the_library_reads(tmp_path: Path) -> None:
    """Half a pair of surrogates in a key is a question mark for others, and itself again for us."""
    path = tmp_path / "x.safetensors"
    state = {"a\ud800": np.ones(1), "a?": np.zeros(2)}
    SafetensorsStore().save(Checkpoint(state), path)
    assert sorted(safetensors.numpy.load_file(path)) == ["a?", "a?~2"]
    assert {name: len(array) for name, array in SafetensorsStore().load(path).state.items()} == {"a\ud800": 1, "a?": 2}


def test_a_header_that_no_library_reads_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata beyond what a header may have are refused before anything is written."""
    monkeypatch.setattr(container, "LONGEST", 1000)
    with pytest.raises(InvalidValue, match="has 1,000 bytes at most"):
        SafetensorsStore().save(Checkpoint({"x": np.ones(1)}, {"notes": "n" * 1000}), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_our_metadata_are_texts(tmp_path: Path) -> None:
    """All beside the arrays is in the file's metadata, texts by name; no tensor is there that is not ours."""
    arrays, metadata = saved(tmp_path / "x.safetensors")
    assert sorted(arrays) == ["policy.net.0.w", "policy.net.1.b"]
    assert set(metadata) == {"keepfast", "digests", "tree", "metadata"}
    assert json.loads(metadata["metadata"]) == {"dict": [["timestep", 9]]}
