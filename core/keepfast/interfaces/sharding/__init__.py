"""What is spread over several processes: arrays of which each has a part, and formats that all write together."""
