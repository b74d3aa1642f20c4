"""Warnings point at the user's own line."""

from __future__ import annotations

from typing import Any

import pytest

from keepfast import KeepfastWarning
from keepfast._system.warnings import warn


def test_a_warning_points_at_the_line_that_led_to_it() -> None:
    """However deep in our packages it arises: the first line of somebody else's is what is shown."""
    inner: dict[str, Any] = {"__name__": "keepfast_torch.inner", "warn": warn}
    exec("def deep(): warn('look here')", inner)
    outer: dict[str, Any] = {"__name__": "keepfast.outer", "deep": inner["deep"]}
    exec("def public(): deep()", outer)
    with pytest.warns(KeepfastWarning, match="look here") as told:
        outer["public"]()
    assert told[0].filename == __file__
