"""A page on runs that people send around: one file that needs nothing else."""
