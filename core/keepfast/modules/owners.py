"""Modules that are replaced as training goes on, and that an agent names by what it has at first."""

from __future__ import annotations

from typing import Any

from keepfast.errors import UnsupportedModule
from keepfast.modules.parts import Attribute, Attributes, Item, Module
from keepfast.plugins.backends import recognize


def name_places(owner: object, modules: dict[str, Module]) -> None:
    """Put in the place of each module that is replaced the attribute of its owner that holds it, where there is one.

    ``agent.checkpoint_modules["optimizer"] = agent.optimizer`` then means what the agent has there later, too. Where
    several attributes hold it, the one with the module's name is meant.

    Args:
        owner: the object whose attributes are looked through.
        modules: its modules by name; changed in place.
    """
    for name, module in modules.items():
        if isinstance(module, Attribute | Attributes | Item) or not _is_replaced(module):
            continue
        holding = [each for each, value in vars(owner).items() if value is module]
        if len(holding) == 1 or name in holding:
            modules[name] = Attribute(owner, name if name in holding else holding[0])


def _is_replaced(module: Any) -> bool:
    """Say whether a restore makes another object, of which each is itself; a number or a text is not."""
    if (
        module is None
        or (isinstance(module, tuple) and not module)
        or isinstance(module, bool | int | float | complex | str | bytes)
    ):
        return False
    try:
        backend = recognize(module)
        return backend is not None and backend.replaces(module)
    except UnsupportedModule:
        return False
