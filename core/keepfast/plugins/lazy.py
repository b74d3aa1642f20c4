"""Names a factory that is imported when it is called."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any, final

from keepfast.errors import MissingDependency


@final
class lazy:  # noqa: N801  (used like a function, in the tables of the plugins)
    """Names a class or function that is imported only when it is called.

    Args:
        target: ``package.module:attribute``.
        requires: the packages, by import name, that must be there; checked without importing them.
        extra: the extra of Keepfast that installs them, for the error where they are missing.

    Example:
        >>> factory = lazy("collections:OrderedDict", requires=("json",))
        >>> factory(a=1)
        OrderedDict({'a': 1})
    """

    def __init__(self, target: str, *, requires: tuple[str, ...] = (), extra: str | None = None) -> None:
        self.target, self.requires, self.extra = target, requires, extra

    def missing(self) -> tuple[str, ...]:
        """Return the required packages that are not installed."""
        return tuple(package for package in self.requires if importlib.util.find_spec(package) is None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import the target and call it.

        Raises:
            MissingDependency: if a required package is not installed; says what to run.
        """
        return self.resolve()(*args, **kwargs)

    def resolve(self) -> Any:
        """Import the target and return it.

        Raises:
            MissingDependency: if a required package is not installed; says what to run.
        """
        module, _, attribute = self.target.partition(":")
        if absent := self.missing():
            raise MissingDependency(f"`{attribute}` needs {install_hint(absent, self.extra)}")
        return getattr(importlib.import_module(module), attribute)

    def __repr__(self) -> str:
        return f"lazy({self.target!r})"


def install_hint(packages: tuple[str, ...], extra: str | None) -> str:
    """Return that packages are not installed, and the command that installs them."""
    names = ", ".join(f"`{package}`" for package in packages)
    command = f'pip install "keepfast[{extra}]"' if extra else f"pip install {' '.join(packages)}"
    verb = "which is" if len(packages) == 1 else "which are"
    return f"{names}, {verb} not installed; run: {command}"
