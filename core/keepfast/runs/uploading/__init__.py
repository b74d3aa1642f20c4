"""Runs whose directory is on an object store: spooled on this machine, and uploaded behind training."""
