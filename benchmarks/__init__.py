"""Keepfast beside its peers, measured as ratios within one run: ``python -m benchmarks``.

`benchmarks.cases` has one file for each benchmark; a new benchmark is a new file there. Its function ``rows`` yields
rows (`benchmarks.measure.Row`), and the first line of its docstring says what it measures. Each file runs in a process
of its own, so that nothing one library leaves behind slows another down.
"""
