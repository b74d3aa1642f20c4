"""The fixtures of the tests of the Hub."""

from tests.core.hub.hub_fixtures import hub, offline, run

__all__ = ["hub", "offline", "run"]
