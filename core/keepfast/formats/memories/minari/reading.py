"""The episodes of a Minari dataset back as tensors, from a file that may be anybody's."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import index
from typing import Any, BinaryIO, final

import h5py
import numpy as np
from numpy.typing import NDArray

from keepfast._system.memory.spacious import spacious_tensors
from keepfast.codec import dtype_of
from keepfast.errors import KeepfastError, Unreadable, shown
from keepfast.formats.files.sealed import Damage
from keepfast.formats.memories.header import ring_of
from keepfast.formats.memories.minari.episodes import pieces
from keepfast.formats.memories.minari.images import Images, are_compressed
from keepfast.formats.memories.minari.joining import MEMBERS, OF_STEPS, Column, Columns, one_after_another
from keepfast.formats.memories.minari.spaces import OBSERVATIONS, dtype_of_space
from keepfast.formats.memories.minari.values import member_name, restored, stored_dtype

_ROOM, _TIMES = 1 << 26, 4
"""How many bytes a piece of a dataset may take, which is read as a whole: so many, and so many times the file."""

_COMPRESSION = 1100
"""How many times smaller than its values a dataset can be stored; deflate, the best at zeros, reaches 1032."""

_EPISODE = re.compile("episode_[0-9]+")
_PLACES = {"terminated": "terminations", "truncated": "truncations", **dict.fromkeys(OBSERVATIONS, "observations")}


@contextlib.contextmanager
def damage_of_hdf5() -> Iterator[None]:
    """Make damage of the errors that h5py has for files that are none, or that ask for more than there is."""
    try:
        yield
    except KeepfastError:
        raise
    except (OSError, MemoryError) as error:
        raise Damage("HDF5", f"cannot be read ({str(error) or type(error).__name__})") from error
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise


@final
class _Stored:
    """The values of a dataset, which is open while some of them are read: an open one takes HDF5 thirty kilobytes."""

    def __init__(self, parent: Any, name: str, dataset: Any) -> None:
        self._parent, self._name = parent, name
        self.shape, self.dtype, self.nbytes = dataset.shape, dataset.dtype, dataset.id.get_storage_size()

    def __getitem__(self, part: slice) -> NDArray[Any]:
        values: NDArray[Any] = self._parent[self._name][part]
        return values


def own_tensors(data: Any, header: Mapping[str, Any], rest: tuple[BinaryIO, int]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file that Keepfast wrote.

    Args:
        data: the episodes.
        header: the document.
        rest: a file, and where in it the samples end that are no transitions.

    Raises:
        Damage: if its episodes are not those that the header tells of.
    """
    ring = ring_of(header)
    described = {name: (tuple(found["size"]), dtype_of(found["dtype"])) for name, found in header["tensors"].items()}
    sizes = ring.memory_size, ring.num_envs
    rows = ring.complete_rows + bool(ring.env_index and not ring.filled)
    tensors = spacious_tensors({name: ((*sizes, *size), dtype) for name, (size, dtype) in described.items()}, rows)
    spaces = {name: dtype_of_space(header["metadata"], name) for name in tensors}
    read = [np.zeros(ring.count(environment), bool) for environment in range(ring.num_envs)]
    told = list(_told(data, header))
    beside = _Rest(*rest, sum(episode.steps for episode in told if episode.group is None), tensors)
    for episode in told:
        start, steps, environment = episode.start, episode.steps, episode.environment
        if not 0 <= environment < ring.num_envs:
            raise Damage(episode.name, f"has {steps} steps of environment {environment}, which are too many")
        if not 0 <= start < start + steps <= len(read[environment]) or read[environment][start : start + steps].any():
            raise Damage(episode.name, f"has {steps} steps of environment {environment}, which are too many")
        if episode.group is None:
            beside.read(environment, ring.rows(environment, start, start + steps))
        else:
            _read_episode(episode, tensors, ring.rows(environment, start, start + steps), spaces)
        read[environment][start : start + steps] = True
    if (steps := sum(int(np.count_nonzero(each)) for each in read)) != len(ring):
        raise Damage("episodes", f"have {steps} steps where {len(ring)} were written")
    return tensors


@final
@dataclass(frozen=True)
class _Told:
    """What is told of an episode; its group, or None where it is of no transitions."""

    name: str
    group: Any
    environment: int
    start: int
    steps: int
    is_open: bool


