"""A module's own conversion of the files that it loads: hooks, and ways of loading that its classes have.

PyTorch converts while it loads (``torch/nn/modules/module.py``): hooks before a load rename and reshape what is there,
a class's ``_load_from_state_dict`` looks at the version that the state dict tells, hooks after it forgive what is
missing. So a file is loaded twice here. The first time each parameter gets itself, and what it would have got is noted
and compared; the second time it gets what that came to.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from keepfast import Conversion, Converted, FileEntries, KeepfastError, LoadMismatch
from keepfast.tree import Tree, Versions, map_leaves, versions_of, with_versions
from keepfast_torch.arrays import HostCopier
from keepfast_torch.containers import like, plain
from keepfast_torch.modes import writable
from keepfast_torch.overlapping import fill, overlaps
from keepfast_torch.sharding.tensors import is_spread, local_of
from keepfast_torch.uninitialized import is_lazy, stand_in
from keepfast_torch.wrappers import plain_names, plain_versions, real_name

EXTRA_STATE = "_extra_state"
_load_plainly = nn.Module._load_from_state_dict  # noqa: SLF001  (nothing public tells how a class loads)
_BY_VERSION = (_NormBase._load_from_state_dict, _InstanceNorm._load_from_state_dict)  # noqa: SLF001
"""Ways of loading that change nothing of a state of the module's own version."""


def converts(module: nn.Module, versions: Versions | None) -> bool:
    """Say whether a module may make something else of a state that it loads.

    Args:
        module: the module, itself no wrapper.
        versions: those of the file, by plain names; None for those of the module.
    """
    if type(module).load_state_dict is not nn.Module.load_state_dict:
        return True
    parts = dict(module.named_modules(remove_duplicate=False))
    names = plain_versions(module, {path: path for path in parts})
    return any(_converts(parts[real], versions, name) for name, real in names.items())


def _converts(part: nn.Module, versions: Versions | None, name: str) -> bool:
    if part._load_state_dict_pre_hooks or part._load_state_dict_post_hooks:  # noqa: SLF001
        return True
    load = getattr(part._load_from_state_dict, "__func__", None)  # noqa: SLF001
    is_of_today = versions is None or versions.get(name, {}).get("version") == part._version  # noqa: SLF001
    return load is not _load_plainly and not (load in _BY_VERSION and is_of_today)


