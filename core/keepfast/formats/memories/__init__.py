"""The built-in memory formats, a file each."""
