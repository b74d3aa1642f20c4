"""From steps to episodes."""
