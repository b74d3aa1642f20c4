"""The contract of a CheckpointReader."""

from __future__ import annotations

import abc
import pickle
import shutil
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

from keepfast.errors import KeepfastError
from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.testing.damage import flips
from keepfast.tree import is_array, leaves


@final
class _Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.write_text, (self.victim, "code of a file was run")


class CheckpointReaderContract(abc.ABC):
    """What every reader of another library's checkpoints does; inherit it and give two fixtures.

    Example::

        class TestNpzReader(keepfast.testing.CheckpointReaderContract):
            @pytest.fixture
            def reader(self):
                return NpzReader()

            @pytest.fixture
            def checkpoint(self, tmp_path):
                return save_with_the_library(tmp_path / "policy.npz")
    """

    @pytest.fixture
    @abc.abstractmethod
    def reader(self) -> CheckpointReader:
        """Return the reader."""

    @pytest.fixture
    @abc.abstractmethod
    def checkpoint(self, tmp_path: Path) -> Path:
        """Return a checkpoint of the library, a file by itself in its folder."""

    def test_a_file_is_known_by_its_content(self, reader: CheckpointReader, checkpoint: Path, tmp_path: Path) -> None:
        """Whatever a file is called, the reader knows it."""
        renamed = tmp_path / "renamed" / "anything"
        renamed.parent.mkdir()
        shutil.copyfile(checkpoint, renamed)
        assert reader.recognizes(checkpoint)
        assert reader.recognizes(renamed)

    @pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80", b"\x80\4.", b"text", b"\0" * 64, bytes(range(256))])
    def test_anything_else_is_not_recognized(self, reader: CheckpointReader, content: bytes, tmp_path: Path) -> None:
        """A file of something else, or of nothing, is answered with no, and never with an error."""
        other = tmp_path / "other"
        other.write_bytes(content)
        assert not reader.recognizes(other)

    def test_a_hostile_pickle_runs_nothing(self, reader: CheckpointReader, tmp_path: Path) -> None:
        """A pickle that would write a file is not recognized, or refused; the file is not there."""
        victim, hostile = tmp_path / "victim", tmp_path / "hostile.pkl"
        hostile.write_bytes(pickle.dumps(_Hostile(victim)))
        if reader.recognizes(hostile):
            with pytest.raises(KeepfastError):
                reader.read(hostile)
        assert not victim.exists()

    def test_modules_are_trees_of_numpy_arrays(self, reader: CheckpointReader, checkpoint: Path) -> None:
        """What comes back needs no framework, and holds at least one array that is not empty."""
        found = reader.read(checkpoint)
        assert isinstance(found, ForeignCheckpoint)
        arrays = [leaf for tree in found.modules.values() for _, leaf in leaves(tree) if is_array(leaf)]
        assert any(array.size for array in arrays)
        assert all(isinstance(array, np.ndarray) for array in arrays)

    def test_a_file_is_not_changed_and_reads_alike_twice(self, reader: CheckpointReader, checkpoint: Path) -> None:
        """Reading has no effect on the file, and none on the next reading."""
        before = checkpoint.read_bytes()
        first, second = reader.read(checkpoint), reader.read(checkpoint)
        assert checkpoint.read_bytes() == before
        assert list(first.modules) == list(second.modules)
        for name, tree in first.modules.items():
            for (path, one), (other_path, other) in zip(leaves(tree), leaves(second.modules[name]), strict=True):
                assert path == other_path
                np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_a_truncated_file_is_noticed(self, reader: CheckpointReader, checkpoint: Path, share: float) -> None:
        """What was cut off is not recognized any more, or an error of Keepfast's."""
        content = checkpoint.read_bytes()
        checkpoint.write_bytes(content[: int(len(content) * share)])
        if reader.recognizes(checkpoint):
            with pytest.raises(KeepfastError):
                reader.read(checkpoint)

    def test_damage_raises_nothing_but_errors_of_keepfast(self, reader: CheckpointReader, checkpoint: Path) -> None:
        """A flipped byte anywhere is noticed, or harmless; it never ends in an error that names no file."""
        told = []
        for _, damaged in flips(checkpoint.read_bytes(), 12):
            checkpoint.write_bytes(damaged)
            try:
                if reader.recognizes(checkpoint):
                    reader.read(checkpoint)
            except KeepfastError as error:
                told.append(str(error))
        assert [error for error in told if checkpoint.name not in error] == []

    def test_it_tells_of_whom_and_of_which_version_it_is(self, reader: CheckpointReader) -> None:
        """Library and version stand in reports."""
        assert isinstance(type(reader).library, str)
        assert isinstance(type(reader).version, int)
        assert type(reader).version > 0
