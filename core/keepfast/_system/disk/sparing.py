"""What has a name that ours is about to get is no file of ours: it is given another name, and nothing of it is lost."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from keepfast._system.disk.directories import sync_directory
from keepfast._system.disk.optional import attempt

SPARED = ".replaced"
"""How the names of such files end, before the extension."""


def put_aside(path: Path) -> Path:
    """Give a file or directory another name beside its own, durable before anything else takes that.

    A file has both until then, where its file system has hard links, so that it is never without one.

    Returns:
        The other name.

    Raises:
        OSError: if the operating system refused; it has its own name still.
    """
    for number in itertools.count(1):
        ending = SPARED if number == 1 else f"{SPARED}-{number}"
        other = path.with_name(f"{path.stem}{ending}{path.suffix}")
        if not os.path.lexists(other):
            break
    if path.is_dir():
        path.rename(other)
    else:
        attempt(
            "hard links",
            lambda: os.link(path, other),
            lambda: os.replace(path, other),  # noqa: PTH105  (fault injection in the tests replaces os.replace)
            also=(errno.EMLINK, errno.EXDEV),
        )
    sync_directory(path.parent)
    return other
