"""The episodes of a dataset that Minari has as Arrow or Parquet, as tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from keepfast._system.disk.special import is_plain_file
from keepfast.errors import CorruptMemory, Unreadable, shown
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.memories.foreign_parquet import damage_of_arrow
from keepfast.formats.memories.minari.arrow.tables import columns_of
from keepfast.formats.memories.minari.images import COMPRESSION, image_of
from keepfast.formats.memories.minari.joining import MEMBERS, OF_STEPS, Column, Columns, one_after_another

_MOST_DIGITS = 18


def arrow_tensors(metadata: Path, told: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a dataset.

    Args:
        metadata: Minari's file beside the directories of its episodes.
        told: what that says.

    Raises:
        CorruptMemory: if a file is damaged, or an episode is missing.
        Unreadable: if it holds what Keepfast has no tensors for.
    """
    spaces = {name: _space(told.get(f"{name.removesuffix('s')}_space")) for name in MEMBERS}
    try:
        episodes = _episodes(metadata.parent, told)
        first, again = ((_columns(episode, told["data_format"], spaces) for episode in episodes) for _ in range(2))
        return one_after_another(first, again)
    except Damage as damage:
        raise CorruptMemory(f"`{metadata.parent}` is damaged: the {damage}") from damage


def _space(told: Any) -> Mapping[str, Any]:
    """Return a space as Minari's metadata tell of it; nothing where they tell of none."""
    try:
        found = json.loads(told)
    except (TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _episodes(directory: Path, told: Mapping[str, Any]) -> list[Path]:
    """Return the directories of episodes, in their order."""
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    numbers = sorted(int(name) for name in names if name.isdecimal() and name.isascii() and len(name) <= _MOST_DIGITS)
    if isinstance(total := told.get("total_episodes"), int) and total > len(numbers):
        raise Damage("episodes", f"are {len(numbers)} where {total} were written")
    return [directory / str(number) for number in numbers]


def _columns(episode: Path, kind: str, spaces: Mapping[str, Any]) -> Columns:
    """Return the tensors of an episode, and how many steps it has."""
    files = [path for path in sorted(episode.glob(f"part-*.{kind}")) if is_plain_file(path)]
    if len(files) != 1:
        raise Damage(f"episode {episode.name}", f"has {len(files)} files where one was written")
    with verified(files[0], CorruptMemory) as file, damage_of_arrow():
        tables = columns_of(file, kind, (*MEMBERS, *OF_STEPS.values()))
        columns: dict[str, Column] = {}
        for name, tensors in MEMBERS.items():
            for path, values in _leaves(tables[name], name, spaces[name]):
                columns |= {tensor + path.removeprefix(name): (values, offset) for offset, tensor in enumerate(tensors)}
        columns |= {name: (_numbers(tables[column], column), 0) for name, column in OF_STEPS.items()}
        if (rows := len(tables["rewards"])) == 0:
            raise Damage("table", "has no rows, where an observation is after the last step")
        return columns, rows - 1


def _leaves(values: Any, name: str, space: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an observation or action by the path within it, which is the one that Minari's HDF5 has."""
    told = space if isinstance(space, Mapping) else {}
    if values.null_count:
        raise Unreadable(f"the column `{shown(name)}` has steps without a value")
    if not pa.types.is_struct(values.type):
        yield name, _Images(values, name) if pa.types.is_binary(values.type) else _numbers(values, name, told)
        return
    below = told.get("subspaces")
    for index, field in enumerate(values.type):
        is_tuple = told.get("type") == "Tuple"
        inner = below.get(field.name) if isinstance(below, Mapping) else None
        if is_tuple and isinstance(below, list) and field.name == str(index) and index < len(below):
            inner = below[index]
        step = f"_index_{field.name}" if is_tuple else field.name
        yield from _leaves(values.field(index), f"{name}.{step}", inner)


def _numbers(values: Any, name: str, space: Mapping[str, Any] | None = None) -> NDArray[Any]:
    """Return numbers by step, in the shape that a space tells."""
    is_list = pa.types.is_fixed_size_list(values.type)
    size = _shape(space or {}, values.type.list_size) if is_list else ()
    items = values.flatten() if is_list else values
    if values.null_count or items.null_count:
        raise Unreadable(f"the column `{shown(name)}` has steps without a value")
    found: NDArray[Any] = items.to_numpy(zero_copy_only=False)
    return found.reshape(len(values), *size)


def _shape(space: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """Return the shape of a sample that a space tells; a list where it tells of none of so many numbers."""
    try:
        told = np.shape(space["nvec"]) if "nvec" in space else space.get("shape", space.get("n"))
        shape = tuple(int(length) for length in ([told] if isinstance(told, int) else told))
    except (TypeError, ValueError, OverflowError):  # the words of others
        return (count,)
    return shape if math.prod(shape) == count and min(shape, default=0) >= 0 and len(shape) < 32 else (count,)


@final
class _Images:
    """Images that are compressed as JPEG, with the shape and dtype that the decoded ones have."""

    dtype = np.dtype(np.uint8)

    def __init__(self, values: Any, name: str) -> None:
        self._values, self._where = values, f"column `{shown(name)}`"
        self.shape = (len(values), *(self._image(0).shape if len(values) else ()))
        if math.prod(self.shape) > COMPRESSION * values.nbytes:
            raise Unreadable(f"the {self._where} has images of {self.shape[1:]} in {values.nbytes} bytes")

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Return the pixels of some images."""
        found = [self._image(index) for index in range(*part.indices(len(self._values)))]
        if {image.shape for image in found} != {self.shape[1:]}:
            raise Damage(self._where, "has images of different sizes")
        return np.stack(found)

    def _image(self, index: int) -> NDArray[np.uint8]:
        return image_of(self._values[index].as_py(), self._where)
