"""Model: a flax.linen module together with its variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import flax.linen

import keepfast


@final
class Model(keepfast.Saving):
    """Holds a flax.linen module and its variables, so that they can be called, saved and loaded as one.

    Keepfast takes it wherever it takes a module. What travels are the variables; a restore gives `variables` a new
    value, and a training step does the same. The `device` of `load` is a ``jax.Device``, a ``jax.sharding.Sharding`` or
    a name such as ``"cuda:1"``, for all arrays.

    Attributes:
        module: the linen module, which has no state of its own.
        variables: its variables by collection, as ``module.init`` returns them: ``{"params": ...}``.

    Args:
        module: the linen module.
        variables: its variables.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> module = nn.Dense(2)
        >>> model = Model(module, module.init(jax.random.key(0), jnp.zeros((1, 3))))
        >>> model.apply(jnp.zeros((5, 3))).shape
        (5, 2)
    """

    def __init__(self, module: flax.linen.Module, variables: Mapping[str, Any]) -> None:
        self.module = module
        self.variables = variables

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with the present variables.

        Args:
            *args: what the module's ``__call__``, or the ``method`` named, takes.
            **kwargs: the same, and what ``module.apply`` takes beside it: ``mutable``, ``rngs``, ``method``.

        Returns:
            What ``module.apply`` returns; with ``mutable``, also the collections that changed, which are not kept here.
        """
        return self.module.apply(self.variables, *args, **kwargs)
