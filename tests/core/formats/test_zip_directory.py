"""The directory of an archive, read with `zipfile` and without it."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from keepfast.formats.files import zip_directory
from keepfast.formats.files.torch_archive import write_archive
from keepfast.formats.files.zip_directory import Directory, read_directory


def ours(count: int = 5) -> bytes:
    file = io.BytesIO()
    write_archive(file, {f"layer{number}": np.zeros(number, np.float32) for number in range(count)}, {})
    return file.getvalue()


def by_zipfile(content: bytes) -> Directory | None:
    """Return what `zipfile` reads; None where it raises."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # noqa: BLE001  (it raises nearly anything)
        return None
    told = [
        (each.filename, each.header_offset, each.compress_size, each.file_size, each.CRC, each.compress_type)
        for each in archive.infolist()
    ]
    return Directory([zip_directory.Record(*each) for each in told], archive.start_dir, archive.comment)


def without_zipfile(content: bytes) -> Directory | None:
    return zip_directory._usual(io.BytesIO(content))


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_what_keepfast_writes_is_read_without_zipfile(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is what it would read."""
    expected = by_zipfile(ours(count))
    monkeypatch.setattr(zip_directory, "opened_zip", None)
    assert read_directory(io.BytesIO(ours(count))) == expected
    assert expected is not None
    assert len(expected.records) == count + 6


def changed(content: bytes, chosen: random.Random) -> bytes:
    """Return an archive with a few bytes, numbers or stretches of its directory changed."""
    made = bytearray(content)
    start = content.find(b"PK\1\2")
    for _ in range(chosen.randrange(1, 4)):
        at = chosen.randrange(start, len(made)) if len(made) > start else 0
        way = chosen.randrange(6)
        if way == 0:
            made[at : at + 1] = bytes([chosen.randrange(256)])
        elif way == 1:
            made[at : at + 2] = struct.pack("<H", chosen.choice((0, 1, 2, 20, 45, 46, 64, 0xFFFF)))
        elif way == 2:
            made[at : at + 4] = struct.pack("<I", chosen.choice((0, 1, start, len(content), 0xFFFFFFFF)))
        elif way == 3:
            del made[at : at + chosen.randrange(1, 50)]
        elif way == 4:
            made[at:at] = chosen.choice(
                (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\0", b"x" * 22, b"PK\5\6" + b"\0" * 18)
            )
        else:
            other = chosen.randrange(len(made))
            made[at:at] = made[other : other + chosen.randrange(1, 120)]
    return bytes(made)


def test_whatever_is_changed_is_read_as_zipfile_reads_it_or_left_to_it() -> None:
    """Also where it is no archive any more."""
    content, chosen, read = ours(), random.Random(1), 0
    for number in range(20_000):
        made = changed(content, chosen)
        found = without_zipfile(made)
        assert found is None or found == by_zipfile(made), number
        read += found is not None
    assert read > 500  # so that it was not all left to `zipfile`


def entry(**fields: Any) -> bytes:
    """Return an archive of one record whose entry in the directory has other fields than a usual one."""
    usual = {"flags": 0, "needed": 0, "method": 0, "size": 3, "length": 3, "disk": 0, "header": 0}
    told: dict[str, Any] = usual | {"name": b"one", "extra": b"", "comment": b"", "said": b"", "times": 1} | fields
    sizes = len(told["name"]), len(told["extra"]), len(told["comment"]), told["disk"], 0, 0, told["header"]
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 0, told["needed"], told["flags"], told["method"], 0, 0, 7, told["size"],
        told["length"], *sizes,
    )  # fmt: skip
    central = b"".join([central, told["name"], told["extra"], told["comment"]]) * int(told["times"])
    count, said = told.get("count", told["times"]), bytes(told["said"])
    few = min(count, 0xFFFF)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0, 45, 0, 0, count, count, len(central), 100)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 100 + len(central), told.get("disks", 1))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, few, few, len(central), 100, len(said))
    return b"." * 100 + central + wide + locator + end + said


def test_a_usual_entry_is_read() -> None:
    """As a control of those that are not."""
    assert without_zipfile(entry()) == by_zipfile(entry()) is not None
    assert without_zipfile(entry(said=b"a comment")) == by_zipfile(entry(said=b"a comment")) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "ö".encode(), "flags": 0x800},
        {"name": b"\x94"},
        {"name": b"one\0two"},
        {"name": b"one\\two"},
        {"extra": struct.pack("<2HQ", 1, 8, 2**40), "size": 0xFFFFFFFF, "length": 0xFFFFFFFF},
        {"comment": b"PK"},
        {"method": 8},
        {"length": 4},
        {"disk": 1},
        {"disks": 2},
        {"needed": 64},
        {"times": 2},
        {"count": 2},
        {"count": 0},
        {"said": b"PK\5\6"},
    ],
    ids=str,
)
def test_what_is_unusual_is_left_to_zipfile(fields: dict[str, Any]) -> None:
    """Which knows what a name of another alphabet is, or where a size of 64 bits stands."""
    assert without_zipfile(entry(**fields)) is None


def test_a_directory_of_more_records_than_there_may_be_is_refused() -> None:
    """Each takes memory, and a name of one character little of the file."""
    many = entry(times=200_000)
    with pytest.raises(zipfile.BadZipFile, match="which a file of"):
        read_directory(io.BytesIO(many))
