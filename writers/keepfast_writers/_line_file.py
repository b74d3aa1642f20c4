"""A text file of one record a line, as earlier starts of the run may have left it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keepfast import commit
from keepfast._system.disk.special import require_own
from keepfast_writers._append_file import AppendFile


def open_lines(path: Path, keep: Callable[[bytes], bool] | None, head: bytes = b"") -> AppendFile:
    """Open a file to append lines to, after mending what is there.

    Args:
        path: the file; made if it does not exist.
        keep: says of each line whether it stays; None keeps all. The file is replaced in one step, or not at all.
        head: the first line of a new file.

    Raises:
        OSError: if the file cannot be read or written, or is a pipe, a socket, a device or a file of the kernel.
    """
    require_own(path)  # opening a pipe would wait for whoever writes into it
    if path.exists():
        if keep is not None:
            _rewrite(path, keep)
        else:
            _seal(path)
    return AppendFile(path, head)


def _seal(path: Path) -> None:
    """Cut off a line that a kill tore, so that the next one starts where lines start."""
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _rewrite(path: Path, keep: Callable[[bytes], bool]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and keep(line)]
    if len(kept) < len(lines):
        commit(path, lambda file: file.write(b"".join(kept)))
