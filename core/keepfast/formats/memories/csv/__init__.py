"""Memories as comma-separated values."""
