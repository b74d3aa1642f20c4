"""Has a load change everything or nothing: keeps each module as it was until all are restored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, final

import numpy as np

from keepfast import errors
from keepfast._system.memory.exchanging import Exchange
from keepfast._system.memory.giving import apart, is_given
from keepfast._system.memory.room import Room
from keepfast.errors import KeepfastError, LoadFailed, LoadMismatch
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.loading.conversion import Converted
from keepfast.modules.parts import Place
from keepfast.modules.registered import RegisteredModule
from keepfast.plain.remembering import Remembered
from keepfast.tree import Tree, dtype_name, is_array, leaves, map_leaves


@final
class Undo:
    """What a load has changed so far; as a context, puts it all back where the block raises.

    Kept of each module are copies, on the host, of what is overwritten in place, and references to what is replaced.
    """

    def __init__(self) -> None:
        self._backs: list[tuple[str, Callable[[], None]]] = []
        self._room = Room()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._put_back(error)

    def restore(self, module: RegisteredModule, state: Tree, device: Any) -> None:
        """Restore a module; where it refuses, it is as it was before the error is.

        Raises:
            LoadMismatch: if it refuses.
        """
        with self._room.in_use():
            before = _Before(module, state, device)
        self.add(module.name, before.put_back)
        try:
            module.restore(before.exchanged(state), device)
        except LoadMismatch as error:
            _put_back(module.name, before.put_back, error)
            self._backs.pop()
            raise

    def add(self, name: str, back: Callable[[], None]) -> None:
        """Have something put back where the block raises.

        Args:
            name: what it is, for an error that tells that it could not be.
            back: puts it back.
        """
        self._backs.append((name, back))

    def _put_back(self, error: BaseException) -> None:
        for name, back in reversed(self._backs):
            _put_back(name, back, error)


def _put_back(name: str, back: Callable[[], None], error: BaseException) -> None:
    try:
        back()
    except Exception as failure:  # noqa: BLE001  (the load's own error is raised, with this in it)
        told = f"`{name}` could not be put back as it was: {type(failure).__name__}: {failure}"
        error.args = (f"{error}; {told}", *error.args[1:]) if isinstance(error, KeepfastError) else error.args
        error.add_note(told)


@final
class _Before:
    """A module as it is before a load.

    Args:
        module: the module.
        state: what it is to get. Where an array of that is the module's to keep, it changes places with the module's.
        device: where it is to go.
    """

    def __init__(self, module: RegisteredModule, state: Tree, device: Any) -> None:
        self._module, self._value = module, module.value
        captured = module.capture()
        self._own, self._exchange = _exchange(module, captured, state, device)
        numbers = not module.backend.replaces_arrays(self._value)
        self._remembered = Remembered(
            *(self._value, module.backend, captured), numbers=numbers, besides=self._own.values()
        )
        arrays, self._others = _sorted(captured)
        # What `capture` copies, or has from where nobody else sees it, is given back by a restore.
        is_memory = module.is_memory
        strange = {path for path, leaf in arrays.items() if is_memory or not self._remembered.reaches(leaf)}
        self._copies = _copied(module.backend, captured, strange) if strange else {}

    def exchanged(self, state: Tree) -> Tree:
        """Return the state to restore, with the module's own arrays where they have their numbers already."""
        if not self._own:
            return state
        self._exchange.make()
        return map_leaves(lambda path, leaf: self._own.get(path, leaf), state)

    def put_back(self) -> None:
        """Make the module what it was, by a restore of its own where nothing else does.

        Raises:
            Exception: if that cannot be done.
        """
        errors_met: list[Exception] = []
        for step in (self._put_value_back, self._remembered.put_back, self._exchange.put_back, self._restore_strange):
            try:
                step()
            except Exception as error:  # noqa: BLE001  (raised below, once all was tried)
                errors_met.append(error)
        if errors_met:
            raise errors_met[0]

    def _put_value_back(self) -> None:
        if isinstance(self._module.module, Place):
            self._module.module.put(self._value)

    def _restore_strange(self) -> None:
        if self._is_as_it_was():
            return
        now = self._module.backend.host_copy(self._module.capture())
        before = map_leaves(lambda path, leaf: self._copies.get(path, self._others.get(path, leaf)), now)
        self._module.restore(before, None)
        if not self._is_as_it_was():
            raise LoadFailed("its state is another one than before, also after the old one was loaded again")

    def _is_as_it_was(self) -> bool:
        found, left = _sorted(self._module.capture())
        others = {path: repr(leaf) for path, leaf in left.items()}
        arrays = {path: leaf for path, leaf in found.items() if path in self._copies}
        if others != {path: repr(leaf) for path, leaf in self._others.items()} or arrays.keys() != self._copies.keys():
            return False
        return all(map(_are_same_bits, self._module.backend.host_copy(list(arrays.values())), self._copies.values()))


