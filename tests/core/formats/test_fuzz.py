"""Whatever is changed in a file, reading it ends in a value or a `KeepfastError`; a sealed one has its own value."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import pytest

import keepfast
from keepfast.formats.files.sealed import Damage
from tests.hostile import read_all, refused
from tests.hostile.doors import DOORS
from tests.hostile.fuzz import fuzz
from tests.hostile.honest import honest

pytestmark = [
    pytest.mark.needs("polars", "pyarrow", "h5py", "msgpack"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
]

FORMATS = {"pt", "pickle", "safetensors", "msgpack", "npz", "csv", "parquet", "minari", "jsonl", "config", "index"}


def test_three_thousand_changed_files_do_no_harm() -> None:
    """Of every format: no process ends, nothing runs, no sealed file has another value, within limits of memory."""
    found = fuzz(0, 100)
    assert found.faults == {}
    assert found.files >= 3000
    assert {name for name in FORMATS if any(name in each for each in found.honest)} == FORMATS
    assert min(found.became[what] for what in ("refused", "same", "noticed", "value")) > 0


HURT_TWICE = {
    "checkpoint.safetensors": [(b'"keepfast":', b'"keEpdast":'), (b'"digests":', b'"dIgests":')],
    "checkpoint.msgpack": [
        (b"policy\xdb", b"p\0\0\0\0y\xdb"),
        (b'{"payloads', b';"payloads'),
        (b'"tree"', b'"trge"'),
        (b" keepfast 2", b" keapfast 2"),
    ],
    "checkpoint.msgpack ": [(None, b"\x02")],
    "checkpoint.msgpack  ": [(None, b"\x83policy")],
    "memory.pt": [(b"\0 \x07\0\0archive/data/4", b"s \x07\0\0archive/data/4"), (b"keepfast seal", b"keepfa\0\0 seal")],
    "memory.npz": [(b"keepfast doc", b"keepf\0\0\0\0\0\0\0"), (b"\x19\0keepfast seal", b"\0\0keepfast seal")],
    "memory.npz ": [(b"keepfast doc", b"keepf\0\0\0\0\0\0\0"), (b"keepfast seal", b"keepfast_seal")],
    "memory.npz  ": [
        (b"keepfast doc", b"keep\xff\xff\xff\xff doc"),
        (b"keepfast seal 1", b"keepfast seal 99999"),
    ],
    "memory.pt ": [(b"keepfast seal 1", b"keepfast seal 99999")],
}
"""By a file and a blank for each more of it: what was changed where the fuzz once found that nothing was told."""


@pytest.mark.parametrize("name", HURT_TWICE)
def test_marks_that_are_hurt_at_several_places_still_tell_a_file_of_ours(name: str, tmp_path: Path) -> None:
    """Damage that hits the mark and, elsewhere, what is told beside it, does not make a file another's."""
    (each,) = (each for each in honest(tmp_path) if each.name == name.strip())
    content = each.content
    for found, instead in HURT_TWICE[name]:
        assert found is None or content.count(found) == 1
        content = instead if found is None else content.replace(found, instead)
    path = each.place(tmp_path / "hurt", content)
    if len(content) < 10:
        with pytest.warns(keepfast.KeepfastWarning, match="if it is one, it is damaged"):
            DOORS[each.reader](path)
        return
    with pytest.raises(keepfast.CorruptCheckpoint if "checkpoint" in name else keepfast.CorruptMemory):
        DOORS[each.reader](path)


def footer(path: Path) -> tuple[bytes, int]:
    """Return a Parquet file and where its footer begins."""
    content = path.read_bytes()
    (length,) = struct.unpack("<I", content[-8:-4])
    return content, len(content) - 8 - length


def test_no_footer_of_parquet_ends_the_process(tmp_path: Path) -> None:
    """Arrow would, where its columns are asked for: a histogram of levels has a number more than there are levels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0]}), path)
    content, place = footer(path)
    files = []
    for at in range(place, len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        (made := tmp_path / f"{at}.parquet").write_bytes(changed)
        files.append(("memory", made))
    wrong = refused(read_all(files[:: max(1, len(files) // 150)]))
    assert set(wrong.values()) <= {"value"}


def test_the_footer_is_read_as_arrow_reads_it(tmp_path: Path) -> None:
    """Rows, sizes and places of every column, of several groups, with dictionaries and without."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from keepfast.formats.memories.parquet_footer import groups_of

    table = pa.table({f"c{each}": [each + row % 3 for row in range(100)] for each in range(4)})
    for dictionary in (True, False):
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=30, use_dictionary=dictionary)
        told = pq.read_metadata(tmp_path / "x.parquet")
        with (tmp_path / "x.parquet").open("rb") as file:
            found = groups_of(file)
        assert len(found) == told.num_row_groups == 4
        for number, group in enumerate(found):
            theirs = told.row_group(number)
            assert (group.rows, group.nbytes) == (theirs.num_rows, theirs.total_byte_size)
            columns = [theirs.column(each) for each in range(4)]
            starts = [
                min(each.dictionary_page_offset or each.data_page_offset, each.data_page_offset) for each in columns
            ]
            assert list(group.columns) == list(
                zip(starts, (each.total_compressed_size for each in columns), strict=True)
            )


@pytest.mark.parametrize(
    "told", [b"", b"\x49", b"\x49\xfc\xff\xff\xff\x7f", b"\x1c" * 100, b"\x16" + b"\xff" * 12, b"\x18\x7f"]
)
def test_a_footer_that_is_none_is_damage(told: bytes) -> None:
    """Cut, with lists longer than itself, with structures or numbers without end."""
    from keepfast.formats.memories.parquet_footer import groups_of

    with pytest.raises(Damage, match="footer"):
        groups_of(io.BytesIO(told + struct.pack("<I", len(told)) + b"PAR1"))