def _told(data: Any, header: Mapping[str, Any]) -> Iterator[_Told]:
    """Yield what is told of each episode, in a table, or in the attributes of their groups as the layout before has."""
    if "episodes" not in header:
        yield from _told_by_groups(data)
        return
    number = 0
    for environment, start, steps, is_open, _, is_valid in header["episodes"]:
        name = f"episode_{number}"
        group = _child(data, name, h5py.Group) if is_valid else None
        yield _Told(name.replace("_", " "), group, index(environment), index(start), index(steps), bool(is_open))
        number += is_valid


def _told_by_groups(data: Any) -> Iterator[_Told]:
    done: dict[int, int] = {}  # for files from before episodes told where they start
    for name in sorted(data, key=lambda name: (len(name), name)):
        group = _child(data, name, h5py.Group)
        steps, environment = int(group.attrs["total_steps"]), int(group.attrs["keepfast_environment"])
        start = int(group.attrs.get("keepfast_start", done.get(environment, 0)))
        is_open = bool(group.attrs.get("keepfast_open", False))
        yield _Told(name.replace("_", " "), group, environment, start, steps, is_open)
        done[environment] = start + steps


@final
class _Rest:
    """The samples that are no transitions, which lie behind the episodes, one tensor after the other in each."""

    def __init__(self, file: BinaryIO, end: int, steps: int, tensors: Mapping[str, NDArray[Any]]) -> None:
        row = sum(math.prod(tensor.shape[2:]) * tensor.dtype.itemsize for tensor in tensors.values())
        self._file, self._place, self._tensors = file, end - steps * row, tensors
        if self._place < 0:
            raise Damage("episodes", "are of more samples than are there")

    def read(self, environment: int, rows: tuple[slice, ...]) -> None:
        """Read those of the next episode into their places."""
        for tensor in self._tensors.values():
            for target in pieces(tensor, environment, rows):
                self._file.seek(self._place)
                values = np.frombuffer(self._file.read(target.nbytes), np.uint8).view(target.dtype)
                target[...] = values.reshape(target.shape)
                self._place += target.nbytes


def _read_episode(
    episode: _Told,
    tensors: Mapping[str, NDArray[Any]],
    rows: tuple[slice, ...],
    spaces: Mapping[str, np.dtype[Any] | None],
) -> None:
    """Read one episode into the places of tensors where it belongs."""
    group, steps, environment = episode.group, episode.steps, episode.environment
    infos = _child(group, "infos", h5py.Group) if "infos" in group else {}
    further = set(infos)
    for name, tensor in tensors.items():
        place = ""
        if member_name(name) in further:
            dataset = _dataset(infos, member_name(name), steps + 1)
        else:
            place = _PLACES.get(name, name)
            dataset = _dataset(group, place, steps + (place == "observations"))
        dtypes = {stored_dtype(tensor.dtype), spaces[name] if place in {"observations", "actions"} else None}
        if dataset.dtype not in dtypes - {None} or math.prod(dataset.shape[1:]) != math.prod(tensor.shape[2:]):
            raise Damage(f"dataset `{dataset.name}`", f"of {dataset.dtype} has not the values of `{name}`")
        _read(dataset, pieces(tensor, environment, rows))
    if "truncated" in tensors.keys() - further and episode.is_open:
        tensors["truncated"][rows[-1].stop - 1, environment] = False


def _read(dataset: Any, targets: Iterator[NDArray[Any]]) -> None:
    """Read the values of a dataset into views, exactly as they were stored."""
    start = 0
    for target in targets:
        if target.size:
            values = dataset[start : start + len(target)]
            with np.errstate(invalid="ignore"):
                values = restored(values.astype(stored_dtype(target.dtype), copy=False), target.dtype)
            target[...] = values.reshape(target.shape)
        start += len(target)


def foreign_tensors(data: Any) -> dict[str, NDArray[Any]]:
    """Return the episodes of a dataset that Minari wrote, one after another, as a full memory of one environment.

    Raises:
        Damage: if an episode is not as Minari lays it out, or unlike the others.
    """
    count = sum(1 for name in data if _EPISODE.fullmatch(name))
    return one_after_another(_checked(data, count), (_columns(data, number) for number in range(count)))


def _checked(data: Any, count: int) -> Iterator[Columns]:
    """Yield the columns of each episode, none of which is another one as well."""
    stored, places = 0, set[int]()
    for number in range(count):
        places.add(h5py.h5o.get_info(_child(data, f"episode_{number}", h5py.Group).id).addr)
        if len(places) <= number:
            raise Damage(f"episode {number}", "is another one as well")
        columns, steps = _columns(data, number)
        stored += sum(values.nbytes for values, offset in columns.values() if not offset)
        if stored > data.id.get_filesize():
            raise Damage(f"episode {number}", "shares its values with others: together they are larger than the file")
        yield columns, steps


