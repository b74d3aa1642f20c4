"""Memories as Minari datasets."""
