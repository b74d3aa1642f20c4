"""How plugins are found: what they may provide, the registry of what they do, and the built-in ones.

Example:
    >>> from keepfast import plugins
    >>> "jsonl" in plugins.registry().names("writer")
    True
"""

from __future__ import annotations

from keepfast.plugins.discovery import HOOKS, Broken, PluginRegistry, Provided, registry
from keepfast.plugins.lazy import lazy

__all__ = ["HOOKS", "Broken", "PluginRegistry", "Provided", "lazy", "registry"]
