"""Model: what makes a `torch.nn.Module` save and load itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import keepfast
from keepfast._system.arguments.guarding import guarded_calls
from keepfast.errors import as_given
from keepfast.migration.saving import space_size
from keepfast_torch.device import parse_device


@guarded_calls("__init__")
class Model(keepfast.Saving):
    """Gives a `torch.nn.Module` the calls `save` and `load`; a mixin, on either side of ``nn.Module``.

    What travels are the parameters and buffers. `load` takes what PyTorch wrote too; its `device` is where the model is
    moved first, as ``Module.to`` takes it, and by default that of the constructor.

    A class that derives from ``Model`` and ``nn.Module`` may give the constructor the spaces of its environment and a
    device. Beside another module, such as ``nn.Linear``, the arguments are that module's.

    Attributes:
        observation_space: the space of observations, or its size; None where it was not given.
        action_space: the space of actions, or its size.
        device: where a load puts the model; None leaves it where it is.

    Example:
        >>> import torch.nn as nn
        >>> class Policy(Model, nn.Module):
        ...     def __init__(self, observation_space, action_space, device=None):
        ...         super().__init__(observation_space, action_space, device)
        ...         self.net = nn.Linear(self.num_observations, self.num_actions)
        >>> path = Policy(3, 2).save("policy.pt")
        >>> Policy(3, 2, device="cpu").load(path).loaded
        ['module.net.weight', 'module.net.bias']
    """

    observation_space: Any = None
    action_space: Any = None
    device: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = type(self).__mro__
        following = next(kind for kind in own[own.index(Model) + 1 :] if "__init__" in kind.__dict__)
        if following not in (nn.Module, object):
            super().__init__(*args, **kwargs)
            return
        if isinstance(self, nn.Module) and "_parameters" not in self.__dict__:
            nn.Module.__init__(self)
        self._take(*args, **kwargs)

    def _take(self, observation_space: Any = None, action_space: Any = None, device: Any = None) -> None:
        if device is not None:
            self.device = parse_device(device)
        for space in (observation_space, action_space):
            if isinstance(space, torch.Tensor | nn.Module):
                raise keepfast.InvalidValue(f"`{as_given(space)}` is no space; allowed: a space, a number, a shape")
        if observation_space is not None:
            self.observation_space = observation_space
        if action_space is not None:
            self.action_space = action_space

    @property
    def num_observations(self) -> int | None:
        """Return the number of elements of an observation, or None where no space was given."""
        return space_size(self.observation_space)

    @property
    def num_actions(self) -> int | None:
        """Return the number of elements of an action, or None where no space was given."""
        return space_size(self.action_space)

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
        """Load the model's state from a file, onto the device of its constructor; see `keepfast.load`."""
        device = self.__dict__.get("device") if device is None else device
        return super().load(path, device, modules=modules, strict=strict, cast=cast, rename=rename)
