"""What PyTorch itself takes for a file of its own is read here, or told to be one that Keepfast cannot read."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.errors import CorruptCheckpoint, Unreadable
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.tree import Unread
from tests.hostile.making import archive, text

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.needs("torch", "ml_dtypes"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

STATE = {"policy": {"w": np.arange(3, dtype=np.float32)}, "step": 7}


def save_ours(path: Path) -> None:
    PtStore().save(Checkpoint(STATE, {"timestep": 9}), path)


def packed_again(path: Path, how: int = zipfile.ZIP_STORED, *, keeps_comment: bool = False) -> None:
    """Write an archive anew, record by record, as any zip tool does."""
    with zipfile.ZipFile(path) as old:
        records, comment = {name: old.read(name) for name in old.namelist()}, old.comment
    with zipfile.ZipFile(path, "w", how) as new:
        for name, content in records.items():
            new.writestr(name, content)
        new.comment = comment if keeps_comment else b""


def appended(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/notes.txt", "kept")


CHANGES: dict[str, Callable[[Path], None]] = {
    "packed again": packed_again,
    "packed again, with our comment": lambda path: packed_again(path, keeps_comment=True),
    "compressed": lambda path: packed_again(path, zipfile.ZIP_DEFLATED, keeps_comment=True),
    "a record more": appended,
    "loaded and saved by torch": lambda path: torch.save(torch.load(path, weights_only=True), path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_tool_wrote_anew_is_no_damaged_file(tmp_path: Path, change: str) -> None:
    """It is read as that tool's, and told where something of ours is left in it; it is not ours to remove."""
    path = tmp_path / "x.pt"
    save_ours(path)
    assert PtStore().wrote(path)
    CHANGES[change](path)
    if change == "loaded and saved by torch":
        found = PtStore().load(path)
    else:
        with pytest.warns(keepfast.KeepfastWarning, match=r"x\.pt` was written anew by another tool"):
            found = PtStore().load(path)
    assert (found.state["policy"]["w"].tolist(), found.state["step"]) == ([0, 1, 2], 7)
    assert (found.metadata, PtStore().wrote(path)) == ({}, False)


def test_no_changed_byte_is_taken_for_another_tools_writing(tmp_path: Path) -> None:
    """Each byte of how our archives end, and of the seal, is noticed where it changes."""
    path = tmp_path / "x.pt"
    save_ours(path)
    content = path.read_bytes()
    for place in range(content.rindex(b"PK\6\6"), len(content)):
        for flipped in (1, 128, 255):
            path.write_bytes(content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :])
            with pytest.raises(CorruptCheckpoint):
                PtStore().load(path)


def test_a_word_of_ours_is_not_our_seal(tmp_path: Path) -> None:
    """A file of `torch.save` with our comment, or with a record that is called as ours, is PyTorch's."""
    for name, comment in (("keepfast.json", b""), ("notes", b"keepfast seal 1: 01234567")):
        torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
        with zipfile.ZipFile(tmp_path / "x.pt", "a") as file:
            file.writestr(f"x/{name}", "{}")
            file.comment = comment
        with pytest.warns(keepfast.KeepfastWarning, match="was written anew by another tool"):
            assert PtStore().load(tmp_path / "x.pt").state["w"].tolist() == [1, 1]


def test_checksums_that_were_not_written_are_not_missed(tmp_path: Path) -> None:
    """PyTorch can be told to take none; one that is there is compared nevertheless."""
    path = tmp_path / "x.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(2)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert PtStore().load(path).state["w"].tolist() == [1, 1]
    shutil.copy(path, tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "y.pt", "a") as file:
        file.writestr("x/notes", "a record with its CRC-32")
    with pytest.raises(CorruptCheckpoint, match="CRC-32"):
        PtStore().load(tmp_path / "y.pt")


TENSORS: dict[str, Callable[[], Any]] = {
    "complex32": lambda: torch.zeros(2, dtype=torch.complex32),
    "float4_e2m1fn_x2": lambda: torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "qint8": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(2).to_sparse(),
    "65 dimensions": lambda: torch.zeros([1] * 65),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("alone", [True, False])
def test_a_tensor_that_only_pytorch_has_is_no_damage(tmp_path: Path, name: str, alone: bool) -> None:
    """Beside others it is left unread; alone, or of too many dimensions, the error says that it is we who cannot."""
    path = tmp_path / "x.pt"
    torch.save({"x": TENSORS[name](), **({} if alone else {"w": torch.ones(2)})}, path)
    torch.load(path, weights_only=True)
    try:
        state = PtStore().load(path).state
    except Unreadable as error:
        assert "cannot be read by Keepfast, whole as it may be" in str(error)  # noqa: PT017
        assert alone or name == "65 dimensions"
    else:
        assert isinstance(state["x"], Unread)
        assert alone or state["w"].tolist() == [1, 1]


def number(value: int) -> bytes:
    return b"K" + bytes([value])


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def described(
    *, key: bytes = text("0"), numel: bytes = number(4), offset: bytes = number(0), size: bytes, stride: bytes
) -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + numel + b"tQ"
    rest = b"\x89ccollections\nOrderedDict\n)R"
    return (
        b"\x80\x02}"
        + text("x")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + size
        + stride
        + rest
        + b"tRs."
    )


TRUTH, HALF = b"\x88", b"G?\xe0\0\0\0\0\0\0"
PICKLES = {
    "whole": described(size=numbers(4), stride=numbers(1)),
    "a part": described(offset=number(1), size=numbers(3), stride=numbers(1)),
    "a truth value as an offset": described(offset=TRUTH, size=numbers(3), stride=numbers(1)),
    "a truth value as a size": described(size=b"(" + TRUTH + b"t", stride=numbers(1)),
    "a truth value as a stride": described(size=numbers(4), stride=b"(" + TRUTH + b"t"),
    "half an offset": described(offset=HALF, size=numbers(3), stride=numbers(1)),
    "an offset below zero": described(offset=b"J\xff\xff\xff\xff", size=numbers(3), stride=numbers(1)),
    "a size below zero": described(size=b"(J\xff\xff\xff\xfft", stride=numbers(1)),
    "more than there is": described(size=numbers(5), stride=numbers(1)),
    "fewer strides than sizes": described(size=numbers(2, 2), stride=numbers(1)),
    "a storage that is not there": described(key=text("1"), size=numbers(4), stride=numbers(1)),
    "a part of a storage by a number": described(key=number(0), size=numbers(4), stride=numbers(1)),
    "no storage": b"\x80\x02}" + text("x") + b"ctorch._utils\n_rebuild_tensor_v2\n)Rs.",
    "a text as a size": described(size=text("4"), stride=numbers(1)),
    "no stop": described(size=numbers(4), stride=numbers(1))[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("name", PICKLES)
def test_the_description_of_a_tensor_is_judged_as_torch_judges_it(tmp_path: Path, name: str) -> None:
    """What `torch.load` refuses is refused, and what it takes has the same numbers here."""
    path = archive(tmp_path / "x.pt", PICKLES[name], {"data/0": np.arange(4, dtype=np.float32).tobytes()})
    theirs = None
    try:
        theirs = torch.load(path, weights_only=True)["x"]
    except Exception:  # noqa: BLE001  (nearly any)
        with pytest.raises((CorruptCheckpoint, Unreadable)):
            PtStore().load(path)
    if theirs is not None:
        assert PtStore().load(path).state["x"].tolist() == theirs.tolist()
    assert (theirs is not None) is (name in {"whole", "a part", "a part of a storage by a number"})
