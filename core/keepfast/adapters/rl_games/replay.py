"""The replay buffer of rl_games' SAC: as many rows of it as have samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from keepfast.adapters.environments import captured, restored
from keepfast.errors import LoadMismatch
from keepfast.plain.state import Kept

_TENSORS = ("obses", "next_obses", "actions", "rewards", "dones")


@final
class ReplayBuffer(Kept):
    """Keeps the rows of a buffer that were written, and where the next one goes.

    Args:
        buffer: the buffer.
    """

    holds_samples: ClassVar[bool] = True
    """Whether it is as large as a memory, and has its own checkpoint interval."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def state_dict(self) -> dict[str, Any]:
        """Return the written rows, shared with the buffer."""
        buffer = self._buffer
        rows = buffer.capacity if buffer.full else buffer.idx
        tensors = {name: captured(getattr(buffer, name)[:rows]) for name in _TENSORS}
        return {"idx": buffer.idx, "full": buffer.full, "capacity": buffer.capacity, "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the rows into the buffer.

        Raises:
            LoadMismatch: if it is of another size, or of other spaces.
        """
        buffer = self._buffer
        if state["capacity"] != buffer.capacity:
            raise LoadMismatch(
                f"the file has a replay buffer of {state['capacity']} rows; this one has {buffer.capacity}"
            )
        saved = {name: restored(None, state["tensors"][name]) for name in _TENSORS}
        for name, rows in saved.items():
            own = getattr(buffer, name)
            if own.shape[1:] != rows.shape[1:] or own.dtype != rows.dtype:
                raise LoadMismatch(
                    f"`{name}` of the replay buffer has rows of {own.dtype} {tuple(own.shape[1:])}, the file of "
                    f"{rows.dtype} {tuple(rows.shape[1:])}"
                )
        for name, rows in saved.items():
            getattr(buffer, name)[: len(rows)] = rows
        buffer.idx, buffer.full = int(state["idx"]), bool(state["full"])
