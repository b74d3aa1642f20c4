"""The document of a memory, and what it says of tensors that come with it or without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keepfast.errors import CorruptMemory
from keepfast.formats.files.safetensors.container import write_safetensors
from keepfast.formats.files.torch_archive import write_archive
from keepfast.formats.memories import header, npz
from keepfast.formats.memories.npz import NpzExporter
from keepfast.formats.memories.pt import PtExporter
from keepfast.formats.memories.safetensors import SafetensorsExporter
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot

EXPORTERS = [NpzExporter(), PtExporter(), SafetensorsExporter()]
VALUES = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
each_exporter = pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda exporter: exporter.extension)


@each_exporter
def test_a_later_version_is_told(exporter: MemoryExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a later Keepfast wrote is not read as one of today's."""
    path = tmp_path / f"x{exporter.extension}"
    with monkeypatch.context() as later:
        later.setattr(header, "FORMAT_VERSION", 2)
        exporter.save(MemorySnapshot({"x": VALUES}, 0, 0, True), path)
    with pytest.raises(CorruptMemory, match="is of the memory format version 2; this Keepfast reads 1, so update it"):
        exporter.load(path)


@each_exporter
@pytest.mark.parametrize(("row", "env"), [(3, 0), (-1, 0), (0, 2), (0, -1)])
def test_a_position_that_no_row_has_is_refused(exporter: MemoryExporter, row: int, env: int, tmp_path: Path) -> None:
    """The next sample would go where there is no room for it, and the oldest be taken from there."""
    path = tmp_path / f"x{exporter.extension}"
    exporter.save(MemorySnapshot({"x": VALUES}, row, env, True), path)
    with pytest.raises(CorruptMemory, match=rf"damaged: its `(memory|env)_index` is {row or env}$"):
        exporter.load(path)


def test_tensors_have_the_shapes_that_the_document_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that differ are refused also where both have as many rows and environments."""
    described = header.header_text(MemorySnapshot({"x": VALUES[:, :, :1]}, 0, 0, True))
    monkeypatch.setattr(npz, "header_text", lambda _snapshot: described)
    NpzExporter().save(MemorySnapshot({"x": VALUES}, 0, 0, True), tmp_path / "x.npz")
    with pytest.raises(CorruptMemory, match=r"have the shapes .*\(3, 2, 2\).* where .*\(3, 2, 1\).* were written"):
        NpzExporter().load(tmp_path / "x.npz")


@pytest.mark.parametrize("layout", ["foreign byte order", "Fortran order"])
def test_arrays_of_numpy_keep_their_values(layout: str, tmp_path: Path) -> None:
    """However `numpy.savez` laid them down, a memory has them in this machine's order."""
    swapped = VALUES.astype(VALUES.dtype.newbyteorder())
    np.savez(tmp_path / "x.npz", x=np.asfortranarray(VALUES) if layout == "Fortran order" else swapped)
    loaded = NpzExporter().load(tmp_path / "x.npz").tensors["x"]
    assert (loaded.tolist(), loaded.dtype.isnative) == (VALUES.tolist(), True)


@pytest.mark.parametrize("tree", [[VALUES], VALUES, {"x": VALUES, "y": 3}, {"x": {"y": VALUES}}, None], ids=str)
def test_what_is_no_dictionary_of_tensors_is_no_memory(tree: object, tmp_path: Path) -> None:
    """A checkpoint that is taken for a memory is told as such, not as damage."""
    for exporter, write in ((PtExporter(), write_archive), (SafetensorsExporter(), write_safetensors)):
        path = tmp_path / f"x{exporter.extension}"
        with path.open("wb") as file:
            write(file, tree, {})
        with pytest.raises(CorruptMemory, match=r"holds no memory: a memory is a dictionary of tensors$"):
            exporter.load(path)
