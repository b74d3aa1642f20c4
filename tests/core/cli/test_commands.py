"""Every command is one that the suites of both backends run."""

from __future__ import annotations

from tests.both_backends.commands import TABLE, commands


def test_every_command_is_in_the_table() -> None:
    """A new one is a row, called on a real run in a narrow terminal, in a wide one, and piped."""
    assert set(commands()) == set(TABLE)
