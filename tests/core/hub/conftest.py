"""The fixtures of the tests of the Hub, and the command line."""

from tests.core.cli.conftest import call
from tests.core.hub.hub_fixtures import hub, offline, run

__all__ = ["call", "hub", "offline", "run"]
