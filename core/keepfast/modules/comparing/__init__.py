"""What a file holds and what modules hold, entry by entry."""
