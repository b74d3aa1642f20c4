"""Addresses are of the schemes that plugins know; everything else is a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfast.errors import InvalidValue
from keepfast.plugins.locations import writable


@pytest.mark.parametrize("address", ["hf://org/name/agent.pt", "hf:/org/name/agent.pt", Path("hf://org/name/agent.pt")])
def test_an_address_is_not_written_to(address: str | Path) -> None:
    """The error says how to get a file there."""
    with pytest.raises(InvalidValue, match=r"`hf://org/name/agent\.pt` is no place on this machine.*hub\.push"):
        writable(address)


@pytest.mark.parametrize("path", ["agent.pt", "C:/runs/agent.pt", "strange:/agent.pt", "hf/agent.pt"])
def test_a_path_is_written_to(path: str) -> None:
    """Also where it looks like an address of a scheme that nobody knows."""
    assert writable(path) == Path(path)
