"""Memories as Minari datasets: a directory that ``minari.MinariDataset(path)`` opens.

``main_data.hdf5`` holds the episodes and, behind the end that HDF5 itself knows of, the document of
`holdfast.memory_formats._header`, its length and the CRC-32 of everything before it. ``metadata.json`` is for Minari
alone. Where Minari has a place for a tensor, it is there: ``states`` (or ``observations``) with the observation after
the last step, ``actions``, ``rewards``, ``terminated`` and ``truncated``; all others are among the infos.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import h5py
import numpy as np
from numpy.typing import NDArray

from holdfast._commit import commit
from holdfast._spacious import spacious_zeros
from holdfast.codec import dtype_of
from holdfast.errors import CorruptMemory, InvalidValue, NotFound
from holdfast.memory import MemoryExporter, MemorySnapshot
from holdfast.memory_fit import histories
from holdfast.memory_formats._episodes import Episode, episodes
from holdfast.memory_formats._header import check_version, header_from, header_text, plain_dtype, snapshot_from

_DATA, _METADATA = "main_data.hdf5", "metadata.json"
_TRAILER = struct.Struct("<16sQI")
_MARK = b"holdfast memory\n"
_MINARI_VERSION = "0.5.0"
_OBSERVATIONS = ("states", "observations")


@final
class MinariExporter(MemoryExporter):
    """Writes a directory with the episodes of each environment; needs the tensors states, actions and rewards.

    An episode that the memory does not hold to its end is marked as truncated there, and as ``holdfast_open``; one
    whose beginning may have been overwritten as ``holdfast_fragment``. Without ``next_states``, the observation after
    the last step of an episode is unknown, and the one before it is repeated.
    """

    extension: ClassVar[str] = ".minari"

    def owns(self, path: Path) -> bool:
        """Say whether a path is such a directory, of this extension or made by Minari itself."""
        return path.name.endswith(self.extension) or _data_file(path).is_file()

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:
        """Write ``main_data.hdf5``."""
        observations = _check_tensors(snapshot)
        with h5py.File(file, "w", track_order=True) as data:
            for number, episode in enumerate(episodes(snapshot)):
                _write_episode(data.create_group(f"episode_{number}"), number, episode, observations)
        header = header_text(snapshot)
        file.seek(0, 2)
        file.write(header)
        file.write(_TRAILER.pack(_MARK, len(header), _digest(file)))

    def save(self, snapshot: MemorySnapshot, path: Path) -> int:
        """Write both files, Minari's metadata last; returns their size in bytes."""
        document = json.dumps(_metadata(snapshot, path.name)).encode()
        size = commit(path / _DATA, lambda file: self.write(snapshot, file))
        return size + commit(path / _METADATA, lambda file: _write(file, document))

    def read(self, path: Path) -> MemorySnapshot:
        """Read a dataset, verified where Holdfast wrote it; the episodes of others follow one another."""
        source = _data_file(path)
        if not source.is_file():
            raise NotFound(f"`{path}` is no Minari dataset: there is no `{_DATA}` in it")
        with source.open("rb") as file:
            header = _header(file, path)
            try:
                with h5py.File(file, "r") as data:
                    if header is None:
                        return MemorySnapshot(_foreign(data), 0, 0, filled=True)
                    return snapshot_from(_tensors(data, header), header, path)
            except (OSError, KeyError, ValueError) as error:
                raise CorruptMemory(f"`{path}` is damaged: its episodes cannot be read ({error})") from error


def _write(file: BinaryIO, document: bytes) -> None:
    file.write(document)


def _data_file(path: Path) -> Path:
    """Return the file with the episodes, in a directory or in the ``data`` directory below it."""
    return path / _DATA if (path / _DATA).exists() else path / "data" / _DATA


