"""A store, and a module that counts its steps."""

from tests.core.cli.conftest import call
from tests.core.stores import bucket, counter, elsewhere

__all__ = ["bucket", "call", "counter", "elsewhere"]
