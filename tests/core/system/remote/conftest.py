"""A store, and a module that counts its steps."""

from tests.core.stores import bucket, counter, elsewhere, until

__all__ = ["bucket", "counter", "elsewhere", "until"]
