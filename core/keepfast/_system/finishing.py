"""Doing all that the end of something takes, whatever goes wrong with parts of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


def finish(*steps: Callable[[], object], after: BaseException | None = None) -> None:
    """Do every step, whatever the ones before raise; the first error is the one to be seen, and notes the others.

    Args:
        steps: done in this order.
        after: the error that is on its way already, as the end of a ``with`` statement is told it. It goes on and
            none is raised here, unless it is one that ends the program, which might tell of nothing.

    Raises:
        BaseException: what a step raised first, unless there is such an error.
    """
    first: BaseException | None = after if isinstance(after, Exception) else None
    for step in steps:
        try:
            step()
        except BaseException as error:  # noqa: BLE001  (raised below, or noted with the one that is)
            if first is None:
                first = error
            else:
                first.add_note(f"and then: {type(error).__name__}: {error}")
    if first is not None and first is not after:
        raise first


@contextlib.contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Have what was begun undone where an error leaves the context, which goes on."""
    try:
        yield
    except BaseException:
        undo()
        raise
