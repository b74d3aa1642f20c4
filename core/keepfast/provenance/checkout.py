"""The code that a run was started from, where it lies in a checkout of git.

Commit and branch are read from git's own files, which takes no time; what differs from the commit is asked of git.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, final

from keepfast.errors import shown
from keepfast.provenance.secrets import masked_text

MOST_BYTES = 1 << 16
"""How much of the difference to the commit is kept."""

MOST_NAMES = 200
"""How many names of untracked files are kept."""

_LISTED_BYTES = 1 << 20
"""How much of git's list of untracked files is read."""

_DIGEST = re.compile(r"[0-9a-f]{40,64}")

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "--no-pager", "--no-optional-locks")
"""Options with which git only reads, and starts no program that a checkout names."""


def root_of_code() -> Path | None:
    """Return the checkout that the program lies in, or else the working directory; None where neither is in one."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    places = [Path(script).parent] if isinstance(script, str) else []
    with contextlib.suppress(OSError):
        places = [place.absolute() for place in [*places, Path()]]
        return next((at for place in places for at in (place, *place.parents) if (at / ".git").exists()), None)
    return None


def commit_of(root: Path) -> dict[str, Any]:
    """Return the commit and the branch of a checkout, each None where there is none."""
    folder = _git_folder(root)
    head = _line(folder / "HEAD")
    branch = head.removeprefix("ref: refs/heads/") if head.startswith("ref: ") else None
    commit = _commit_at(folder, head.removeprefix("ref: ")) if branch is not None else head
    return {
        "root": str(root),
        "commit": commit if _DIGEST.fullmatch(commit) else None,
        "branch": None if branch is None else shown(branch),
    }


def _git_folder(root: Path) -> Path:
    """Return where git keeps what it knows of a checkout; in a worktree or submodule a file tells."""
    told = _line(root / ".git")
    return root / told.removeprefix("gitdir: ") if told.startswith("gitdir: ") else root / ".git"


def _line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip()
    except OSError:
        return ""


def _commit_at(folder: Path, name: str) -> str:
    shared = folder / common if (common := _line(folder / "commondir")) else folder
    for place in (folder, shared):
        if (commit := _line(place / name)) and ".." not in name:
            return commit
    with contextlib.suppress(OSError), (shared / "packed-refs").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            commit, _, named = line.strip().partition(" ")
            if named == name:
                return commit
    return ""


@final
class Git:
    """Asks git what differs in a checkout, from any thread; another may end that.

    Args:
        root: the checkout.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    def end(self) -> None:
        """Ask no more, and let go of what is being asked."""
        with self._lock:
            self._is_ended = True
            if self._running is not None:
                self._running.kill()

    def changes(self) -> dict[str, Any]:
        """Return what differs from the commit, and what is not tracked, both up to a length and without secrets."""
        if shutil.which("git") is None:
            return {"problem": "git is not installed, so nothing is known of changes"}
        diff, whole = self._told(MOST_BYTES, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--")
        names, listed = self._told(_LISTED_BYTES, "ls-files", "-z", "--others", "--exclude-standard", "--directory")
        if diff is None or names is None:
            return {"problem": "git did not tell what differs from the commit"}
        untracked = [shown(name) for name in names.split("\0") if name]
        return {
            "dirty": bool(diff),
            "diff": masked_text(diff),
            "diff_is_whole": whole,
            "untracked": untracked[:MOST_NAMES],
            "untracked_is_whole": listed and len(untracked) <= MOST_NAMES,
        }

    def _told(self, most: int, *arguments: str) -> tuple[str | None, bool]:
        """Return what git prints, up to a number of bytes, and whether that is all; None where it fails."""
        try:
            process = self._start(arguments)
        except (OSError, ValueError):
            return None, False
        if process is None or process.stdout is None:
            return None, False
        with process:
            told = process.stdout.read(most + 1)
            if len(told) > most:
                process.kill()
        text = told[:most].decode("utf-8", "replace")
        whole = len(told) <= most
        return (None if self._is_ended or (whole and process.returncode) else text), whole

    def _start(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        with self._lock:
            if self._is_ended:
                return None
            self._running = subprocess.Popen(  # noqa: S603  (git itself, with arguments of our own)
                ["git", "-C", str(self._root), *_SAFE, *arguments],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            )
            return self._running
