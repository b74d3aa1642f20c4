"""Agents of skrl, of both its lines, on PyTorch and on JAX."""
