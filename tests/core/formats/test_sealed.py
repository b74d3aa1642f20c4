"""Whatever may not be as it was written is under a digest, and what is no damage is not taken for it."""

from __future__ import annotations

import errno
import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from keepfast.errors import CorruptMemory
from keepfast.formats.files import sealed
from keepfast.formats.files.sealed import Damage, SealedWriter, check_seal, read_digested, verified
from keepfast.formats.memories.npz import NpzExporter
from keepfast.formats.memories.pt import PtExporter
from keepfast.formats.memories.safetensors import SafetensorsExporter
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


def seal(structure: bytes) -> bytes:
    return f"{zlib.crc32(structure):08x}".encode()


def test_payloads_that_overlap_are_refused() -> None:
    """Also where somebody made the seal fit: a file of such payloads could ask for its own bytes without end."""
    content = b"0123456789"
    file = io.BytesIO(content + seal(content[:2] + content[6:]))
    for spans in ([(2, 6), (4, 6)], [(2, -1), (2, 8)], [(2, 8), (-1, 1)], [(2, 80)]):
        with pytest.raises(Damage, match="overlap or lie outside the file"):
            check_seal(file, spans)
    check_seal(io.BytesIO(content + seal(b"01")), [(2, 6), (8, 2)])


def test_a_file_that_is_cut_while_it_is_read_is_told() -> None:
    """What is not there is not taken for what lay in memory before, also where another tool left no digest of it."""
    with pytest.raises(EOFError, match="ends after the file"):
        read_digested(io.BytesIO(b"12345"), 2, 4)
    data, digest = read_digested(io.BytesIO(b"12345"), 2, 3)
    assert (data.tobytes(), digest) == (b"345", zlib.crc32(b"345"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk"), MemoryError(), CorruptMemory("another")], ids=repr)
def test_what_is_no_damage_is_raised_as_it_is(error: Exception, tmp_path: Path) -> None:
    """A disk that fails is not a file that was changed: the same file may be read on the next machine."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(type(error)) as raised, verified(tmp_path / "file"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("exporter", [NpzExporter(), PtExporter(), SafetensorsExporter()], ids=lambda it: it.extension)
def test_what_is_mapped_is_verified(exporter: MemoryExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array that is too large to be read into memory has its digest too."""
    monkeypatch.setattr(sealed, "_WORTH_MAPPING", 1)
    path, values = tmp_path / f"x{exporter.extension}", np.arange(600, dtype=np.int32).reshape(300, 2, 1)
    exporter.save(MemorySnapshot({"x": values}, 0, 0, True), path)
    assert exporter.load(path).tensors["x"].tolist() == values.tolist()
    content = bytearray(path.read_bytes())
    content[content.index(values.tobytes()) + 1001] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptMemory, match=r"`x(\.npy)?` has the CRC-32|x\.npy has the CRC-32"):
        exporter.load(path)


def test_the_seal_is_of_every_byte_of_the_structure() -> None:
    """And of no byte of the payloads; it is the CRC-32 that any other tool calculates."""
    file = io.BytesIO()
    writer = SealedWriter(file)
    writer.structure(b"head")
    writer.payload(memoryview(b"payload"))
    writer.structure(b"tail")
    writer.finish()
    assert file.getvalue() == b"headpayloadtail" + seal(b"headtail")
