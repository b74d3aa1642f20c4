"""JaxPeers: the processes of ``jax.distributed`` talk over its coordinator, which no computation waits for."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, final

import jax
from jax._src import distributed  # nothing public leads to the coordinator; Orbax goes this way too

from keepfast import Peers, WriteFailed

_conversations = itertools.count()


@final
class JaxPeers(Peers):
    """A conversation over the keys and values that the coordinator keeps."""

    def __init__(self) -> None:
        self.rank, self.size = jax.process_index(), jax.process_count()
        self._name = f"keepfast/{next(_conversations)}"
        self._number = 0
        self._written: list[str] = []
        self._client: Any = distributed.global_state.client

    def share(self, value: Any) -> Any:
        """Return what the first process gives."""
        key = self._next()
        with _told():
            if self.first:
                self._say(key, value)
                return value
            return self._hear(key)

    def gather(self, value: Any) -> list[Any] | None:
        """Return, in the first process, what each gives."""
        key, past = self._next(), self._written
        with _told():
            self._written = []
            self._say(f"{key}/{self.rank}", value)
            if not self.first:
                return None
            said = [self._hear(f"{key}/{rank}") for rank in range(self.size)]
            for old in past:  # whoever came here has heard all that was said before
                self._client.key_value_delete(old)
        return said

    def _next(self) -> str:
        self._number += 1
        return f"{self._name}/{self._number}"

    def _say(self, key: str, value: Any) -> None:
        self._client.key_value_set(key, json.dumps(value))
        self._written.append(key)

    def _hear(self, key: str) -> Any:
        return json.loads(self._client.blocking_key_value_get(key, int(self.patience * 1000)))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Have a peer that is gone, or silent for too long, be an error of storing."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise WriteFailed(
            f"the processes of this run cannot agree on a checkpoint, since one is gone or does not answer: {error}"
        ) from error


def peers() -> JaxPeers | None:
    """Return a conversation of the processes of ``jax.distributed``, or None where this one is alone."""
    return JaxPeers() if distributed.global_state.client is not None and jax.process_count() > 1 else None
