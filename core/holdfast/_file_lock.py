"""Advisory locks on open files, which end with their holder however it ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":

    def lock(descriptor: int, *, wait: bool) -> None:
        """Do nothing: Windows opens such files for one process at a time."""

else:
    import fcntl

    def lock(descriptor: int, *, wait: bool) -> None:
        """Lock an open file or directory against other processes until it is closed.

        Args:
            descriptor: the open file.
            wait: whether to wait for another holder.

        Raises:
            BlockingIOError: if there is another holder and `wait` does not hold.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