@final
@dataclass
class _Told:
    """What is noted while a module loads a file and each of its places gets itself.

    Attributes:
        own: the places, by name.
        found: what they would have got, and what was there besides.
        missing: what the module says that it misses.
        unexpected: what it says that it has no place for.
        reached: how the names begin of the parts that load as PyTorch's do.
    """

    own: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)

    def hook(self, part: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Note what a part would load, as the last of its hooks before it does."""
        self.missing, self.unexpected = rest[2], rest[3]
        self.reached.add(prefix)
        for key in [key for key in self.found if key.startswith(prefix) and key not in state]:
            del self.found[key]
        self.found |= {key: value for key, value in state.items() if key.startswith(prefix)}
        for name, tensor in _places(part):
            self.own[prefix + name] = stand_in(tensor) if is_lazy(tensor) else tensor.detach()
            if prefix + name in state:
                state[prefix + name] = tensor
        if _has_extra_state(part):
            key = prefix + EXTRA_STATE
            self.own[key] = part.get_extra_state()
            if key in state:
                state[key] = self.own[key]


def converted(module: nn.Module, file: FileEntries) -> Conversion:
    """Return what a module makes of a file; the module may be another one afterwards.

    Args:
        module: the module, itself no wrapper.
        file: the file's entries, by plain names.

    Raises:
        LoadMismatch: if the module refuses it.
    """
    own, told, given = module.state_dict(), _Told(), _given(module, file)
    with writable(*module.parameters(), *module.buffers()), _watched(module, told.hook):
        try:
            _load_leniently(module, given)
        except KeepfastError:
            raise
        except Exception as error:
            raise LoadMismatch(f"{type(module).__qualname__} cannot load the file's state: {error}") from error
    for name in own:
        if name in given and name[: name.rfind(".") + 1] not in told.reached:  # of a part that loads by itself
            told.own[name] = told.found[name] = given[name]
    places = {name: each for name, each in told.own.items() if name in told.found or name in told.missing}
    found = {name: each for name, each in told.found.items() if name in places or name in told.unexpected}
    return _plainly_named(module, places, found, given)


def _load_leniently(module: nn.Module, given: Mapping[str, Any]) -> None:
    """Have a module load what may lack entries, or have others."""
    parameters = inspect.signature(module.load_state_dict).parameters.values()
    takes = any(each.name == "strict" or each.kind is each.VAR_KEYWORD for each in parameters)
    module.load_state_dict(given, **({"strict": False} if takes else {}))


def _plainly_named(
    module: nn.Module, places: Mapping[str, Any], found: Mapping[str, Any], given: Mapping[str, Any]
) -> Conversion:
    """Return a conversion by plain names, with arrays of NumPy."""
    levels = plain_names(module, {*places, *found, *given})
    at = {_address(each): name for name, each in given.items() if isinstance(each, torch.Tensor) and each.numel()}
    sources = {
        levels.get(name, name): levels.get(at[_address(each)], at[_address(each)])
        for name, each in found.items()
        if isinstance(each, torch.Tensor) and each.numel() and _address(each) in at
    }
    copier = HostCopier()
    arrays = {
        levels.get(name, name): map_leaves(
            lambda _, leaf: copier.copy(leaf) if isinstance(leaf, torch.Tensor) and not is_spread(leaf) else leaf,
            plain(each, name),
        )
        for name, each in found.items()
    }
    copier.wait()
    return Conversion({levels.get(name, name): each for name, each in places.items()}, arrays, sources)


def _address(tensor: torch.Tensor) -> int:
    return local_of(tensor).untyped_storage().data_ptr()


@contextlib.contextmanager
def into(module: nn.Module, state: Converted) -> Iterator[OrderedDict[str, Any]]:
    """Return the file's own entries for a module to load; in the block its places get what a state has for them.

    Args:
        module: the module, itself no wrapper.
        state: the state to restore, by plain names.
    """
    decided = {real_name(module, name): each for name, each in state.items()}

    def hook(part: nn.Module, found: dict[str, Any], prefix: str, *_rest: Any) -> None:
        inner = {key for key in found if key[len(prefix) :].partition(".")[0] in part._modules}  # noqa: SLF001
        for key in [key for key in found if key.startswith(prefix) and key not in inner]:
            del found[key]
        for name, tensor in _places(part):
            found[prefix + name] = _settled(tensor, decided.get(prefix + name))
        if _has_extra_state(part):
            own, key = part.get_extra_state(), prefix + EXTRA_STATE
            found[key] = entry_like(key, own, decided[key]) if key in decided else own

    given = _given(module, state.file)
    for name in [name for name, tensor in module.state_dict().items() if is_lazy(tensor) and name not in decided]:
        given.pop(name, None)  # it would give the place a shape, and no values
    with _watched(module, hook):
        yield given


def _settled(tensor: torch.Tensor, decided: Any) -> torch.Tensor:
    """Return what a place gets: what is decided, or itself where nothing is, or that was written to it already."""
    if decided is None:
        return tensor
    values: torch.Tensor = like(tensor, decided, "cpu", closed=True)
    if not overlaps(tensor):
        return values
    fill(tensor, values)
    return tensor


def entry_like(name: str, own: Any, saved: Tree) -> Any:
    """Return what a file has for an entry as PyTorch takes it: a tensor, on the CPU, or an extra state as it was."""
    return like(own, saved) if name.endswith(EXTRA_STATE) else like(own, saved, "cpu", closed=True)


def _given(module: nn.Module, file: FileEntries) -> OrderedDict[str, Any]:
    """Return what a file has, as a state dict of PyTorch for the module to load: copies, by its own names."""
    own = module.state_dict()
    given: OrderedDict[str, Any] = OrderedDict()
    for name, value in file.entries.items():
        key = real_name(module, name)
        given[key] = entry_like(key, own.get(key), value)
    told = file.versions
    versions = versions_of(own) if told is None else {real_name(module, path): each for path, each in told.items()}
    with_versions(given, {path: dict(each) for path, each in (versions or {}).items()})
    return given


@contextlib.contextmanager
def _watched(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Have a hook called in the block for each part of a module, the last before it takes what is there."""
    with contextlib.ExitStack() as handles:
        for part in module.modules():
            watch: Callable[..., Any] = part._register_load_state_dict_pre_hook  # noqa: SLF001  (the last of the hooks)
            handle = watch(partial(hook, part))
            handles.callback(handle.remove)
        yield


def _places(part: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters and buffers that a part itself loads."""
    yield from ((name, tensor) for name, tensor in part._parameters.items() if tensor is not None)  # noqa: SLF001
    for name, tensor in part._buffers.items():  # noqa: SLF001
        if tensor is not None and name not in part._non_persistent_buffers_set:  # noqa: SLF001
            yield name, tensor


def _has_extra_state(part: nn.Module) -> bool:
    return type(part).set_extra_state is not nn.Module.set_extra_state
