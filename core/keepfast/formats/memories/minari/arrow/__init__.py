"""Datasets that Minari has as Arrow or Parquet: a directory for each episode, with a table of its steps."""
