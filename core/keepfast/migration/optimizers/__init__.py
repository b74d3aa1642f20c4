"""States of optimizers, between torch.optim and optax: on NumPy trees, with neither of them installed."""
