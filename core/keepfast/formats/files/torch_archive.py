"""Files that `torch.load` reads, written and read without PyTorch.

The layout is that of ``torch.save`` (a zip archive of ``archive/data.pkl``, ``archive/data/0`` and so on) and two
additions that PyTorch ignores: the record ``archive/keepfast.json`` with metadata, and the seal of
`keepfast.formats.files.sealed_zip`.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.bounded import opened_zip
from keepfast._system.disk.checksum import Summed
from keepfast._system.memory.garbage import unsearched
from keepfast.errors import CorruptCheckpoint, CorruptFile, KeepfastError, Unreadable, shown
from keepfast.formats.files.numpy_pickle import PickledArray, PickledDtype
from keepfast.formats.files.sealed import Damage, naming, verified, warn_of_anew
from keepfast.formats.files.sealed_zip import ALIGNMENT, SealedZipReader, SealedZipWriter
from keepfast.formats.files.stored_tensor import StorageReference, StoredTensor, TensorLayout
from keepfast.formats.files.torch_pickle import TreePickler, is_foreign, load_tree
from keepfast.pickles.machine import CodeRefused
from keepfast.tree import Tree, Unread, values, versions_of, with_versions

_METADATA = "keepfast.json"
_FORMAT_VERSION = b"1"
_VERSION = b"3\n"
_LEGACY_BEGINNING = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_OF_SCRIPTS = ("constants.pkl", "code/__torch__.py")
"""Records that only files of ``torch.jit.save`` have, which are programs."""

_LEAVES = frozenset((type(None), bool, int, float, complex, str, bytes))


def write_archive(file: BinaryIO, tree: Tree, metadata: Mapping[str, Any]) -> Summed | None:
    """Write a tree so that ``torch.load(path, weights_only=True)`` gives it with tensors in the place of arrays.

    Arrays that are not scattered in memory are written from where they are; those over the same bytes are stored once.

    Args:
        file: an empty file, open for writing.
        tree: containers and leaves; arrays are NumPy arrays of any shape and of the dtypes PyTorch has.
        metadata: a tree that `torch.load` never shows; see `keepfast.codec` for what it may hold.

    Returns:
        What the file was written with, where that is known.

    Raises:
        InvalidValue: if a leaf cannot be stored; names its path. Nothing is written then.
        OSError: if the file cannot be written.
    """
    pickler = TreePickler()
    pickled = pickler.dumps(tree)
    storages = [(f"data/{key}", storage.data) for key, storage in enumerate(pickler.storages)]
    records: list[tuple[str, Any]] = [
        ("data.pkl", pickled),
        (".format_version", _FORMAT_VERSION),
        (".storage_alignment", str(ALIGNMENT).encode()),
        ("byteorder", sys.byteorder.encode()),
        *storages,
        ("version", _VERSION),
        (_METADATA, codec.dumps(dict(metadata)).encode()),
    ]
    writer = SealedZipWriter(file)
    writer.write((f"archive/{name}", data) for name, data in records)
    return writer.finish()


def read_archive(
    path: Path, error: type[CorruptFile] = CorruptCheckpoint, *, mapped: bool = False
) -> tuple[Tree, dict[str, Any]]:
    """Read a file of `write_archive` or of ``torch.save``, verify it, and run no code from it.

    Arrays own writable memory; those that shared memory when they were written share it again.

    Args:
        path: the file.
        error: what to raise where it is damaged.
        mapped: whether to memory-map large arrays, copy on write, instead of reading them.

    Returns:
        The tree, and the metadata: empty in a file that PyTorch wrote.

    Raises:
        CorruptFile: `error`, if the file is damaged, or holds or names anything but tensors and plain containers.
        OSError: if it cannot be opened.
    """
    with unsearched(), verified(path, error, mapped=mapped) as file:
        if file.read(len(_LEGACY_BEGINNING)) == _LEGACY_BEGINNING:
            raise Unreadable(
                "it is in the layout of PyTorch before 1.6; convert it once: "
                "torch.save(torch.load(path, weights_only=True), path)"
            )
        try:
            return _Reader(file, path).read()
        except (Damage, CodeRefused):
            if _is_script(path):
                raise error(
                    f"`{path}` is a TorchScript module, a program of `torch.jit.save`, and loading runs no code; save "
                    "its `state_dict()` with `torch.save`"
                ) from None
            raise


def read_within(path: Path, start: int, length: int) -> Tree:
    """Return the tree of an archive of ``torch.save`` that lies within another file, as `read_archive` does.

    Raises:
        CorruptCheckpoint: as for `read_archive`; names the file.
    """
    with unsearched(), path.open("rb") as file, naming(path):
        file.seek(start)
        return _Reader(io.BytesIO(file.read(length)), path).read()[0]


def _is_script(path: Path) -> bool:
    try:
        with opened_zip(path) as archive:
            return any(name.partition("/")[2] in _OF_SCRIPTS for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _nothing_but(unread: Unread) -> Exception:
    """Return the error of a file that holds nothing that can be read; PyTorch's own tensors are no code."""
    if unread.name.startswith("torch._utils._rebuild_"):
        return Unreadable(f"it holds nothing but `{shown(unread.name)}`, which only PyTorch can make")
    return CodeRefused(unread.name)


