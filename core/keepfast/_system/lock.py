"""Advisory locks on open files, which end with their holder however it ends."""

from __future__ import annotations

import contextlib
import errno
import sys

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What network file systems without locks answer; a checkpoint unlocked is better than none."""

if sys.platform == "win32":

    def lock(descriptor: int, *, wait: bool) -> bool:  # noqa: ARG001
        """Do nothing: Windows opens such files for one process at a time."""
        return True

    def unlock(descriptor: int) -> None:
        """Do nothing, as above."""

else:
    import fcntl

    def lock(descriptor: int, *, wait: bool) -> bool:
        """Lock an open file or directory against other processes until it is closed.

        Args:
            descriptor: the open file.
            wait: whether to wait for another holder.

        Returns:
            Whether it is locked now; False where its file system has no locks.

        Raises:
            BlockingIOError: if there is another holder and `wait` does not hold.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            raise
        return True

    def unlock(descriptor: int) -> None:
        """Unlock an open file, also where a fork gave a child a copy: closing alone would leave the lock to it."""
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
