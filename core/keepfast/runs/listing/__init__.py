"""Many runs at once: their names and tags, an index of them, which are chosen, and how two differ."""
