"""Curves as pictures: in the terminal, as PNG and SVG."""
