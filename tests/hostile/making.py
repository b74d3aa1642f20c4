"""Parts of files that mean harm: pickles by instruction, archives by record."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path


def number(value: int) -> bytes:
    """Return the instruction for a whole number."""
    encoded = pickle.encode_long(value)
    return pickle.LONG4 + struct.pack("<i", len(encoded)) + encoded


def text(value: str) -> bytes:
    """Return the instruction for a string."""
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def numbers(*values: int) -> bytes:
    """Return the instructions for a tuple of whole numbers."""
    return pickle.MARK + b"".join(map(number, values)) + pickle.TUPLE


def tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], key: str = "0", numel: int = 1, bits: bytes = b""
) -> bytes:
    """Return the instructions for a tensor of 32-bit floats; `bits` are those of what comes behind its hooks."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(numel) + b"tQ"
    rest = b"\x89ccollections\nOrderedDict\n)R" + bits
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(0)
        + numbers(*shape)
        + numbers(*strides)
        + rest
        + b"tR"
    )


def archive(
    path: Path, pickled: bytes, records: Mapping[str, bytes] | None = None, kind: int = zipfile.ZIP_STORED
) -> Path:
    """Write what `torch.load` takes for a file of ``torch.save``."""
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in ({"data/0": bytes(4)} if records is None else records).items():
            file.writestr(f"archive/{name}", content)
        file.writestr("archive/version", "3\n")
    return path


def npy(shape: tuple[int, ...], content: bytes = b"", dtype: str = "|u1") -> bytes:
    """Return the beginning of an array as NumPy stores it, and what follows."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


def safetensors(path: Path, header: Mapping[str, object] | bytes, content: bytes = b"") -> Path:
    """Write a file of safetensors."""
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + content)
    return path


def csv_with(path: Path, old: bytes, new: bytes) -> Path:
    """Change a csv of ours or what lies beside it, and make the sums fit."""
    from keepfast.formats.memories.csv.beside import Said, Sums, companion_of, said_in, written

    path.write_bytes(path.read_bytes().replace(old, new, 1))
    said = (said_in(companion_of(path)) or [])[0]
    memory = json.loads(json.dumps(said.memory, separators=(",", ":")).replace(old.decode(), new.decode(), 1))
    companion_of(path).write_bytes(written(Said(Sums.of(path.read_bytes()), memory, said.nans), None))
    return path
