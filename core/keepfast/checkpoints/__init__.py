"""Checkpoints on disk: written, indexed, found, retained, verified."""