def _check_tensors(snapshot: MemorySnapshot) -> str:
    """Return the name of the tensor of observations.

    Raises:
        InvalidValue: if a tensor that every Minari dataset has is missing.
    """
    found = next((name for name in _OBSERVATIONS if name in snapshot.tensors), None)
    if found is None or not {"actions", "rewards"} <= snapshot.tensors.keys():
        raise InvalidValue(
            "a Minari dataset needs the tensors `states` (or `observations`), `actions` and `rewards`; the memory has "
            f"{', '.join(f'`{name}`' for name in snapshot.tensors) or 'none'}"
        )
    return found


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as HDF5 holds them, a sample of one element as a number."""
    plain = np.ascontiguousarray(values).view(plain_dtype(values.dtype))
    return plain[:, 0] if plain.shape[1:] == (1,) else plain


def _is_flag(tensors: Mapping[str, NDArray[Any]], name: str) -> bool:
    """Say whether Minari's own place for a flag keeps it whole."""
    return name in tensors and tensors[name].dtype.kind == "b" and tensors[name].shape[-1] == 1


def _write_episode(group: Any, number: int, episode: Episode, observations: str) -> None:
    tensors = episode.tensors
    steps = len(tensors[observations])
    following = tensors.get("next_states", tensors[observations])[-1:]
    if following.shape[1:] != tensors[observations].shape[1:] or following.dtype != tensors[observations].dtype:
        following = tensors[observations][-1:]
    group["observations"] = _observations(np.concatenate([tensors[observations], following]))
    group["actions"], group["rewards"] = _stored(tensors["actions"]), _stored(tensors["rewards"])
    flags = {name: np.zeros(steps, bool) for name in ("terminated", "truncated")}
    for name, flag in flags.items():
        if name in tensors:
            flag |= tensors[name].reshape(steps, -1).astype(bool).any(axis=1)
    flags["truncated"][-1] |= episode.is_open
    group["terminations"], group["truncations"] = flags["terminated"], flags["truncated"]
    own = {observations, "actions", "rewards", *(name for name in flags if _is_flag(tensors, name))}
    for name, values in tensors.items():
        if name not in own:
            group[f"infos/{name}"] = _stored(np.concatenate([values, np.zeros_like(values[:1])]))
    marks = {"holdfast_open": episode.is_open, "holdfast_fragment": episode.is_fragment}
    group.attrs.update({"id": number, "total_steps": steps, "holdfast_environment": episode.environment, **marks})


def _observations(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).view(plain_dtype(values.dtype))


