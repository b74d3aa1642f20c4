"""Tensors of PyTorch that an environment keeps, without a line of PyTorch where there are none."""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

from keepfast.plain.generators import of_torch
from keepfast.tree import Tree

_SHAPES = ("device", "dtype", "Size", "layout", "memory_format")


def captured(value: Any) -> Tree | None:
    """Return what a tensor or a generator of PyTorch holds, on the host; None for anything else."""
    kind: type = type(value)
    if not _is_of_torch(kind):
        return None
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(getattr(type(value), "__module__", None), str):
        return None
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, torch.Generator):
        return {"kind": "torch generator", "state": value.get_state().numpy()}
    if type(value).__module__ == "torch" and type(value).__name__ in _SHAPES:
        return {"kind": "fixed"}
    return None


@functools.lru_cache(maxsize=256)
def _is_of_torch(kind: type) -> bool:
    return any(str(each.__module__).partition(".")[0] == "torch" for each in kind.__mro__)


def _tensor(value: Any) -> Tree | None:
    try:
        array = np.asarray(value.detach().cpu().numpy())
    except (TypeError, RuntimeError):  # of a dtype that NumPy has not, or without memory of its own
        return None
    return {"kind": "tensor", f"{array.dtype.str}{array.shape}": array}


def restored(own: Any, array: Any) -> Any:
    """Return a tensor as it was saved: the own one, where it can hold that, for others may have it too."""
    torch = sys.modules["torch"]
    saved = torch.from_numpy(np.array(array))
    if not isinstance(own, torch.Tensor):
        return saved
    if own.shape != saved.shape or own.dtype != saved.dtype or own.is_inference():
        return saved.to(own.device)
    own.detach().copy_(saved)
    return own


def continued(own: Any, array: Any) -> Any:
    """Have a generator of PyTorch go on from a state, one on the host where there is none yet."""
    torch = sys.modules["torch"]
    generator = own if isinstance(own, torch.Generator) else torch.Generator()
    generator.set_state(torch.from_numpy(of_torch(np.array(array))))
    return generator


def is_tensordict(value: Any) -> bool:
    """Say whether an object is a TensorDict."""
    return type(value).__module__.startswith("tensordict.") and hasattr(value, "batch_size")