@final
class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._zip, self._path = SealedZipReader(file, always_summed=False), path
        self._prefix = self._zip.names[0].partition("/")[0] + "/"
        self._unread = set(self._zip.names)
        self._foreign: list[Unread] = []
        self._seen: dict[int, Any] = {}
        self._storages: dict[str, NDArray[np.uint8]] = {}
        self._resolved: dict[tuple[str, str, bool, bool], NDArray[np.uint8]] = {}

    def read(self) -> tuple[Tree, dict[str, Any]]:
        if (order := self._text("byteorder", sys.byteorder)) not in ("little", "big"):
            raise Damage("byteorder", f"is `{order}`")
        self._swapped = order != sys.byteorder
        metadata = self._metadata()
        tree = self._fill(self._unpickle(), ())
        if self._foreign and not any(isinstance(leaf, np.ndarray) for leaf in values(tree)):
            raise _nothing_but(self._foreign[0])
        for name in sorted(self._unread):
            self._zip.read(name)
        return tree, metadata

    def _unpickle(self) -> Tree:
        pickled = self._record("data.pkl", "pickle `data.pkl`")
        try:
            return load_tree(io.BytesIO(pickled.tobytes()))
        except (CodeRefused, KeepfastError):
            raise
        except Exception as error:  # unpickling damaged bytes raises nearly anything
            raise Damage("pickle `data.pkl`", f"cannot be read ({type(error).__name__}: {error})") from error

    def _metadata(self) -> dict[str, Any]:
        known = self._prefix + _METADATA in self._unread
        if self._zip.was_sealed or (known and self._zip.anew):
            warn_of_anew(self._path)
            return {}
        if not known:
            return {}
        if not self._zip.sealed:
            raise Damage("seal", "is not what was written")
        return dict(codec.loads(self._text(_METADATA, "")))

    def _text(self, name: str, default: str) -> str:
        known = self._prefix + name in self._unread
        return self._record(name, f"record `{name}`").tobytes().decode() if known else default

    def _record(self, name: str, part: str) -> NDArray[np.uint8]:
        full = self._prefix + name
        self._unread.discard(full)
        try:
            return self._zip.read(full)
        except KeyError:
            raise Damage(part, "is missing") from None
        except Damage as damage:
            raise Damage(part, damage.reason) from damage

    def _fill(self, node: Any, trail: _Trail) -> Tree:
        """Return clean containers with arrays in them for those that the pickle described."""
        if type(node) is StoredTensor:
            return self._tensor(node, trail)
        if type(node) in _LEAVES:
            return node
        if (unread := _unread(node)) is not None:
            self._foreign += [unread] if is_foreign(unread) else []
            return unread
        if isinstance(node, PickledArray):
            return _array(node, trail)
        if _is_plain(node):
            return node
        if isinstance(node, bytearray):
            return bytes(node)
        if isinstance(node, dict):
            kind = next((kind for kind in (OrderedDict, Counter) if isinstance(node, kind)), dict)
            filled = kind({key: self._fill(child, (trail, key)) for key, child in node.items()})
            return with_versions(filled, versions_of(node), self._seen)
        if isinstance(node, list | tuple):
            return type(node)(self._fill(child, (trail, key)) for key, child in enumerate(node))
        raise Damage(_entry(trail), f"is a {type(node).__name__} of what is no tensor, number or text")

    def _tensor(self, tensor: StoredTensor, trail: _Trail) -> NDArray[Any]:
        try:
            return tensor.layout.over(self._storage(tensor.key, tensor.layout))
        except Damage as damage:
            raise Damage(_entry(trail), damage.reason) from damage
        except Unreadable as error:
            raise Unreadable(f"the {_entry(trail)} cannot be given: {error}") from error
        except (ValueError, TypeError) as error:
            raise Damage(_entry(trail), f"does not lie within its storage ({error})") from error

    def _storage(self, key: str, layout: TensorLayout) -> NDArray[np.uint8]:
        """Return a tensor's storage, which those over the same one share, and is read once."""
        if (storage := self._storages.get(key)) is None:
            storage = self._storages[key] = self._record("data/" + key, "storage")
        if storage.nbytes != layout.nbytes:
            raise Damage("storage", f"has {storage.nbytes} bytes where {layout.nbytes} belong")
        if not (layout.conjugate or layout.negative or self._swapped):
            return storage
        numbers = key, layout.dtype, layout.conjugate, layout.negative
        if numbers not in self._resolved:
            self._resolved[numbers] = layout.resolved(storage, swapped=self._swapped)
        return self._resolved[numbers]


_Trail = tuple[()] | tuple[Any, Any]
"""Where an entry is: the trail of what it is in, and its key there. A path is made of it for whoever asks."""


def _entry(trail: _Trail) -> str:
    keys: list[str] = []
    while trail:
        trail, key = trail
        keys.append(str(key))
    return f"entry `{'.'.join(reversed(keys))}`"


def _array(pickled: PickledArray, trail: _Trail) -> NDArray[Any]:
    try:
        return pickled.array
    except ValueError as error:
        raise Damage(_entry(trail), f"cannot be read ({error})") from error


def _unread(node: Any) -> Unread | None:
    """Return what stands for what cannot be read, alone or as a key; None for all else."""
    if isinstance(node, Unread):
        return node
    if isinstance(node, PickledArray):
        return node.unread
    if isinstance(node, PickledDtype):
        return Unread("numpy.dtype")
    if isinstance(node, StorageReference):
        return Unread("torch.storage.UntypedStorage")
    if isinstance(node, frozenset):
        return Unread("builtins.frozenset")
    if isinstance(node, dict | set) and not (_LEAVES.issuperset(map(type, node)) or _is_plain(tuple(node))):
        named = next((key.name for key in node if isinstance(key, Unread)), "what is no plain data")
        return Unread(f"{type(node).__name__} by {named}")
    return None


def _is_plain(value: Any) -> bool:
    """Say whether a value, as a leaf or as a key, is of the kinds that `write_archive` takes."""
    if type(value) in (tuple, set):
        return all(map(_is_plain, value))
    return type(value) in _LEAVES
