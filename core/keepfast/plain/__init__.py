"""What needs no framework: numbers, NumPy arrays, random generators, deques, and containers of them."""
