"""Which of several processes a run is written by: the first of a distributed run, and one alone."""
