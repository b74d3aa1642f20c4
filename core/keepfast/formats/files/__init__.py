"""Containers: files that several formats are made of."""