def _columns(data: Any, number: int) -> Columns:
    """Return the tensors of one of Minari's episodes, and how many steps it has."""
    group = _child(data, f"episode_{number}", h5py.Group)
    steps = len(_dataset(group, "rewards"))
    columns: dict[str, Column] = {}
    for kind, names in MEMBERS.items():
        for suffix, dataset in _leaves(group, kind, steps + len(names) - 1, seen=set()):
            columns |= {name + suffix: (dataset, offset) for offset, name in enumerate(names)}
    for name, kind in OF_STEPS.items():
        columns[name] = (_Stored(group, kind, _dataset(group, kind, steps)), 0)
    return columns, steps


def _leaves(parent: Any, name: str, count: int, seen: set[int], suffix: str = "") -> list[tuple[str, Any]]:
    """Return the datasets of an observation or action, those of a composite space by the path within it."""
    node = _child(parent, name, (h5py.Group, h5py.Dataset))
    if isinstance(node, h5py.Dataset):
        text = h5py.check_string_dtype(node.dtype)
        if text is not None and text.length is None:  # of any length, as Minari writes them
            raise Unreadable(f"the dataset `{shown(node.name)}` holds texts, which a memory has no tensors for")
        if _is_elsewhere(node) or (h5py.check_vlen_dtype(node.dtype) is None and _flaw(node, None)):
            _dataset(parent, name, count)  # which tells what is wrong
        if are_compressed(node):
            return [(suffix, Images(node, count))]
        return [(suffix, _Stored(parent, name, _dataset(parent, name, count)))]
    address = h5py.h5o.get_info(node.id).addr
    if address in seen:
        raise Damage(f"group `{node.name}`", "is in several places at once")
    seen.add(address)
    inner = (_leaves(node, child, count, seen, f"{suffix}.{child}") for child in node)
    return [leaf for leaves in inner for leaf in leaves]


def _dataset(parent: Any, name: str, count: int | None = None) -> Any:
    """Return a dataset of numbers that are in this very file, as many as said."""
    dataset = _child(parent, name, h5py.Dataset)
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(index)[0] for index in range(created.get_nfilters())]
    if unknown := [number for number in filters if not h5py.h5z.filter_avail(number)]:
        what = f"the dataset `{shown(dataset.name)}` is compressed by a filter that is not installed"
        raise Unreadable(f"{what}, number {unknown[0]} of HDF5's; `pip install hdf5plugin` and import it")
    reason = _flaw(dataset, count)
    if reason:
        raise Damage(f"dataset `{dataset.name}`", reason)
    return dataset


def _flaw(dataset: Any, count: int | None) -> str:
    """Return what is wrong with a dataset, or nothing."""
    shape = dataset.shape
    if _is_elsewhere(dataset):
        return "takes its values from other files"
    if not shape or dataset.dtype.kind not in "biufc":
        return "is no array of numbers"
    if count not in {None, shape[0]}:
        return f"has {shape[0]} values where {count} belong"
    if math.prod(shape) * dataset.dtype.itemsize > _COMPRESSION * dataset.id.get_storage_size():
        return f"has the shape {shape} but hardly any values"
    if (
        dataset.chunks
        and _ROOM + _TIMES * dataset.file.id.get_filesize() < math.prod(dataset.chunks) * dataset.dtype.itemsize
    ):
        return f"is stored in pieces of the shape {dataset.chunks}, which a file of this size may not have"
    return ""


def _is_elsewhere(dataset: Any) -> bool:
    created = dataset.id.get_create_plist()
    return bool(created.get_external_count()) or created.get_layout() == h5py.h5d.VIRTUAL


def _child(parent: Any, name: str, kind: Any) -> Any:
    """Return what is in a group under a name, if it lies there and nowhere else."""
    links, title = parent.id.links, name.encode()
    if not links.exists(title):
        raise Damage(f"`{name}` of `{parent.name}`", "is missing")
    if links.get_info(title).type != h5py.h5l.TYPE_HARD:
        raise Damage(f"`{name}` of `{parent.name}`", "refers to another place")
    node = parent[name]
    if not isinstance(node, kind):
        raise Damage(f"`{name}` of `{parent.name}`", f"is a {type(node).__name__.lower()}, which does not belong there")
    return node
