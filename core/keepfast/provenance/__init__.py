"""Where a start of a run comes from: what it was started by, on which machine, of which code, and how it ended."""
