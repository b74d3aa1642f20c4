"""Modules that wrap others, seen through, so that what is stored has the names of the plain module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def _inner_name(module: nn.Module) -> str | None:
    """Return the name below which a module has the one that it wraps; None where it wraps none."""
    if isinstance(module, _PARALLEL):
        return "module"
    return "_orig_mod" if isinstance(getattr(module, "_orig_mod", None), nn.Module) else None


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that was compiled, or spread over devices, so that its names in a file are its own."""
    while (name := _inner_name(module)) is not None:
        module = getattr(module, name)
    return module


def plain_names(module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return, for each name in a module's state, the name without those that wrappers within the module have put in.

    Nothing is returned where no name has any.

    Args:
        module: the module, itself no wrapper.
        names: what its ``state_dict`` has for names.
    """
    names = list(names)
    if not any("module." in name or "_orig_mod." in name for name in names):
        return {}
    levels = set(_wrapped_paths(module))
    plain = {name: _without(name, levels) for name in names}
    if len(set(plain.values())) < len(names):  # a wrapper that has an entry of its own beside what it wraps
        return {}
    return plain


def plain_versions(module: nn.Module, versions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of a module's state by its plain names; of a wrapper and what it wraps, those of the latter.

    Args:
        module: the module, itself no wrapper.
        versions: what its ``state_dict`` tells.
    """
    levels = set(_wrapped_paths(module))
    return {_without(path, levels): told for path, told in sorted(versions.items(), key=lambda each: len(each[0]))}


def _wrapped_paths(module: nn.Module) -> Iterator[str]:
    """Yield the path of every module that another one within wraps: ``actor.module``."""
    for path, part in module.named_modules(remove_duplicate=False):
        if (name := _inner_name(part)) is not None:
            yield f"{path}.{name}" if path else name


def _without(name: str, levels: set[str]) -> str:
    parts = name.split(".")
    return ".".join(part for number, part in enumerate(parts, 1) if ".".join(parts[:number]) not in levels)


def real_name(module: nn.Module, name: str) -> str:
    """Return a name, without those that wrappers have put in, as the module has it or would have it: with them."""
    for path in sorted(_wrapped_paths(module), key=len):
        outer, _, wrapper = path.rpartition(".")
        if name == outer or name.startswith(f"{outer}."):
            name = f"{outer}.{wrapper}{name[len(outer) :]}"
    return name


def named_parameters(modules: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of all parameters of modules, and of tensors among them, by the ids of the parameters.

    Args:
        modules: module by name; what is neither module nor tensor is passed over.
    """
    named: dict[int, str] = {}
    for own, module in modules.items():
        if isinstance(module, nn.Module):
            inner = unwrapped(module)
            parameters = dict(inner.named_parameters(remove_duplicate=False))
            names = plain_names(inner, parameters)
            for real, parameter in parameters.items():
                named.setdefault(id(parameter), f"{own}.{names.get(real, real)}")
        elif hasattr(module, "requires_grad"):
            named.setdefault(id(module), own)
    return named
