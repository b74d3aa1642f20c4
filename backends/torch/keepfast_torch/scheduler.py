"""What a file says of a learning-rate scheduler, held against the scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from keepfast import Mismatch
from keepfast.tree import Tree, describe

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
