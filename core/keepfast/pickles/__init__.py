"""Pickles, read by a machine of our own: nothing of them runs, and what they ask for is bounded by their size."""
