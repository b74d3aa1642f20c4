"""Learning-rate schedulers: what is stored of them, and what a file says of one, held against it.

A scheduler of the user's may hold what no file can: a function, an object that is called, another scheduler, the
optimizer. It is answered as PyTorch's own LambdaLR does it: of a function nothing is stored, and the scheduler's own
stays; of an object its attributes are. What a scheduler that wraps another holds of it is that one's state.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from keepfast import Mismatch
from keepfast.tree import Tree, describe, items, rebuild
from keepfast_torch.containers import like, plain, unlike

_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, functools.partial, type)

_TOLERATED = frozenset(
    {
        # Only in some versions of PyTorch.
        "_get_lr_called_within_step",
        "_is_initial",
        "_last_lr",
        "default_min_lr",
        "verbose",
        # Only where the momentum is cycled too, which is an option that travels with the state.
        "base_momentums",
        "max_momentums",
        "use_beta1",
    }
)
"""The entries that may be on one side only."""


def is_scheduler(module: object) -> bool:
    """Say whether an object is a scheduler: by its class, or since it steps an optimizer and clears no gradients."""
    if isinstance(module, LRScheduler):
        return True
    steps = callable(getattr(module, "step", None)) and not hasattr(module, "zero_grad")
    return steps and isinstance(getattr(module, "optimizer", None), Optimizer)


def capture(scheduler: Any) -> Tree:
    """Return the state of a scheduler, with what can be stored of what it holds besides."""
    return plain(scheduler.state_dict(), stand_in=_stored)


def _stored(part: Any) -> Any:
    """Return what is stored of a part of a scheduler's state that is no leaf of a tree; or the part itself."""
    if isinstance(part, (*_FUNCTIONS, Optimizer)):
        return None
    if isinstance(part, LRScheduler):
        return part.state_dict()
    return dict(vars(part)) if _is_called(part) else part


def _is_called(part: Any) -> bool:
    """Say whether a part is an object that is called, as a function would be, and has a state of its own."""
    known = isinstance(part, (torch.Tensor, torch.nn.Module, LRScheduler, Optimizer, *_FUNCTIONS))
    return callable(part) and hasattr(part, "__dict__") and not known


def scheduled(scheduler: Any, steps: int) -> tuple[Tree, list[float]] | None:
    """Return the state of a scheduler after so many steps, and the rates then; None where more tells them."""
    now = getattr(scheduler, "last_epoch", None)
    try:
        scheduler.last_epoch = steps
        if isinstance(scheduler, LambdaLR):
            factors = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            rates = [float(rate * factor(steps)) for rate, factor in factors]
        elif callable(closed := getattr(scheduler, "_get_closed_form_lr", None)):
            rates = [float(rate) for rate in closed()]
        else:
            return None
    finally:
        scheduler.last_epoch = now
    return {**capture(scheduler), "last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates}, rates


def resembling(own: Any, saved: Tree, device: Any = None) -> Any:
    """Return a saved state of a scheduler with what its own state holds and no file does, which is given its state."""
    if isinstance(own, (*_FUNCTIONS, Optimizer)):
        return own
    if isinstance(own, LRScheduler):
        if isinstance(saved, Mapping):
            own.load_state_dict(resembling(own.state_dict(), saved, device))
        return own
    if _is_called(own):
        if isinstance(saved, Mapping):
            vars(own).update(resembling(dict(vars(own)), saved, device))
        return own
    children = items(saved)
    if children is None or items(own) is None:
        return like(own, saved, device)
    ours = dict(items(own) or ())
    return rebuild(saved, [resembling(ours.get(key), child, device) for key, child in children])


def mismatches(scheduler: Any, state: Tree) -> list[Mismatch]:
    """Return in what way a state does not fit a scheduler of PyTorch's own; nothing if it fits, or it is the user's.

    All entries of such a scheduler exist from the start, so one that is on one side only tells of another kind.

    Args:
        scheduler: an object with ``state_dict``.
        state: what ``state_dict`` gives; or anything else.
    """
    if isinstance(scheduler, LRScheduler) and type(scheduler).__module__.startswith("torch.optim"):
        return [*_compare(scheduler.state_dict(), state, "")]
    return []


def _compare(own: Mapping[str, Any], saved: Tree, prefix: str) -> Iterator[Mismatch]:
    if not isinstance(saved, Mapping):
        yield Mismatch(prefix.removesuffix("."), "kind", "a dict", describe(saved))
        return
    for name in (name for name in own if name not in saved and name not in _TOLERATED):
        yield Mismatch(f"{prefix}{name}", "missing", expected=describe(own[name]))
    for name in (name for name in saved if name not in own and name not in _TOLERATED):
        yield Mismatch(f"{prefix}{name}", "extra", found=describe(saved[name]))
    for name in own.keys() & saved.keys() - {"_schedulers"}:
        yield from unlike(f"{prefix}{name}", own[name], saved[name])
    if "_schedulers" in own.keys() & saved.keys():
        yield from _compare_parts(own["_schedulers"], saved["_schedulers"], f"{prefix}_schedulers")


def _compare_parts(own: list[Mapping[str, Any]], saved: Tree, path: str) -> Iterator[Mismatch]:
    """Yield the differences of the schedulers that another one is made of."""
    if not isinstance(saved, list | tuple) or len(saved) != len(own):
        found = f"{len(saved)} scheduler(s)" if isinstance(saved, list | tuple) else describe(saved)
        yield Mismatch(path, "shape", f"{len(own)} scheduler(s)", found)
        return
    for number, pair in enumerate(zip(own, saved, strict=True)):
        yield from _compare(*pair, f"{path}.{number}.")
