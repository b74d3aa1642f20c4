"""The built-in checkpoint formats, a file each."""
