"""Saving: what makes an object save and load itself, and migrate checkpoints from elsewhere."""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfast._system.arguments.guarding import guarded_calls
from keepfast.errors import InvalidValue, as_given
from keepfast.interfaces.loading.report import LoadReport
from keepfast.migration.calls import migrate
from keepfast.migration.report import MigrationReport
from keepfast.modules.options import LoadOptions
from keepfast.modules.single import load_with, save

_LARGEST = 1 << 40
"""More numbers than these no network takes, whatever it was that told so many."""


def space_size(space: Any) -> int | None:
    """Return how many numbers a flattened sample of a space has, one for each of its discrete choices; None of None.

    Args:
        space: a space of Gymnasium, a number of elements, or a shape.

    Raises:
        InvalidValue: if it is none of these.
    """
    if space is None:
        return None
    try:
        found = None if isinstance(space, bytes | bytearray) else _elements(space)
    except Exception:  # noqa: BLE001  (whatever it raises, it is none)
        found = None
    if found is None or not 0 <= found < _LARGEST:
        raise InvalidValue(f"`{as_given(space)}` is no space; allowed: a space, a number of elements, a shape")
    return found


def _elements(space: Any) -> int:
    if hasattr(space, "spaces"):
        parts = space.spaces.values() if isinstance(space.spaces, Mapping) else space.spaces
        return sum(space_size(part) or 0 for part in parts)
    if hasattr(space, "nvec"):
        return int(np.sum(space.nvec))
    if isinstance(number := getattr(space, "n", space), int | np.integer) and not isinstance(number, bool):
        return int(number)
    shape = getattr(space, "shape", space)
    return math.prod(operator.index(length) for length in shape)


@guarded_calls()
class Saving(abc.ABC):  # noqa: B024  (there is nothing a class must add: it is a mixin)
    """Gives an object that Keepfast takes for a module the calls `save`, `load` and `migrate`; a mixin, on either side.

    A backend's own `Model` is this and what its framework needs beside it.
    """

    def save(self, path: str | Path) -> Path:
        """Save the object's state, durable when this returns; see `keepfast.save`.

        Args:
            path: where to; the extension chooses the format.

        Returns:
            The path.

        Raises:
            ConfigError: if the extension is of no known format.
            MissingDependency: if its format needs a package that is not installed; says what to run.
            WriteFailed: if the operating system refused; what was there before is untouched.
        """
        return save(self, path)

    def load(
        self,
        path: str | Path,
        device: Any = None,
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> LoadReport:
        """Load the object's state from a file; see `keepfast.load`.

        Args:
            path: a file that `save`, an agent or the framework itself wrote, on this or another device.
            device: where restored arrays are placed, as the object's framework names it; None leaves each where the
                object has it.
            modules: the name of the module to take out of a file that holds several, in a list: ``["policy"]``.
            strict: whether any difference is an error; else what fits is loaded.
            cast: whether another dtype is converted.
            rename: file path -> own path; a path also stands for all below it.

        Returns:
            What was loaded and what was not.

        Raises:
            LoadMismatch: if anything differs (when strict) or nothing matches; lists everything, nothing was loaded.
            CorruptCheckpoint: if the file is damaged.
            NotFound: if there is no such file.
        """
        return load_with(self, path, LoadOptions.of(modules, strict, cast, rename, device))

    def migrate(
        self,
        path: str | Path | None = None,
        state_dict: Mapping[str, Any] | None = None,
        name_map: Mapping[str, Any] | None = None,
        auto_mapping: bool = True,
        verbose: bool = False,
        **options: Any,
    ) -> MigrationReport:
        """Load a checkpoint of another library, or of the other framework; see `keepfast.migrate`.

        Args:
            path: the checkpoint.
            state_dict: the arrays or tensors themselves, in the place of a file.
            name_map: own name -> name in the file, of entries or of whole layers.
            auto_mapping: whether what `name_map` does not name is looked for.
            verbose: whether the entries of both sides are printed, and what goes where.
            **options: what else `keepfast.migrate` takes.

        Returns:
            What came from where; true when complete.

        Raises:
            LoadMismatch: if anything is ambiguous, missing or without a place; nothing was loaded.
            CorruptCheckpoint: if the file is damaged, of no known kind, or would have to run code.
            NotFound: if there is no such file.
        """
        return migrate(self, path, state_dict, name_map, auto_mapping, verbose, **options)
