"""A store, and a module that counts its steps."""

from tests.core.stores import bucket, counter, elsewhere

__all__ = ["bucket", "counter", "elsewhere"]
