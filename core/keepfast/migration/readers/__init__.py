"""Readers of the checkpoints of other libraries, a library a file, each with a row in ``plugins/builtin.py``."""
