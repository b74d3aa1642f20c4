"""Files that mean harm are read in a child process, with so much memory and so much time: what becomes of each?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MEMORY, TIMES = 1 << 26, 4
"""How much more memory a file may take: so many bytes, and so many times what it has itself."""

SECONDS = 20
"""How long the processor may be busy with one file."""

BEGUN = "begun"
"""What a child process says before it reads the first file."""


def read_all(files: Iterable[tuple[str, Path]], memory: int = MEMORY, seconds: int = SECONDS) -> dict[Path, str]:
    """Read files one after another under limits, and return what became of each; see `read_each`."""
    asked = list(files)
    return dict(zip((path for _, path in asked), read_each(asked, memory, seconds), strict=True))


def read_each(
    files: Iterable[tuple[str, Path]],
    memory: int = MEMORY,
    seconds: int = SECONDS,
    *,
    warm: bool = False,
    imported: Sequence[str] = (),
) -> list[str]:
    """Read files one after another under limits, and return what became of each.

    Args:
        files: how each is read, by a name of `tests.hostile.doors`, and where it is.
        memory: how much more address space a file may take, beside four times its size.
        seconds: how long the processor may be busy with one.
        warm: whether honest files are read first, without a limit, so that all libraries are there.
        imported: modules that are imported first, without a limit.

    Returns:
        ``value``; the name of the error of ours that was raised, and its text; ``raised ...`` for an error that is none
        of ours; ``ended ...`` where the process did not outlive it.
    """
    waiting, found = list(files), list[str]()
    limits = str(memory), str(seconds), str(int(warm))
    command = [sys.executable, "-W", "ignore", "-m", "tests.hostile.child", *limits, *imported]
    while waiting:
        child = subprocess.run(
            command,
            input="".join(json.dumps([kind, str(path)]) + "\n" for kind, path in waiting),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds * (len(waiting) + 2) + 60,
            env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        begun, *told = child.stdout.splitlines() or [""]
        if begun != BEGUN:
            raise OSError(f"the child process read nothing: {child.stderr[-2000:]}")
        found += map(json.loads, told)
        done = len(told)
        if done < len(waiting):
            found.append(f"ended {child.returncode}: {child.stderr[-600:]}")
            done += 1
        waiting = waiting[done:]
    return found


def refused(found: Mapping[Path, str]) -> dict[str, str]:
    """Return, by name, what became of files that were not refused, as damaged or as nothing to read."""
    return {
        path.name: what
        for path, what in found.items()
        if not what.startswith(("Corrupt", "InvalidValue", "Unreadable"))
    }
