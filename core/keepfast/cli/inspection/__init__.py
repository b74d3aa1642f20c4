"""What something is: a file or a directory of any kind, and the machine and what is installed on it."""
