"""Model: what makes a `torch.nn.Module` save and load itself."""

from __future__ import annotations

import keepfast


class Model(keepfast.Saving):
    """Gives a `torch.nn.Module` the calls `save` and `load`; a mixin, on either side of ``nn.Module``.

    What travels are the parameters and buffers. `load` takes what PyTorch wrote too; its `device` is where the model is
    moved first, as ``Module.to`` takes it.

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
