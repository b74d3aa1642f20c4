"""What becomes another name of a file that is there: only what would be written with that file's bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from keepfast._system.commit import commit, commit_together, sweep
from keepfast._system.disk.checksum import Summed
from keepfast._system.disk.sharing import Identity, Linked, identity_of, linked_to

LARGE = bytes(range(256)) * 10_000
"""More than is compared at a time."""


def in_pieces(content: bytes) -> Callable[[BinaryIO], object]:
    def write(file: BinaryIO) -> Summed:
        file.writelines(memoryview(content)[start : start + 700_000] for start in range(0, len(content), 700_000))
        return Summed(7)

    return write


def beginning_twice(content: bytes, beginning: int) -> Callable[[BinaryIO], object]:
    """Return what writes as formats do whose beginning is known at the end."""

    def write(file: BinaryIO) -> None:
        file.write(bytes(beginning))
        file.write(content[beginning:])
        file.seek(0)
        file.write(content[:beginning])
        file.seek(0, os.SEEK_END)
        assert file.tell() == len(content)

    return write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    commit(path := tmp_path / "file", in_pieces(LARGE))
    return path


def told(path: Path) -> Identity:
    identity = identity_of(path)
    assert identity is not None
    return identity


def test_the_same_bytes_get_another_name(path: Path) -> None:
    """It is one file under two names, with the mode and the bytes that it had, and with the sum that was told."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None
    assert linked.summed == Summed(7)
    assert commit_together({path.with_name("other"): linked}) == {path.with_name("other"): len(LARGE)}
    assert path.samefile(path.with_name("other"))
    assert sorted(child.name for child in path.parent.iterdir()) == ["file", "other"]


def test_a_beginning_that_is_written_twice_is_the_same(path: Path) -> None:
    """What stands there first counts for nothing, what stands there at the end does."""
    assert linked_to(path, told(path), beginning_twice(LARGE, 100)) is not None
    other = bytes(50) + b"x" * 50 + LARGE[100:]
    assert linked_to(path, told(path), beginning_twice(other, 100)) is None
    assert linked_to(path, told(path), in_pieces(bytes(100) + LARGE[100:])) is None


@pytest.mark.parametrize("place", [0, 699_999, 700_000, 1 << 18, 1 << 20, len(LARGE) - 1])
def test_one_byte_makes_another_file(path: Path, place: int) -> None:
    """Wherever it is."""
    other = LARGE[:place] + bytes([LARGE[place] ^ 1]) + LARGE[place + 1 :]
    assert linked_to(path, told(path), in_pieces(other)) is None


@pytest.mark.parametrize("other", [b"", LARGE[:-1], LARGE + b"x"], ids=["nothing", "shorter", "longer"])
def test_another_size_makes_another_file(path: Path, other: bytes) -> None:
    """Also where all that is written is there."""
    assert linked_to(path, told(path), in_pieces(other)) is None


def test_a_damaged_file_gets_no_other_name(path: Path) -> None:
    """Damage that leaves all that the system tells of a file as it was."""
    identity = told(path)
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(identity[3], identity[3]))
    assert identity_of(path) == identity
    assert linked_to(path, identity, in_pieces(LARGE)) is None


def test_a_file_that_was_replaced_gets_no_other_name(path: Path) -> None:
    """Whatever its bytes are; it is not known to be durable."""
    identity = told(path)
    path.rename(path.with_name("before"))
    path.write_bytes(LARGE)
    assert linked_to(path, identity, in_pieces(LARGE)) is None
    assert linked_to(path.with_name("none"), identity, in_pieces(LARGE)) is None


def test_a_format_that_asks_more_of_a_file_writes_it(path: Path) -> None:
    """One that reads what it wrote, or has a library write to the descriptor."""
    asks: list[Callable[[BinaryIO], Any]] = [lambda f: f.read(1), lambda f: f.fileno(), lambda f: f.truncate(3)]
    asks.append(lambda file: file.no_such_thing)  # type: ignore[attr-defined]
    assert [linked_to(path, told(path), ask) for ask in asks] == [None] * 4


def refused(error: int) -> Callable[..., None]:
    def link(*_arguments: Any, **_named: Any) -> None:
        raise OSError(error, os.strerror(error))

    return link


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSPC])
def test_a_link_that_is_refused_is_written(path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """As where a file system has no hard links."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None
    monkeypatch.setattr(os, "link", refused(error))
    commit_together({path.with_name("other"): linked})
    assert path.with_name("other").read_bytes() == LARGE
    assert not path.samefile(path.with_name("other"))


def test_a_file_that_was_replaced_meanwhile_is_written(path: Path) -> None:
    """After it was compared, before it gets the name."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None
    path.unlink()
    path.write_bytes(b"something else")
    commit_together({path.with_name("other"): linked})
    assert path.with_name("other").read_bytes() == LARGE
    assert sorted(child.name for child in path.parent.iterdir()) == ["file", "other"]


def test_a_name_of_the_file_itself_leaves_no_litter(path: Path) -> None:
    """To rename a file over itself changes nothing, so that the temporary name would stay."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None
    commit_together({path: linked})
    assert [child.name for child in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == LARGE


def test_a_sweep_leaves_a_name_that_is_about_to_be_given(path: Path) -> None:
    """It is locked as long as it is a temporary one."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None

    def index(_unnamed: object) -> dict[Path, Linked]:
        assert sweep(path.parent) == []
        return {}

    commit_together({path.with_name("other"): linked}, index)
    assert path.samefile(path.with_name("other"))


def test_a_name_that_was_not_given_is_gone(path: Path) -> None:
    """As where something else of the checkpoint could not be written."""
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None

    def index(_unnamed: object) -> dict[Path, Linked]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit_together({path.with_name("other"): linked}, index)
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_a_file_gets_no_names_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems have so many; it is written anew before."""
    monkeypatch.setattr("keepfast._system.disk.sharing._MOST_NAMES", 2)
    identity = told(path)
    assert linked_to(path, identity, in_pieces(LARGE)) is not None
    os.link(path, path.with_name("second"))
    assert linked_to(path, identity, in_pieces(LARGE)) is None


def test_a_file_of_another_mode_is_written(path: Path) -> None:
    """What replaces a file that others may not read is none that they may."""
    other = path.with_name("other")
    other.write_bytes(b"before")
    other.chmod(0o600)
    linked = linked_to(path, told(path), in_pieces(LARGE))
    assert linked is not None
    commit_together({other: linked})
    assert (other.read_bytes(), other.stat().st_mode & 0o777) == (LARGE, 0o600)
    assert path.stat().st_mode & 0o777 != 0o600
