"""Files that mean harm are read in a child process, with so much memory and so much time: what becomes of each?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

MEMORY, TIMES = 1 << 26, 4
"""How much more memory a file may take: so many bytes, and so many times what it has itself."""

SECONDS = 20
"""How long the processor may be busy with one file."""


def read_all(files: Iterable[tuple[str, Path]], memory: int = MEMORY, seconds: int = SECONDS) -> dict[Path, str]:
    """Read files one after another under limits, and return what became of each.

    Args:
        files: how each is read, by a name of `tests.hostile.child`, and where it is.
        memory: how much more address space a file may take, beside four times its size.
        seconds: how long the processor may be busy with one.

    Returns:
        By path: ``value``; the name of the error of ours that was raised, and its text; ``raised ...`` for an error
        that is none of ours; ``ended ...`` where the process did not outlive it.
    """
    waiting, found = list(files), dict[Path, str]()
    while waiting:
        asked = "".join(json.dumps([kind, str(path)]) + "\n" for kind, path in waiting)
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.hostile.child", str(memory), str(seconds)],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds * (len(waiting) + 2),
        )
        lines = child.stdout.splitlines()
        found.update({path: json.loads(line) for (_, path), line in zip(waiting, lines, strict=False)})
        done = len(lines)
        if done < len(waiting):
            found[waiting[done][1]] = f"ended {child.returncode}: {child.stderr[-600:]}"
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
