"""Memory that arrays lie in: larger than the machine has, and kept for the next copy."""
