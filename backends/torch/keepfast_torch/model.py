"""Model: what makes a `torch.nn.Module` save and load itself."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path

import keepfast


class Model(abc.ABC):  # noqa: B024  (there is nothing a model must add: it is a mixin)
    """Gives a `torch.nn.Module` the calls `save` and `load`; a mixin, on either side of ``nn.Module``.

    Example:
        >>> import torch.nn as nn
        >>> class Policy(Model, nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = nn.Linear(3, 2)
        >>> path = Policy().save("policy.pt")
        >>> Policy().load(path).loaded
        ['module.net.weight', 'module.net.bias']
    """

    def save(self, path: str | Path) -> Path:
        """Save the parameters and buffers, durable when this returns; see `keepfast.save`.

        Args:
            path: where to; the extension chooses the format: ``.pt`` or ``.safetensors``.

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
        device: str | object | None = None,
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> keepfast.LoadReport:
        """Load the parameters and buffers from a file; see `keepfast.load`.

        Args:
            path: a file that `save`, an agent or PyTorch wrote, on this or another device.
            device: where the model is moved first, as ``Module.to`` takes it; None leaves it where it is.
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
