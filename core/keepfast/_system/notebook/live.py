"""Something that is shown in a notebook's cell and changes there."""

from __future__ import annotations

import importlib
import sys
from typing import Any, final


def in_notebook() -> bool:
    """Say whether the process is that of a notebook, whose cells show HTML; a prompt of IPython is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@final
class Live:
    """A place in the cell that runs when this is made; what is shown there is replaced.

    Args:
        content: what is shown at first, as HTML.
    """

    def __init__(self, content: str) -> None:
        self._handle: Any = importlib.import_module("IPython.display").display(_Html(content), display_id=True)

    def show(self, content: str) -> None:
        """Show this in the place of what was there, from any thread."""
        if self._handle is not None:
            self._handle.update(_Html(content))


@final
class _Html:
    """HTML as notebooks take it of an object."""

    def __init__(self, content: str) -> None:
        self._content = content

    def _repr_html_(self) -> str:
        return self._content
