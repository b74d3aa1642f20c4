"""What the command line tells of runs, a command a file."""
