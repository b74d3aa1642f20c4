"""The way of a module: registered, captured, matched with a file, restored."""
