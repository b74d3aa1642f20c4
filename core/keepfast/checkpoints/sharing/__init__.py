"""Separate files of modules that did not change: checkpoints share them."""
