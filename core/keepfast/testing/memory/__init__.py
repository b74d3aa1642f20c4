"""The contracts of memories, a part of what they promise in each file."""
