"""Kinds of layers that need more than a row in a table."""
