"""Loops that live wholly under jit."""
