"""The fixtures of the tests of the Hub."""

from tests.core.hub.hub_fixtures import hub, run

__all__ = ["hub", "run"]
