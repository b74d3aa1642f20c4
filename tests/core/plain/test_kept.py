"""What agents keep beside networks comes back where no framework is in play."""

from __future__ import annotations

from keepfast.testing import KeptContract


class TestKeptAlone(KeptContract):
    """Every kind, without anything beside it."""
