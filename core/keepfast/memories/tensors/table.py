"""TensorTable: what the tensors of a storage are, and what they take as samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from keepfast.errors import InvalidValue, ShapeMismatch, UnknownTensor, as_given, did_you_mean, nearest
from keepfast.memories.storage import Storage
from keepfast.memories.tensors.composites import Composites
from keepfast.memories.tensors.holding import dtype_name, holds, holds_range, holds_values, whole_numbers
from keepfast.memories.tensors.spaces import (
    is_composite,
    is_space,
    leaf_spaces,
    names_in,
    sample_dtype,
    structure_of,
    taken_apart,
)
from keepfast.memories.tensors.specs import TensorSpec, tensor_name

_MISTYPED = 0.88
"""How much of a name is like that of a tensor where it is taken to be meant for it."""


@final
class TensorTable:
    """Creates the tensors of a storage, and checks what is given for them.

    Args:
        storage: keeps the tensors.

    Attributes:
        storage: keeps the tensors.
        specs: what each tensor is, by its name.
        composites: the names that stand for several tensors.
        absent: the names that `create` was given with no size, and that nothing has.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.specs: dict[str, TensorSpec] = {}
        self.composites = Composites()
        self.absent: set[str] = set()
        self._rows: dict[str, tuple[tuple[int, ...], Any]] = {}  # shapes, and the last dtype that was held for sure

    def over(self, storage: Storage) -> TensorTable:
        """Return a table of the same tensors over another storage that has them."""
        table = TensorTable(storage)
        table.specs.update(self.specs)
        table._rows.update(self._rows)
        table.absent.update(self.absent)
        table.composites.structures.update(self.composites.structures)
        table.composites.flattened.update(self.composites.flattened)
        return table

    def __getstate__(self) -> dict[str, Any]:
        # Without the storage, which is copied in a way of its own: `over` gives it one again.
        return {**self.__dict__, "storage": None}

    def shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a tensor by rows and environments, given that of a sample."""
        return (self.storage.memory_size, self.storage.num_envs, *size)

    def flat_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a tensor by places, given that of a sample."""
        return (self.storage.memory_size * self.storage.num_envs, *size)

    def check_name(self, name: object) -> None:
        """Check that a tensor is asked for by a name.

        Raises:
            UnknownTensor: if it is none.
        """
        if not isinstance(name, str):
            raise UnknownTensor(f"a tensor is asked for as {as_given(name)}; allowed: the name of one")

    def spec(self, name: str) -> TensorSpec:
        """Return what a tensor is.

        Raises:
            UnknownTensor: if there is none of that name.
        """
        self.check_name(name)
        try:
            return self.specs[name]
        except KeyError:
            known = [*self.specs, *self.composites.structures]
            raise UnknownTensor(f"the memory has no tensor `{name}`{did_you_mean(name, known)}") from None

    def known(self, names: Iterable[str]) -> list[str]:
        """Return those of some names that are of tensors; others are passed over, as agents ask for what may be there.

        Raises:
            UnknownTensor: if a name is nearly that of a tensor, or none is that of one.
        """
        return self._known(names, self.spec)

    def _known(self, names: Any, refuse: Callable[[str], object]) -> list[str]:
        if isinstance(names, str | bytes) or not isinstance(names, Iterable):
            raise UnknownTensor(f"tensors are asked for as {as_given(names)}; allowed: a list of their names")
        names = list(names)
        for name in names:
            if not isinstance(name, str):
                refuse(name)
        known = [name for name in names if name in self.specs or name in self.composites]
        for name in names if len(known) < len(names) else ():
            if name not in known and name not in self.absent and (not known or self._is_mistyped(name)):
                refuse(name)
        return known

    def _is_mistyped(self, name: Any) -> bool:
        known = [*self.specs, *self.composites.structures]
        return not isinstance(name, str) or nearest(name, known, cutoff=_MISTYPED) is not None

    def there(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those samples that are there and have a tensor; the very same mapping where all have.

        Raises:
            UnknownTensor: if a name is nearly that of a tensor, or none is that of one.
        """
        given = [name for name, values in tensors.items() if values is not None]
        known = self._known(given, self._spec_to_add)
        return tensors if len(known) == len(tensors) else {name: tensors[name] for name in known}

    # creating --------------------------------------------------------------------------------------------------------

    def create(self, name: str, size: Any, dtype: str | None, *, keep_dimensions: bool) -> bool:
        """Create a tensor, or one for each leaf of a space, and return whether any was not there before.

        With a dtype all values of a space go into one tensor. A size of None makes none.
        """
        tensor_name(name)
        if size is None:
            self.absent.add(tensor_name(name))
            return False
        self.absent.discard(name)
        is_single = not is_composite(size) or dtype is not None
        if name in (self.composites if is_single else self.specs):
            ways = ("one tensor", "a tensor for each leaf of its space")
            raise InvalidValue(f"`{name}` exists as {ways[is_single]}, not as {ways[not is_single]}; take another name")
        if is_single:
            created = self._create(name, size, dtype, keep_dimensions=keep_dimensions)
            if is_composite(size):
                leaves = leaf_spaces(name, size)
                own = {leaf: TensorSpec.of(leaf, part, self.specs[name].dtype) for leaf, part in leaves}
                self.composites.flattened[name] = structure_of(name, size), own
            return created
        return self._create_leaves(tensor_name(name), size, keep_dimensions=keep_dimensions)

    def _create_leaves(self, name: str, space: Any, *, keep_dimensions: bool) -> bool:
        leaves, structure = dict(leaf_spaces(name, space)), structure_of(name, space)
        if len(leaves) < len(names_in(structure)):
            raise InvalidValue(f"`{name}` has leaves of one name: {', '.join(names_in(structure))}; rename its keys")
        if name in self.composites and self.composites.structures[name] != structure:
            raise ShapeMismatch(f"`{name}` exists with other leaves: {', '.join(self.composites.tensors_of([name]))}")
        before = set(self.specs)
        try:
            created = [self._create(leaf, part, None, keep_dimensions=keep_dimensions) for leaf, part in leaves.items()]
        except BaseException:
            for leaf in self.specs.keys() - before:
                del self.specs[leaf], self._rows[leaf], self.storage.buffers[leaf]
            raise
        self.composites.structures[name] = structure
        return any(created)

    def _create(self, name: str, size: Any, dtype: str | None, *, keep_dimensions: bool) -> bool:
        spec = TensorSpec.of(name, size, dtype or "", keep_dimensions=keep_dimensions)
        if name in self.specs:
            self._check_same(self.specs[name], spec.size, dtype)
            return False
        tensor_name(name)
        chosen = dtype or self._dtype_of_space(name, size)
        with self.storage.plainly():
            allocated = self.storage.allocate(self.flat_shape(spec.size), chosen)
        self.register(replace(spec, dtype=self.storage.dtype_name(allocated.dtype)), allocated)
        return True

    def _dtype_of_space(self, name: str, size: Any) -> str | None:
        """Return the dtype that the samples of a space have, or None: the framework's default one."""
        found = sample_dtype(size) if is_space(size) else None
        try:
            return None if found is None else self.storage.dtype_name(found)
        except InvalidValue as error:
            raise InvalidValue(f"`{name}`, of the space {size}: {error}; give another `dtype`") from error

    def _check_same(self, existing: TensorSpec, shape: tuple[int, ...], dtype: str | None) -> None:
        if shape != existing.size:
            raise ShapeMismatch(f"the tensor `{existing.name}` exists with the size {existing.size}, not {shape}")
        if dtype is not None and dtype != existing.dtype:
            raise InvalidValue(f"the tensor `{existing.name}` exists with the dtype {existing.dtype}, not {dtype}")

    def register(self, spec: TensorSpec, allocated: Any) -> None:
        """Take a tensor, or another buffer for one."""
        self.specs[spec.name] = spec
        self._rows[spec.name] = (self.storage.num_envs, *spec.size), None
        self.storage.buffers[spec.name] = allocated

    def description(self) -> dict[str, Any]:
        """Return what files tell of the tensors."""
        specs = self.specs
        return {
            "keep_dimensions": {name: spec.keep_dimensions for name, spec in specs.items()},
            "spaces": {name: spec.space for name, spec in specs.items() if spec.space},
            "shapes": {name: list(spec.shape) for name, spec in specs.items() if spec.shape is not None},
            "limits": {name: list(spec.limits) for name, spec in specs.items() if spec.limits is not None},
            "bounds": {name: dict(spec.bounds) for name, spec in specs.items() if spec.bounds is not None},
            "structures": dict(self.composites.structures),
        }

    # what is given ---------------------------------------------------------------------------------------------------

    def is_row(self, tensors: Mapping[str, Any]) -> bool:
        """Say whether the tensors are arrays with one sample of each environment, which is by far the usual case.

        Their dtypes are such that the tensors hold all values of them.
        """
        rows = self._rows
        unsure: tuple[str, ...] = ()
        try:
            for name, values in tensors.items():
                shape, dtype = rows[name]
                if shape != values.shape:
                    return False
                if values.dtype is not dtype:
                    unsure = (*unsure, name)
        except Exception:  # noqa: BLE001  (an unknown name, a list, what is traced by symbols or has no shape at all)
            return False
        if unsure:
            return all(self._takes(self.specs[name], tensors[name]) for name in unsure)
        return bool(tensors)

    def _takes(self, spec: TensorSpec, values: Any) -> bool:
        """Say whether a tensor holds the values of an array as they are; remember it if their dtype tells."""
        dtype = dtype_name(values.dtype)
        if holds(spec.dtype, dtype):
            if spec.name in self._rows:
                self._rows[spec.name] = self._rows[spec.name][0], values.dtype
            return True
        if isinstance(values, np.ndarray | np.generic):
            return holds_values(spec.dtype, np.asarray(values))
        return spec.limits is not None and whole_numbers(dtype) is not None and holds_range(spec.dtype, *spec.limits)

    def _check_held(self, spec: TensorSpec, given: Any, values: Any) -> None:
        """Check that the tensor's dtype changes no value of what users give, as far as no device is waited for."""
        is_python = not hasattr(given, "dtype") and self.storage.is_on_host(values)
        if self._takes(spec, self.storage.host_array(values) if is_python else given):
            return
        dtype = dtype_name(values.dtype)
        is_narrowed = dtype != spec.dtype == self.storage.dtype_name(dtype)
        way = self.storage.keeps_wide if is_narrowed else f"create it with the dtype {dtype}, or convert what you give"
        raise InvalidValue(
            f"`{spec.name}` is of {spec.dtype} and was given {dtype}, with numbers that {spec.dtype} would change; "
            f"{way}; nothing was added"
        )

    def whole(self, name: str, given: Any) -> dict[str, Any]:
        """Return what users give as all values of a tensor, or of those that a name stands for, by places.

        Raises:
            InvalidValue: if it is no numbers, or not of the tensor's dtype.
            ShapeMismatch: if it is of another shape.
            UnknownTensor: if there is no tensor of that name.
        """
        found = {}
        for leaf, each in self.composites.apart({name: given}).items():
            spec = self.spec(leaf)
            values = self.storage.numbers(leaf, each)
            full, flat = self.shape(spec.size), self.flat_shape(spec.size)
            if tuple(values.shape) not in (full, flat):
                raise ShapeMismatch(f"`{leaf}` was given with the shape {tuple(values.shape)}; expected {full}")
            self._check_held(spec, each, values)
            found[leaf] = values.reshape(flat)
        return found

    def checked(self, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the number of samples, and each array with the shape (number, *size).

        Raises:
            InvalidValue: if there are none, or they are no numbers, or not of the tensor's dtype.
            ShapeMismatch: if an array has another shape, or the arrays hold different numbers of samples.
            UnknownTensor: if a name is not that of a tensor.
        """
        if not tensors:
            raise InvalidValue("`add_samples` was given no tensors; give them by name, as in `add_samples(states=...)`")
        samples, counts = {}, {}
        for name, given in tensors.items():
            counts[name], samples[name] = self._samples(self._spec_to_add(name), given)
        return _same(counts), samples

    def _samples(self, spec: TensorSpec, given: Any) -> tuple[int, Any]:
        """Return the number of samples, and an array of shape (number, *size)."""
        if isinstance(given, Mapping | tuple) and spec.name in self.composites.flattened:
            return self._joined(spec, given)
        values = self.storage.numbers(spec.name, given)
        shape = tuple(values.shape)
        count = spec.samples_in(shape, self.storage.num_envs)
        self._check_held(spec, given, values)
        flat = (count, *spec.size)
        return count, values if shape == flat else values.reshape(flat)

    def _joined(self, spec: TensorSpec, given: Any) -> tuple[int, Any]:
        """Return samples of a space whose values are stored behind one another in one tensor."""
        structure, parts = self.composites.flattened[spec.name]
        values = dict(taken_apart(spec.name, structure, given))
        found = {name: self._samples(part, values[name]) for name, part in parts.items()}
        return _same({name: count for name, (count, _) in found.items()}), self.storage.joined(
            [each for _, each in found.values()]
        )

    def _spec_to_add(self, name: str) -> TensorSpec:
        try:
            return self.spec(name)
        except UnknownTensor as error:
            way = f"`create_tensor({name!r}, size)` makes one, or leave it out"
            raise UnknownTensor(f"{error} Nothing was added: {way}") from None


def _same(counts: Mapping[str, int]) -> int:
    """Return the number of samples that all hold."""
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"`{name}`: {count}" for name, count in counts.items())
        raise ShapeMismatch(f"the tensors hold different numbers of samples ({listing}); nothing was added")
    return next(iter(counts.values()))
