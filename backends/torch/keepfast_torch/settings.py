"""What the layers of a network are and how they are set, and what it makes of observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keepfast import InvalidValue

_TOLD = ("eps", "momentum")


def settings_of(module: Any) -> dict[str, dict[str, Any]]:
    """Return the kind and the settings of each layer by its path; nothing of what is no network."""
    if not isinstance(module, torch.nn.Module):
        return {}
    return {path: _of(layer) for path, layer in module.named_modules()}


def _of(layer: torch.nn.Module) -> dict[str, Any]:
    kind = type(layer).__name__
    told: dict[str, Any] = {"kind": kind}
    told |= {name: value for name in _TOLD if isinstance(value := getattr(layer, name, None), float)}
    if isinstance(layer, torch.nn.RMSNorm) and layer.eps is None:
        told["eps"] = torch.finfo(torch.float32).eps
    if isinstance(layer, torch.nn.GELU):
        told = {"kind": "gelu", "approximate": layer.approximate == "tanh"}
    return told


def outputs_of(module: Any, observations: Any) -> NDArray[Any]:
    """Return what a network makes of observations in evaluation mode, the first of several outputs.

    Raises:
        InvalidValue: if it is no network.
    """
    if not isinstance(module, torch.nn.Module):
        raise InvalidValue(
            f"a {type(module).__qualname__} cannot be called to check its outputs; give the function that does it as "
            "the third element of `check`"
        )
    place = next(iter(module.parameters()), torch.zeros(()))
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        with torch.no_grad():
            made = module(torch.as_tensor(np.asarray(observations)).to(place.device))
    finally:
        for layer in training:
            layer.training = True
    while isinstance(made, tuple | list):
        made = made[0]
    return made.detach().cpu().numpy()  # type: ignore[no-any-return]