def _sorted(captured: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a captured tree by path, and all else of it."""
    arrays, others = dict[str, Any](), dict[str, Any]()
    for path, leaf in leaves(captured):
        (arrays if is_array(leaf) else others)[path] = leaf
    return arrays, others


def _copied(backend: Backend, captured: Tree, paths: Container[str]) -> dict[str, Any]:
    """Return copies of the arrays of a captured tree at these paths."""
    copied = backend.host_copy(map_leaves(lambda path, leaf: leaf if path in paths else None, captured))
    return {path: leaf for path, leaf in leaves(copied) if path in paths}


def _exchange(module: RegisteredModule, captured: Tree, state: Tree, device: Any) -> tuple[dict[str, Any], Exchange]:
    """Return the arrays of a module, by path, that can change places with what a state has for them, and how they do.

    Those that share memory cannot, nor those of a module that decides by itself what it makes of a state.
    """
    if isinstance(module.module, Place) or isinstance(state, Converted) or module.is_open:
        return {}, Exchange([])
    given = {path: leaf for path, leaf in leaves(state) if isinstance(leaf, np.ndarray) and is_given(leaf)}
    if not given:
        return {}, Exchange([])
    own = {path: leaf for path, leaf in leaves(captured) if is_array(leaf)}
    spans = {path: span for path, leaf in own.items() if (span := _span(module.backend, leaf)) is not None}
    pairs = {}
    for path in apart(spans):
        if path not in given or dtype_name(own[path]) != dtype_name(given[path]):
            continue
        memory = module.backend.memory_of(own[path], device)
        if memory is not None and memory.shape == given[path].shape:
            pairs[path] = memory, given[path]
    return {path: own[path] for path in pairs}, Exchange(list(pairs.values()))


def _span(backend: Backend, array: Any) -> tuple[int, int] | None:
    """Return from where to where an array's memory reaches that can be written to; None where that is not known."""
    place, strides = backend.place_of(array), backend.strides_of(array)
    if place is None or strides is None or 0 in array.shape:
        return None
    sizes = map(int, array.shape)  # which are tensors while `torch.jit.trace` is on
    steps = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return place, place + steps + int(array.itemsize)


def _are_same_bits(one: Any, other: Any) -> bool:
    return bool(np.asarray(one).tobytes() == np.asarray(other).tobytes())


@contextlib.contextmanager
def foreign_told(what: str, path: Path | None) -> Iterator[None]:
    """Have what is raised in the block, where it is not Keepfast's own, name what was loaded, and the file.

    Args:
        what: what is loaded, as an error calls it.
        path: the file.
    """
    try:
        yield
    except KeepfastError:
        raise
    except Exception as error:
        raise LoadFailed(
            f"{what} could not be loaded from `{path}`, and nothing was loaded: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def naming(what: str, path: Path | None) -> Iterator[None]:
    """Have whatever is raised in the block name what was loaded, and the file; see `foreign_told`."""
    with foreign_told(what, path):
        try:
            yield
        except LoadMismatch:
            raise
        except KeepfastError as error:
            kind = type(error) if type(error).__module__ == errors.__name__ else LoadFailed
            raise kind(f"{what} cannot be loaded from `{path}`: {error}") from error
