"""Files of a run for trackers that keep files."""
