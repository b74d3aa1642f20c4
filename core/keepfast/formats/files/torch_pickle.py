"""The pickle inside a `.pt` file: PyTorch's description of tensors, written and read without PyTorch.

A tensor is a call of ``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)``, or, for
dtypes without a storage class of their own, of ``_rebuild_tensor_v3`` with the dtype at the end; a storage is a
persistent reference ``("storage", class, key, location, numel)``. Offsets and strides count elements. Only the
instructions and names that ``torch.load(weights_only=True)`` knows are written.
"""

from __future__ import annotations

import functools
import operator
import pickle
import struct
import sys
from _compat_pickle import IMPORT_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue
from keepfast.formats.files.numpy_pickle import NUMPY_AND_JAX
from keepfast.formats.files.stored_tensor import StorageReference, StoredTensor, TensorLayout, known_dtype
from keepfast.pickles.machine import safe_load
from keepfast.pickles.tensors import Again
from keepfast.tree import Tree, Unread, versions_of

_TYPED = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
_UNTYPED = (
    *("uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
_WIDEST_INT = 255
"""The most bytes of an integer that ``weights_only`` reads."""


@functools.cache
def _dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name that NumPy and PyTorch both use, or "" for a dtype that PyTorch does not have."""
    name = str(dtype)  # slow enough to show where there are hundreds of arrays
    return name if name in _TYPED or name in _UNTYPED else ""


def _dense_order(array: NDArray[Any]) -> NDArray[Any] | None:
    """Return the array with its axes permuted into C order, or None where its elements are not side by side."""
    if array.flags.c_contiguous:
        return array
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    permuted = array.transpose(axes)
    return permuted if permuted.flags.c_contiguous else None


def _string(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + _LENGTH.pack(len(encoded)) + encoded


_LONG = 64
_short = functools.lru_cache(maxsize=1024)(_string)
"""Writes a short key, of which most trees have the same ones over and over."""

_INT, _LENGTH, _FLOAT = struct.Struct("<i"), struct.Struct("<I"), struct.Struct(">d")
_WRITTEN: Mapping[type, Callable[[Any], bytes]] = {
    float: lambda value: pickle.BINFLOAT + _FLOAT.pack(value),
    str: _string,
    bool: lambda value: pickle.NEWTRUE if value else pickle.NEWFALSE,
    type(None): lambda _: pickle.NONE,
}
"""What writes a leaf of one of Python's own classes, for which no path is needed."""


def _plain(key: Any) -> Any:
    """Return a key or a member of a set, which cannot be an array, with NumPy's numbers as Python's."""
    return key.item() if isinstance(key, np.generic) else key


@final
class TreePickler:
    """Turns a tree into a pickle and the storages that it refers to.

    Arrays over the same bytes share a storage, so they share memory again when PyTorch loads them.
    """

    def __init__(self) -> None:
        self.storages: list[NDArray[np.uint8]] = []
        self._keys: dict[tuple[int, int, str], int] = {}
        self._globals: dict[str, int] = {}
        self._alike: dict[Any, tuple[bytes, bytes]] = {}
        self._out = bytearray(pickle.PROTO + b"\2")

    def dumps(self, tree: Tree) -> bytes:
        """Return the pickle of a tree.

        Raises:
            InvalidValue: if a leaf is of a kind or dtype that PyTorch's format does not have; names its path.
        """
        self._put(tree, "")
        return bytes(self._out + pickle.STOP)

    def _put(self, value: Any, path: str) -> None:
        if (write := _WRITTEN.get(type(value))) is not None:
            self._out += write(value)
        elif isinstance(value, np.ndarray | np.generic):
            self._put_array(np.asarray(value), path)
        elif isinstance(value, int):
            self._put_int(value, path)
        elif isinstance(value, float):
            self._out += _WRITTEN[float](value)
        elif isinstance(value, str):
            self._out += _string(value)
        elif isinstance(value, Mapping):
            self._put_mapping(value, path)
        elif isinstance(value, list | tuple):
            self._put_sequence(value, path)
        else:
            self._put_call_of(value, path)

    def _put_call_of(self, value: Any, path: str) -> None:
        """Write what no instruction exists for: as the call of a function that makes it."""
        if isinstance(value, complex):
            self._put_call("__builtin__ complex", (value.real, value.imag), path)
        elif isinstance(value, bytes | bytearray):
            self._put_call("_codecs encode", (value.decode("latin1"), "latin1"), path)
        elif isinstance(value, set | frozenset):
            self._put_call("__builtin__ set", ([_plain(member) for member in value],), path)
        else:
            raise InvalidValue(
                f"`{path or '(root)'}` is a {type(value).__module__}.{type(value).__qualname__}, which a .pt file "
                "cannot hold; allowed: numbers, strings, bytes, None, arrays, and dicts, lists, tuples and sets of them"
            )

    def _put_int(self, value: int, path: str) -> None:
        if -(2**31) <= value < 2**31:
            self._out += pickle.BININT + _INT.pack(value)
            return
        encoded = pickle.encode_long(value)
        if len(encoded) > _WIDEST_INT:
            raise InvalidValue(f"`{path or '(root)'}` is an integer of {len(encoded)} bytes; at most {_WIDEST_INT} fit")
        self._out += pickle.LONG1 + bytes([len(encoded)]) + encoded

    def _put_ints(self, values: tuple[int, ...]) -> None:
        self._out += pickle.MARK
        for value in values:
            self._put_int(value, "")
        self._out += pickle.TUPLE

    def _put_sequence(self, value: Iterable[Any], path: str) -> None:
        self._out += pickle.MARK if isinstance(value, tuple) else pickle.EMPTY_LIST + pickle.MARK
        for index, child in enumerate(value):
            self._put(child, f"{path}.{index}" if path else str(index))
        self._out += pickle.TUPLE if isinstance(value, tuple) else pickle.APPENDS

    def _put_mapping(self, value: Mapping[Any, Any], path: str) -> None:
        if type(value) is OrderedDict:
            self._put_call("collections OrderedDict", (), path)
        elif type(value) is Counter:
            self._put_call("collections Counter", ({},), path)
        else:
            self._out += pickle.EMPTY_DICT
        self._out += pickle.MARK
        for key, child in value.items():
            if type(key) is str and len(key) < _LONG:
                self._out += _short(key)
            else:
                self._put(_plain(key), path)
            write = _WRITTEN.get(type(child))
            if write is not None:
                self._out += write(child)
            elif type(child) is int and -(2**31) <= child < 2**31:
                self._out += pickle.BININT + _INT.pack(child)
            else:
                self._put(child, f"{path}.{key}" if path else str(key))
        self._out += pickle.SETITEMS
        if (versions := versions_of(value)) is not None:
            self._put({"_metadata": OrderedDict(versions)}, path)
            self._out += pickle.BUILD

    def _put_global(self, name: str) -> None:
        if name in self._globals:
            self._out += pickle.LONG_BINGET + _LENGTH.pack(self._globals[name])
            return
        self._globals[name] = len(self._globals)
        self._out += pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"
        self._out += pickle.LONG_BINPUT + _LENGTH.pack(self._globals[name])

    def _put_call(self, function: str, arguments: tuple[Any, ...], path: str) -> None:
        self._put_global(function)
        self._put(arguments, path)
        self._out += pickle.REDUCE

    def _put_array(self, array: NDArray[Any], path: str) -> None:
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        name = _dtype_name(array.dtype)
        if not name:
            raise InvalidValue(
                f"`{path or '(root)'}` has the dtype {array.dtype}, which PyTorch does not have; "
                "the format `safetensors` keeps it"
            )
        dense = _dense_order(array)
        if dense is None:
            array = dense = np.ascontiguousarray(array)
        # Most arrays of a tree are laid out as others in it, and differ in nothing but the storage's key.
        layout, key = (name, array.shape, array.strides), _string(str(self._storage_key(dense, name)))
        if (parts := self._alike.get(layout)) is None:
            known, start = len(self._globals), len(self._out)
            middle = self._put_tensor(array, dense, name, key)
            if known == len(self._globals):
                self._alike[layout] = bytes(self._out[start:middle]), bytes(self._out[middle + len(key) :])
        else:
            self._out += parts[0] + key + parts[1]

    def _put_tensor(self, array: NDArray[Any], dense: NDArray[Any], name: str, key: bytes) -> int:
        """Write how a tensor is made of its storage, and return where the storage's key stands."""
        self._put_global(f"torch._utils _rebuild_tensor_{'v2' if name in _TYPED else 'v3'}")
        self._out += pickle.MARK + pickle.MARK + _string("storage")
        self._put_global(f"torch {_TYPED[name]}" if name in _TYPED else "torch.storage UntypedStorage")
        place = len(self._out)
        self._out += key + _string("cpu")
        self._put_int(dense.size if name in _TYPED else dense.nbytes, "")
        self._out += pickle.TUPLE + pickle.BINPERSID
        self._put_int(0, "")
        self._put_ints(array.shape)
        self._put_ints(tuple(stride // array.itemsize for stride in array.strides))
        self._out += pickle.NEWFALSE
        self._put_call("collections OrderedDict", (), "")
        if name in _UNTYPED:
            self._put_global(f"torch {name}")
        self._out += pickle.TUPLE + pickle.REDUCE
        return place

    def _storage_key(self, dense: NDArray[Any], name: str) -> int:
        identity = (dense.__array_interface__["data"][0], dense.nbytes, name)
        if dense.size == 0 or identity not in self._keys:
            self._keys[identity] = len(self.storages)
            self.storages.append(dense.reshape(-1).view(np.uint8))
        return self._keys[identity]


_DTYPE_OF_CLASS = {f"torch.{storage}": dtype for dtype, storage in _TYPED.items()}
_UNTYPED_CLASSES = ("torch.storage.UntypedStorage", "torch.UntypedStorage")


@functools.lru_cache(maxsize=256)
def _of_class(name: str) -> tuple[str, int]:
    """Return the dtype of a class of storages, as a reference tells it, and the size of what it counts."""
    dtype = _DTYPE_OF_CLASS.get(name, "uint8" if name in _UNTYPED_CLASSES else name)
    return dtype, 1 if dtype == name else known_dtype(dtype).itemsize


def _stored(reference: Any) -> StorageReference:
    """Return what a persistent reference describes."""
    kind, storage_class, key, _location, numel = reference
    known = isinstance(storage_class, Unread) and isinstance(key, str | int) and isinstance(numel, int)
    if kind != "storage" or not known:
        raise pickle.UnpicklingError("a persistent reference is not to a storage")
    dtype, size = _of_class(storage_class.name)
    return tuple.__new__(StorageReference, (str(key), numel * size, dtype))  # the class's own way takes twice as long


def _rebuild(
    storage: Any, offset: int, size: Any, stride: Any, dtype: Unread | None, bits: Any
) -> StoredTensor | Unread:
    key, nbytes, own = storage
    name = (dtype.name if dtype else own).removeprefix("torch.")
    if name not in _TYPED and name not in _UNTYPED:
        return Unread(f"torch.Tensor of {name}")
    layout = TensorLayout(nbytes, name, _int(offset), _ints(size), _ints(stride))
    if bits:
        layout.conjugate, layout.negative = bool(bits.get("conj")), bool(bits.get("neg"))
    return StoredTensor(key, layout)


def _ints(values: Any) -> tuple[int, ...]:
    return values if type(values) is tuple and {*map(type, values)} <= {int} else tuple(map(_int, values))


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise pickle.UnpicklingError("a place or a size of a tensor is a truth value")
    return operator.index(value)


def _rebuild_v2(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> StoredTensor | Unread:
    return _rebuild(storage, offset, size, stride, None, rest[2] if len(rest) > 2 else None)


def _rebuild_v3(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> StoredTensor | Unread:
    return _rebuild(storage, offset, size, stride, rest[2], rest[3] if len(rest) > 3 else None)


def _another_tensor(one: Any, key: str) -> StoredTensor | None:
    return StoredTensor(key, one.layout) if type(one) is StoredTensor else None


def _another_storage(one: StorageReference, key: str) -> StorageReference:
    return tuple.__new__(StorageReference, (key, *one[1:]))


AGAIN = Again(_another_tensor, _another_storage)
"""What `_rebuild` and `_stored` make, of what they made of a tensor that differs in nothing but its storage's key."""


@final
class _Ordered(OrderedDict[Any, Any]):
    """Takes the versions that PyTorch hangs on a state dict, its ``_metadata``, and forgets its other attributes."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self._metadata = state.get("_metadata")


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes are not encoded as latin1")
    return text.encode("latin1")


def _bytes(content: Any = b"", *encoding: Any) -> bytes:
    """Return the content of a bytearray; a number instead would ask for as much memory as it says."""
    return content if isinstance(content, bytes) and not encoding else _encode(content, *encoding)


def _device(*parts: Any) -> Unread:
    if not all(isinstance(part, str | int) for part in parts):
        raise pickle.UnpicklingError("a device is neither a name nor a number")
    return Unread("torch.device")


def _of_type(function: Any, kind: Any, arguments: Any, _state: Any) -> Any:
    """Return a tensor of another class as the tensor it is, where that can be read."""
    return kind if isinstance(function, Unread) else function(*arguments)


_ADMITTED: dict[str, Any] = {
    **NUMPY_AND_JAX,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": lambda data, *_rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_rest: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": tuple,
    "torch.device": _device,
    "torch.Tensor": "torch.Tensor",
    "torch.nn.parameter.Parameter": "torch.nn.parameter.Parameter",
    "collections.OrderedDict": _Ordered,
    "collections.Counter": Counter,
    "builtins.set": set,
    "builtins.complex": complex,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encode,
    **{name: name for name in (*_DTYPE_OF_CLASS, *_UNTYPED_CLASSES)},
    **{f"torch.{name}": f"torch.{name}" for name in (*_TYPED, *_UNTYPED)},
}


_HARMLESS = frozenset(
    {
        *("argparse.Namespace", "types.SimpleNamespace", "random.Random", "uuid.UUID", "uuid.SafeUUID"),
        *("decimal.Decimal", "fractions.Fraction", "zoneinfo.ZoneInfo._unpickle", "__builtin__.xrange"),
        *("array.array", "array._array_reconstructor", "re._compile", "sre._compile"),
        *(f"collections.{name}" for name in ("deque", "defaultdict", "ChainMap", "UserDict", "UserList", "UserString")),
        *("UserDict.UserDict", "UserDict.IterableUserDict", "UserList.UserList", "UserString.UserString"),
        *(f"ipaddress.IPv{version}{kind}" for version in "46" for kind in ("Address", "Network", "Interface")),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(
            f"{module}.{flavour}{system}Path"
            for module in ("pathlib", "pathlib._local")
            for flavour in ("", "Pure")
            for system in ("", "Posix", "Windows")
        ),
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in ("slice", "range", "object", "frozenset", "list", "tuple", "dict", "int", "long", "float")
        ),
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in ("str", "unicode", "bool", "Ellipsis", "NotImplemented")
        ),
    }
)
"""What a file may name of Python's own library beside its weights; all else of it is taken for code."""

_PYTHONS_OWN = sys.stdlib_module_names | {name.partition(".")[0] for name in IMPORT_MAPPING} | {"popen2", "imp"}
"""Python's own library, also by the names that it had in Python 2, which older protocols write."""


def _is_harmless(module: str, name: str) -> bool:
    """Say whether what a pickle names, which is never imported, can be left unread beside what can be read.

    A module of another library has those of Python's own that it imports among its names: ``os.system`` of ``torch``.
    """
    if f"{module}.{name}" in _HARMLESS:
        return True
    return _PYTHONS_OWN.isdisjoint((module.partition(".")[0], *name.split(".")[:-1]))


def is_foreign(unread: Unread) -> bool:
    """Say whether what is left unread is neither PyTorch's nor NumPy's own plain data, as a dtype is."""
    return unread.name.partition(" ")[0] not in _ADMITTED


def load_tree(file: BinaryIO) -> Tree:
    """Return the tree of a pickle, a `StoredTensor` in the place of each tensor. Runs nothing that the pickle names.

    What it names beside tensors and plain containers is `keepfast.tree.Unread`.

    Raises:
        keepfast.pickles.machine.CodeRefused: if it names what Python's own library may run.
        Exception: nearly any, if it is damaged.
    """
    return safe_load(file, _ADMITTED, _stored, _is_harmless, AGAIN)