def _tensors(data: Any, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file that Holdfast wrote: its episodes lie in the order of `histories`."""
    sizes = header["memory_size"], header["num_envs"]
    position = header["memory_index"], header["env_index"], header["filled"]
    places = np.concatenate(histories(MemorySnapshot({"": np.empty((*sizes, 0))}, *position)))
    groups = [data[f"episode_{number}"] for number in range(len(data))]
    tensors = {}
    for name, described in header["tensors"].items():
        dtype, size = dtype_of(described["dtype"]), tuple(described["size"])
        flat, start = spacious_zeros((sizes[0] * sizes[1], *size), dtype), 0
        for group in groups:
            steps = int(group.attrs["total_steps"])
            values = _place(group, name)[:steps]
            if name == "truncated" and group.attrs["holdfast_open"] and "infos/truncated" not in group:
                values[-1] = False
            flat[places[start : start + steps]] = values.view(dtype).reshape(steps, *size)
            start += steps
        tensors[name] = flat.reshape(*sizes, *size)
    return tensors


def _place(group: Any, name: str) -> NDArray[Any]:
    if f"infos/{name}" in group:
        values: NDArray[Any] = group[f"infos/{name}"][()]
        return values
    found = {"terminated": "terminations", "truncated": "truncations", **dict.fromkeys(_OBSERVATIONS, "observations")}
    own: NDArray[Any] = group[found.get(name, name)][()]
    return own


def _foreign(data: Any) -> dict[str, NDArray[Any]]:
    """Return the episodes of a dataset that Minari wrote, one after another, as a full memory of one environment."""
    parts: dict[str, list[NDArray[Any]]] = {}
    for number in range(len(data)):
        group = data[f"episode_{number}"]
        steps = len(group["rewards"])
        for kind, names in (("observations", ("states", "next_states")), ("actions", ("actions",))):
            for suffix, values in _leaves(group[kind]):
                for offset, name in enumerate(names):
                    parts.setdefault(name + suffix, []).append(values[offset : offset + steps])
        for name, kind in (("rewards", "rewards"), ("terminated", "terminations"), ("truncated", "truncations")):
            parts.setdefault(name, []).append(group[kind][()])
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return {name: values.reshape(len(values), 1, *(values.shape[1:] or (1,))) for name, values in joined.items()}


def _leaves(node: Any, suffix: str = "") -> list[tuple[str, NDArray[Any]]]:
    """Return the arrays of an observation or action, those of a composite space by the path within it."""
    if isinstance(node, h5py.Dataset):
        return [(suffix, node[()])]
    return [leaf for name, child in node.items() for leaf in _leaves(child, f"{suffix}.{name}")]


def _digest(file: BinaryIO, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of its beginning."""
    file.seek(0)
    digest, left = 0, file.seek(0, 2) if size is None else size
    file.seek(0)
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        digest = zlib.crc32(chunk, digest)
        left -= len(chunk)
    file.seek(0, 2)
    return digest


def _header(file: BinaryIO, path: Path) -> dict[str, Any] | None:
    """Return the document of a verified file; None for one that another tool wrote."""
    size = file.seek(0, 2) - _TRAILER.size
    file.seek(max(size, 0))
    trailer = file.read(_TRAILER.size)
    mark, length, digest = _TRAILER.unpack(trailer) if len(trailer) == _TRAILER.size else (b"", 0, 0)
    if mark != _MARK and _is_ours(path):
        raise CorruptMemory(f"`{path}` is damaged: the end of `{_DATA}` is missing")
    if mark != _MARK:
        return None
    if _digest(file, size) != digest or length > size:
        raise CorruptMemory(f"`{path}` is damaged: `{_DATA}` is not as it was written (its CRC-32 says so)")
    file.seek(size - length)
    header = header_from(file.read(length))
    check_version(header, path)
    return header


def _is_ours(path: Path) -> bool:
    """Say whether Holdfast wrote a dataset, by Minari's own file, or by the lack of it."""
    for file in (path / _METADATA, path / "data" / _METADATA):
        if file.is_file():
            return b'"holdfast": true' in file.read_bytes()
    return True


def _metadata(snapshot: MemorySnapshot, name: str) -> dict[str, Any]:
    """Return what Minari wants to know of a dataset."""
    return {
        "dataset_id": f"holdfast/{name.partition('.')[0]}-v0",
        "minari_version": _MINARI_VERSION,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "total_episodes": sum(1 for _ in episodes(snapshot)),
        "total_steps": len(snapshot),
        "observation_space": _space(snapshot.tensors[_check_tensors(snapshot)], discrete=False),
        "action_space": _space(snapshot.tensors["actions"], discrete=True),
        "description": "Exported by Holdfast.",
        "code_permalink": "",
        "author": [],
        "author_email": [],
        "algorithm_name": str(snapshot.metadata.get("agent", "")),
        "holdfast": True,
    }


def _space(tensor: NDArray[Any], *, discrete: bool) -> str:
    """Return a space that holds the samples of a tensor, as Minari writes spaces."""
    dtype, size = plain_dtype(tensor.dtype), tensor.shape[2:]
    if discrete and dtype.kind in "iu" and size == (1,) and (not tensor.size or tensor.min() >= 0):
        return json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": int(tensor.max(initial=0)) + 1})
    limits: tuple[Any, Any] = (-np.inf, np.inf)
    if dtype.kind in "iu":
        limits = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    elif dtype.kind == "b":
        limits = (0, 1)
    shape = size if not discrete or size != (1,) else ()
    low, high = (np.full(shape, limit, dtype).tolist() for limit in limits)
    return json.dumps({"type": "Box", "dtype": str(dtype), "shape": list(shape), "low": low, "high": high})
