"""What every format has: files that are whole, and errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pytest

import keepfast


class TextStore(keepfast.CheckpointStore):
    """Keeps the state as text, and says what it is told to."""

    extension = ".text"
    raises: Exception | None = None

    def write(self, checkpoint: keepfast.Checkpoint, file: BinaryIO) -> None:
        file.writelines(part.encode() for part in checkpoint.state)

    def read(self, path: Path) -> keepfast.Checkpoint:
        if self.raises is not None:
            raise self.raises
        return keepfast.Checkpoint({"text": path.read_text()})


def test_a_file_is_replaced_by_a_whole_one_or_stays(tmp_path: Path) -> None:
    """Whatever a format raises in the midst of writing, the file that was there is untouched and nothing lies about."""
    store, path = TextStore(), tmp_path / "agent.text"
    assert store.save(keepfast.Checkpoint(["old", "er"]), path) == 5
    broken: Any = ["new", 3]
    with pytest.raises(AttributeError):
        store.save(keepfast.Checkpoint(broken), path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no number"), IndexError("beyond"), RecursionError("too deep")], ids=repr)
def test_whatever_is_raised_at_a_damaged_file_names_it(tmp_path: Path, error: Exception) -> None:
    """A format need not know every way in which its content can be wrong."""
    store, path = TextStore(), tmp_path / "agent.text"
    store.save(keepfast.Checkpoint(["text"]), path)
    store.raises = error
    told = rf"agent\.text` is damaged: its content cannot be read \({type(error).__name__}: {error}\)"
    with pytest.raises(keepfast.CorruptCheckpoint, match=told) as raised:
        store.load(path)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [PermissionError("not yours"), keepfast.MissingDependency("numba")])
def test_what_is_no_damage_is_raised_as_it_is(tmp_path: Path, error: Exception) -> None:
    """A file that cannot be opened, and a missing package: the file is none the worse."""
    store = TextStore()
    store.raises = error
    with pytest.raises(type(error)) as raised:
        store.load(tmp_path / "agent.text")
    assert raised.value is error


def test_memory_that_is_short_is_told_with_the_file(tmp_path: Path) -> None:
    """It is an error of ours, and no damage, which a resume would pass over."""
    store = TextStore()
    store.raises = MemoryError()
    with pytest.raises(keepfast.OutOfMemory, match=r"agent\.text` holds what takes more memory") as raised:
        store.load(tmp_path / "agent.text")
    assert isinstance(raised.value, MemoryError)
    assert not isinstance(raised.value, OSError)
