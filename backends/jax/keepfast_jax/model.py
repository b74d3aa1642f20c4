"""Model: a flax.linen module together with its variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import flax.linen

import keepfast


@final
class Model:
    """Holds a flax.linen module and its variables, so that they can be called, saved and loaded as one.

    Keepfast takes it wherever it takes a module. What travels are the variables; a restore gives `variables` a new
    value, and a training step does the same.

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

    def save(self, path: str | Path) -> Path:
        """Save the variables, durable when this returns; see `keepfast.save`.

        Args:
            path: where to; the extension chooses the format: ``.safetensors`` or ``.msgpack``.

        Returns:
            The path.

        Raises:
            ConfigError: if the extension is of no known format.
            WriteFailed: if the operating system refused; what was there before is untouched.
        """
        return keepfast.save(self, path)

    def load(
        self,
        path: str | Path,
        device: Any = None,
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> keepfast.LoadReport:
        """Load the variables from a file; see `keepfast.load`.

        Args:
            path: a file that `save` or an agent wrote, on this or another device.
            device: a ``jax.Device``, a ``jax.sharding.Sharding`` or a name such as ``"cuda:1"``, for all arrays; None
                leaves each where the model has it.
            modules: the name of the module to take out of a file that holds several, in a list: ``["policy"]``.
            strict: whether any difference is an error; else what fits is loaded.
            cast: whether another dtype is converted.
            rename: file path -> own path; a path also stands for all below it.

        Returns:
            What was loaded and what was not.

        Raises:
            LoadMismatch: if anything differs (when strict) or nothing matches; lists everything, nothing was loaded.
            CorruptCheckpoint: if the file is damaged.
            NotFound: if there is no such file.
        """
        return keepfast.load(self, path, device, modules=modules, strict=strict, cast=cast, rename=rename)
