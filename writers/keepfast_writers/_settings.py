"""Configurations, as trackers take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepfast.codec import plain


def settings_of(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a configuration, those within others by names that are joined by dots."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from settings_of(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", plain(value)
