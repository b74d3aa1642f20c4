"""Trees of tensors: states as objects give them made plain, and trees from files made into such states again."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from keepfast import InvalidValue, KeepfastError, Mismatch, UnsupportedModule, UsageError
from keepfast._system.memory.giving import taken
from keepfast.plain.numbers import is_number, kind_of
from keepfast.tree import Tree, describe, items, rebuild, with_versions
from keepfast_torch.arrays import DTYPES, own_tensor, require_memory
from keepfast_torch.modes import real_value
from keepfast_torch.sharding.tensors import PLAIN, is_spread, require_parts, spread_like

_NUMBER = (bool, int, float, complex)
_PLAIN = (type(None), str, bytes, *_NUMBER)

_PLAIN_KINDS = frozenset(_PLAIN)


def plain(node: Any, path: str = "", stand_in: Callable[[Any], Tree] | None = None) -> Tree:
    """Return a state with plain containers, its tensors and arrays still shared with whoever gave it.

    NumPy's numbers become Python's.

    Args:
        node: a state, or a part of one.
        path: where that part is, for errors.
        stand_in: returns what is stored of a part that is no such leaf, or the part itself where nothing can be.

    Raises:
        UnsupportedModule: if a part of it is nothing that a file can hold; names its path.
        UsageError: if a tensor has no values yet; names its path.
    """
    kind = type(node)
    if kind in _PLAIN_KINDS and stand_in is None:
        return node
    is_tensor = kind in PLAIN or isinstance(node, torch.Tensor)
    children = None if is_tensor else items(list(node) if isinstance(node, deque) else node)
    if children is None:
        if stand_in is not None and (stored := stand_in(node)) is not node:
            return plain(stored, path, stand_in)
        return _plain_leaf(node, path or "(root)")
    made = {
        _plain_key(key, path): plain(child, f"{path}.{key}" if path else str(key), stand_in) for key, child in children
    }
    if isinstance(node, Mapping):
        kind = next((kind for kind in (Counter, OrderedDict) if isinstance(node, kind)), dict)
        return with_versions(kind(made), getattr(node, "_metadata", None))
    return tuple(made.values()) if isinstance(node, tuple) else list(made.values())


def _plain_key(key: Any, path: str) -> Any:
    if isinstance(key, (*_PLAIN, tuple)):
        return key
    raise UnsupportedModule(
        f"`{path or '(root)'}` has the key {key!r:.40}, a {_kind(key)}; allowed: strings and numbers"
    )


def _plain_leaf(leaf: Any, path: str) -> Any:
    if isinstance(leaf, torch.Tensor):
        try:
            _check(leaf, path)
        except KeepfastError:
            raise
        except Exception as error:
            raise UnsupportedModule(f"`{path}` is a {_kind(leaf)}, which refuses to be looked at: {error}") from error
        return leaf
    if isinstance(leaf, np.generic):
        return leaf.item()
    if isinstance(leaf, _PLAIN) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind != "O"):
        return leaf
    if isinstance(leaf, bytearray | set | frozenset):
        return bytes(leaf) if isinstance(leaf, bytearray) else set(leaf)
    own_module = hasattr(leaf, "state_dict")
    raise UnsupportedModule(
        f"`{path}` is a {_kind(leaf)}, which cannot be stored; allowed: tensors, NumPy arrays, numbers, strings, "
        "bytes, None, and dicts, lists, tuples and sets of them. "
        + ("To save it, register it under a name of its own" if own_module else "What is no state, leave out of it")
    )


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _check(tensor: torch.Tensor, path: str) -> None:
    """Check that a tensor has values, and such as a file can hold."""
    if torch.nn.parameter.is_lazy(tensor):
        raise UsageError(f"`{path}` is not initialized yet; run the module once before it is saved or loaded")
    if is_spread(tensor):
        require_parts(tensor, path)
        return
    if tensor.is_nested:
        raise UnsupportedModule(
            f"`{path}` is a nested tensor, which cannot be stored; allowed: tensors of one shape. Store its parts, "
            "`tensor.unbind()`, as a list"
        )
    if tensor.is_meta:
        raise UsageError(f"`{path}` is on the device `meta`, so it has no values; `Module.to_empty` gives it some")
    try:
        require_memory(real_value(tensor))
    except InvalidValue as error:
        raise UsageError(f"`{path}` has no values: {error}") from None
    if type(tensor) not in PLAIN and hasattr(tensor, "__tensor_flatten__"):
        raise UnsupportedModule(
            f"`{path}` is a {_kind(tensor)}, which has its values in other tensors and cannot be stored; allowed: "
            "tensors with values of their own. Gather or convert it in `state_dict`"
        )
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in DTYPES:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise UnsupportedModule(
            f"`{path}` is a {kind} tensor of the dtype {tensor.dtype}, which cannot be stored; allowed: dense ones of "
            f"{', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in DTYPES))}"
        )


def like(own: Tree, saved: Tree, device: Any = None, *, closed: bool = False) -> Tree:
    """Return a saved tree with the leaves of one that it resembles: tensors in the place of NumPy arrays.

    Args:
        own: what is there now; where it has a NumPy array or a deque, so has the result.
        saved: containers and leaves; its arrays are copied, its tensors taken as they are.
        device: where the tensors go; None leaves each where `own` has it, and on the CPU where `own` has nothing.
        closed: whether `own` also decides what is a number and what a tensor without dimensions; else `saved` does.
    """
    children = items(saved)
    if children is None:
        saved = _as_number_or_tensor(own, saved) if closed else saved
        return _like_leaf(own, saved, device)
    made = rebuild(saved, [like(_child(own, key), child, device, closed=closed) for key, child in children])
    return deque(made, own.maxlen) if isinstance(own, deque) and isinstance(made, list) else made


def unlike(path: str, own: Any, saved: Any) -> Iterator[Mismatch]:
    """Yield where a saved option is of another kind than the own one: no number, no bool, no text, no list of those.

    Where one of them is None, nothing tells what kinds there may be.
    """
    if own is None or saved is None:
        return
    if isinstance(own, list | tuple) and isinstance(saved, list | tuple):
        for number, pair in enumerate(zip(own, saved, strict=False)):
            yield from unlike(f"{path}.{number}", *pair)
        return
    if is_number(own):
        fits = is_number(saved) and (kind_of(own) == "bool") is (kind_of(saved) == "bool")
    else:
        fits = not isinstance(own, str | list | tuple) or isinstance(saved, type(own))
    if not fits:
        yield Mismatch(path, "kind", describe(own), describe(saved))


def _child(own: Tree, key: Any) -> Tree:
    """Return what is there of an entry of a file, or what is beside it and of one kind, as it would be."""
    if isinstance(own, Mapping):
        if key in own:
            return own[key]
        kept = [*own.values()]
        return kept[0] if kept and all(map(_is_of_numpy, kept)) else None
    is_sequence = isinstance(own, list | tuple | deque) and isinstance(key, int)
    return own[min(key, len(own) - 1)] if is_sequence and own else None


def _is_of_numpy(leaf: object) -> bool:
    return isinstance(leaf, np.ndarray)


def _as_number_or_tensor(own: Any, saved: Any) -> Any:
    if isinstance(own, _NUMBER) and isinstance(saved, np.ndarray) and saved.ndim == 0:
        return saved.item()
    if isinstance(own, torch.Tensor) and isinstance(saved, _NUMBER):
        return torch.tensor(saved, dtype=own.dtype)
    return saved


def _like_leaf(own: Any, saved: Any, device: Any) -> Any:
    if isinstance(saved, np.ndarray):
        if isinstance(own, np.ndarray):
            return taken(saved)
        saved = own_tensor(saved)
    if not isinstance(saved, torch.Tensor):
        return saved
    if isinstance(own, torch.Tensor) and is_spread(own) and not is_spread(saved):
        return spread_like(own, saved)
    return saved.to(device if device is not None else own.device if isinstance(own, torch.Tensor) else "cpu")
