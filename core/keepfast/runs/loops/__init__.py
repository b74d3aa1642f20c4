"""Loops that run compiled, and what an experiment does for them."""
