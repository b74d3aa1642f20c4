"""What is no file of ours gets another name, durable before anything else takes its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from keepfast._system.disk.sparing import put_aside
from tests.core.checkpoints.test_directory import Watch


def test_a_file_has_both_names_until_another_takes_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is durable by then."""
    (path := tmp_path / "a.b.pt").write_bytes(b"mine")
    watch = Watch(monkeypatch)
    other = put_aside(path)
    assert watch.calls == ["link a.b.replaced.pt", "fsync directory"]
    assert (other.name, other.read_bytes(), path.samefile(other)) == ("a.b.replaced.pt", b"mine", True)


@pytest.mark.parametrize("links", [True, False])
def test_each_gets_a_name_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """A name that leads nowhere is taken too; where there are no hard links the file is renamed."""

    def lacking(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", lacking)
    (tmp_path / "x.replaced-2.pt").symlink_to("nowhere")
    path = tmp_path / "x.pt"
    for name in ("x.replaced.pt", "x.replaced-3.pt", "x.replaced-4.pt"):
        path.unlink(missing_ok=True)
        path.write_text(name)
        assert put_aside(path).name == name
        assert path.exists() == links
    assert [(tmp_path / name).read_text() for name in ("x.replaced.pt", "x.replaced-3.pt")] == [
        "x.replaced.pt",
        "x.replaced-3.pt",
    ]


def test_a_directory_is_renamed(tmp_path: Path) -> None:
    """With all that is in it."""
    (path := tmp_path / "x.dcp").mkdir()
    (path / "part").write_bytes(b"mine")
    other = put_aside(path)
    assert (path.exists(), other.name, (other / "part").read_bytes()) == (False, "x.replaced.dcp", b"mine")
