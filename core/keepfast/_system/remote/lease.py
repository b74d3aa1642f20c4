"""Who owns a run on an object store: an object that tells it, renewed for as long as the owner lives."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any, final

from keepfast._system.remote.store import Store
from keepfast._system.warnings import announce
from keepfast.errors import DirectoryError

LEASE = ".keepfast.owner"

VALID_SECONDS = 300.0
"""For how long a run belongs to an owner that is not heard of."""

_RENEW_SECONDS = 60.0


@final
class Lease:
    """The object that tells who owns a run.

    It is made by a conditional put where the store has one. What has lapsed is taken over, which no store does in one
    step: of two who do so at once, one notices at its next renewal, and stops.

    Args:
        store: the run's objects.
        token: what this machine signed with before, "" for nothing.
    """

    def __init__(self, store: Store, token: str) -> None:
        self._store, self._before = store, token
        self.token = secrets.token_hex(16)
        self._renewed = 0.0

    def take(self) -> None:
        """Become the owner.

        Raises:
            DirectoryError: if another owns the run, and told so within minutes; names host and process.
            RemoteError: if the store refuses.
        """
        if not self._store.create(LEASE, self._text()):
            told = self._told()
            ours = told.get("token") in (self._before, self.token)
            if told and not ours and _is_valid(told):
                raise DirectoryError(_taken(self._store, told))
            if told and not ours:
                announce(f"`{self._store.address}` is taken over from {_who(told)}, who was not heard of since")
            self._store.write(LEASE, self._text())
            if (told := self._told()).get("token") != self.token:
                raise DirectoryError(_taken(self._store, told))
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Tell that the owner lives, where it is time to.

        Raises:
            DirectoryError: if another has taken the run over.
            RemoteError: if the store refuses.
        """
        if time.monotonic() - self._renewed < _RENEW_SECONDS:
            return
        told = self._told()
        if told and told.get("token") != self.token:
            raise DirectoryError(
                f"`{self._store.address}` was taken over by {_who(told)}: nothing of this process is uploaded any more"
            )
        self._store.write(LEASE, self._text())
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Let others have the run."""
        if self._told().get("token") == self.token:
            self._store.remove([LEASE])

    def _told(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            return _parsed(self._store.read(LEASE))
        return {}

    def _text(self) -> bytes:
        about = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        return json.dumps(about).encode()


def leased_until(content: bytes) -> float:
    """Return until when somebody owns a run, by its lease, in seconds since the epoch."""
    return _time(_parsed(content)) + VALID_SECONDS


def _parsed(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(content)
        return told if isinstance(told, dict) else {}
    return {}


def _is_valid(told: Mapping[str, Any]) -> bool:
    return abs(time.time() - _time(told)) < VALID_SECONDS


def _time(told: Mapping[str, Any]) -> float:
    with contextlib.suppress(OverflowError):
        time_told = told.get("time")
        return float(time_told) if isinstance(time_told, int | float) else 0.0
    return 0.0


def _who(told: Mapping[str, Any]) -> str:
    since = max(0.0, time.time() - _time(told))
    return f"process {told.get('pid', 'unknown')} on {told.get('host', 'unknown')}, heard of {since:.0f} seconds ago"


def _taken(store: Store, told: Mapping[str, Any]) -> str:
    return (
        f"`{store.address}` is in use by {_who(told)}, and two runs that write into one place would lose what the "
        f"other writes. Wait for it to end, or end it; one that was killed is passed over {VALID_SECONDS:g} seconds "
        "after it was last heard of; or give this run another `experiment_name`"
    )
