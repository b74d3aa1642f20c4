"""How a start of a run ended."""

from __future__ import annotations

import datetime as dt
import signal
from typing import Any, Literal

from keepfast.errors import printable
from keepfast.provenance.secrets import masked_text

How = Literal["finished", "failed", "interrupted", "killed"]

RUNNING = "running"
"""What a start is that has an owner and no end."""

_LONGEST = 2000


def ending(error: BaseException | None, signal_number: int | None, *, interrupted: bool = False) -> dict[str, Any]:
    """Return how a start ended that could tell so itself.

    Args:
        error: what was raised where it ended, or None.
        signal_number: the signal that it ended at, or None.
        interrupted: whether it was left before its end for another reason.
    """
    if signal_number is not None:
        return _ended("interrupted", signal.Signals(signal_number).name)
    if error is None:
        return _ended("interrupted" if interrupted else "finished")
    kind = "failed" if isinstance(error, Exception) else "interrupted"
    text = masked_text(f"{type(error).__qualname__}: {_text_of(error)}".removesuffix(": "))
    return _ended(kind, printable(text[:_LONGEST]))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  (an error whose text cannot be told is told all the same)
        return f"(its text raises {type(broken).__qualname__})"


def killed(last_sign: float | None, *, in_own_process: bool = False) -> dict[str, Any]:
    """Return how a start ended that left without a word.

    Args:
        last_sign: when it last wrote anything, in seconds since the epoch.
        in_own_process: whether that was in this very process, which lives: nobody closed it.
    """
    time = None if last_sign is None else dt.datetime.fromtimestamp(last_sign, dt.UTC).isoformat(timespec="seconds")
    how: How = "interrupted" if in_own_process else "killed"
    return {"how": how, "error": "it was never closed" if in_own_process else None, "time": time}


def _ended(how: How | str, error: str | None = None) -> dict[str, Any]:
    return {"how": how, "error": error, "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
