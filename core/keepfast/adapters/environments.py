"""Environments of other libraries: what they are in the middle of, taken as a tree, and put back into others like them.

An environment is an object of Python with wrappers around it, or several of them in a vector environment. Its state is
whatever its attributes hold, down to numbers, texts, arrays and random generators. Where one of them is nothing of that
kind, a simulator's own memory or a process say, the state is not known, and is not taken at all: half of it is none.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, final

import numpy as np

from keepfast.adapters import tensors
from keepfast.errors import KeepfastError, LoadMismatch
from keepfast.plain import generators
from keepfast.plain.state import Kept
from keepfast.tree import Tree

_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
_LISTS: Mapping[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_LISTS_BY_KIND = {made: name for name, made in _LISTS.items()}
_DICTS = (dict, OrderedDict, defaultdict)
_CONTAINERS = frozenset({*_DICTS, *_LISTS.values(), deque})
_MOST_DEEP = 40
_LONG = 16
"""From how many entries on a sequence is looked at as a whole."""


_FIXED = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
"""What has nothing that changes with a step."""

_FIXED_MODULES = ("gymnasium.envs.registration", "gymnasium.logger")

_BESIDE = frozenset(
    {
        *("spec", "_cached_spec", "metadata", "class_attributes", "render_mode", "t_start"),
        *("screen", "clock", "surf", "window", "window_surface", "viewer", "renderer", "mujoco_renderer", "isopen"),
        *("results_writer", "file_handler", "logger", "frames", "recorded_frames"),
        *("buf_infos", "buf_obs", "buf_rews", "buf_dones", "reset_infos"),
        *("_observations", "_env_obs", "_rewards", "_env_infos"),
    }
)
"""Attributes that are no state: what shows an environment, what describes it, and what a step leaves behind for its
caller."""


@final
class OpaqueEnvironment(KeepfastError, TypeError):
    """The state of an environment is not all in what Python sees of it."""


@final
class EnvironmentState(Kept):
    """The state of an environment as a module: taken at each checkpoint, and put back by a resume.

    Args:
        env: the environment, single or a vector of them, under any wrappers.

    Attributes:
        is_restored: whether a state was put back.
        is_opaque: whether the state was not known when it was last asked for; None before that.

    Example::

        experiment.register(env=EnvironmentState(envs))
    """

    is_packed: ClassVar[bool] = True

    def __init__(self, env: Any) -> None:
        self.env = env
        self.is_restored = False
        self.is_opaque: bool | None = None

    @property
    def obstacle(self) -> str:
        """Return why the state of the environment cannot be kept now; nothing where it can."""
        try:
            captured(self.env)
        except OpaqueEnvironment as error:
            return str(error)
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Return the state; nothing where it is not known."""
        try:
            state = {"state": captured(self.env)}
        except OpaqueEnvironment:
            state = {}
        self.is_opaque = not state
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state back, where there is one.

        Raises:
            LoadMismatch: if it is that of an environment that is made of something else.
        """
        if "state" in state:
            restored(self.env, state["state"])
            self.is_restored = True


def captured(value: Any) -> Tree:
    """Return what an environment, or anything of one, holds now, in plain containers; its arrays are shared with it.

    Raises:
        OpaqueEnvironment: if a part of it is nothing that can be known; names it.
    """
    return _captured(value, (), set(), 0)


def captured_if_known(value: Any) -> Tree:
    """Return what `captured` does, or where that is not known what leaves a value as it is."""
    try:
        return captured(value)
    except OpaqueEnvironment:
        return dict(_AS_IT_IS)


_AS_IT_IS = {"kind": "fixed"}


_Path = tuple[Any, ...]
"""Where a part is: its name, and the path of what it is in. Text is made of it only where it is told."""


def _captured(value: Any, path: _Path, seen: set[int], depth: int) -> Tree:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind not in _CONTAINERS and (leaf := _leaf(value, path)) is not None:
        return leaf
    if depth > _MOST_DEEP:
        raise OpaqueEnvironment(f"`{_text(path)}` is more than {_MOST_DEEP} objects deep")
    if (name := _LISTS_BY_KIND.get(kind) or ("deque" if isinstance(value, deque) else None)) is not None:
        if (columns := _columns(value)) is not None:
            return {"kind": name, **columns}
        return {"kind": name, "items": _captured_all([("[]", each) for each in value], path, seen, depth)}
    if isinstance(value, _DICTS) or tensors.is_tensordict(value):
        pairs = list(value.items())
        name = "dict" if isinstance(value, _DICTS) else "tensordict"
        keys = [key if type(key) in _PLAIN else _key(key, path) for key, _ in pairs]
        return {"kind": name, "keys": keys, "values": _captured_all(pairs, path, seen, depth)}
    return _captured_object(value, path, seen, depth)


def _captured_all(named: list[tuple[Any, Any]], path: _Path, seen: set[int], depth: int) -> list[Tree]:
    return [each if type(each) in _PLAIN else _captured(each, (name, path), seen, depth + 1) for name, each in named]


def _columns(values: Any) -> dict[str, Any] | None:
    """Return a long sequence of numbers, or of tables of the same few values, as arrays; None of any other.

    Records of all episodes so far are such, and would be many times what the rest of an environment is.
    """
    if len(values) < _LONG:
        return None
    kinds = set(map(type, values))
    if kinds == {float}:
        return {"numbers": np.array(values, np.float64)}
    if kinds == {int}:
        with contextlib.suppress(OverflowError):
            return {"numbers": np.array(values, np.int64)}
    if kinds != {dict} or len(names := set(map(tuple, values))) != 1:
        return None
    keys = names.pop()
    columns = [_columns([row[name] for row in values]) for name in keys]
    if not keys or not all(type(key) is str for key in keys) or not all(map(_is_of_numbers, columns)):
        return None
    return {"keys": list(keys), "columns": columns}


def _is_of_numbers(column: dict[str, Any] | None) -> bool:
    return column is not None and "numbers" in column


def _text(path: _Path) -> str:
    names = []
    while path:
        name, path = path
        names.append("[]" if name == "[]" else f".{name}")
    return "".join(reversed(names)).lstrip(".") or "(root)"


def _leaf(value: Any, path: _Path) -> Tree | None:
    """Return the state of what has no parts; None for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return _array(value, path)
    if generators.includes(value):
        return {"kind": "generator", "state": generators.capture(value)}
    if isinstance(value, enum.Enum):
        return {"kind": "enum", "name": value.name}
    return tensors.captured(value)


def _array(value: Any, path: _Path) -> Tree:
    if value.dtype.hasobject or value.dtype.names is not None:
        raise OpaqueEnvironment(f"`{_text(path)}` is an array of the dtype {value.dtype}")
    if value.dtype.kind in "biufc":
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {"kind": kind, f"{value.dtype.str}{value.shape}": np.asarray(value)}  # others have other names
    return {"kind": "bytes", "dtype": value.dtype.str, "shape": list(value.shape), "data": np.asarray(value).tobytes()}


def _key(key: Any, path: _Path) -> Tree:
    if isinstance(key, np.generic):
        key = key.item()
    if type(key) is tuple:
        return {"kind": "tuple", "items": [_key(each, path) for each in key]}
    if type(key) not in _PLAIN:
        raise OpaqueEnvironment(f"`{_text(path)}` has a key that is a {_kind(key)}")
    return key


def _captured_object(value: Any, path: _Path, seen: set[int], depth: int) -> Tree:
    """Return the state of an object that is its attributes, each object once."""
    kind: type = type(value)
    if isinstance(value, _FIXED) or kind.__module__ in _FIXED_MODULES or id(value) in seen:
        return dict(_AS_IT_IS)
    if not hasattr(value, "__dict__") or not _is_of_python(kind):
        raise OpaqueEnvironment(f"`{_text(path)}` is a {_kind(value)}")
    seen.add(id(value))
    state = list(_state_of(value))
    return {"kind": "object", "names": [name for name, _ in state], "values": _captured_all(state, path, seen, depth)}


@functools.lru_cache(maxsize=256)
def _is_of_python(kind: type) -> bool:
    """Say whether all that objects of a class hold are attributes: no class under it is written in C."""
    is_made_in_python = 1 << 9
    plain = (object, types.SimpleNamespace)
    return all(each in plain or each.__flags__ & is_made_in_python for each in kind.__mro__)


def _state_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object that are state; of a space that is what it draws samples from."""
    kind: type = type(value)
    is_space = _is_space(kind)
    for name, each in list(vars(value).items()):
        if name not in _BESIDE and (not is_space or name in ("_np_random", "spaces")):
            yield name, each


@functools.lru_cache(maxsize=256)
def _is_space(kind: type) -> bool:
    return kind.__module__.startswith(("gymnasium.spaces", "gym.spaces"))


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def restored(own: Any, saved: Tree) -> Any:
    """Put what `captured` returned into an environment, or anything of one, and return it or what takes its place.

    Raises:
        LoadMismatch: if it is the state of something else.
    """
    try:
        return _restored(own, saved)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise LoadMismatch(f"the file's state is not that of such an environment: {error}") from error


def _restored(own: Any, saved: Tree) -> Any:
    if not isinstance(saved, Mapping):
        return saved
    kind = saved["kind"]
    if kind == "object":
        for name, each in zip(saved["names"], saved["values"], strict=True):
            before = vars(own).get(name)
            after = _restored(before, each)
            if after is not before:
                setattr(own, name, after)
        return own
    return own if kind == "fixed" else _MADE[kind](own, saved)


def _into_array(own: Any, node: Tree) -> Any:
    """Return an array as it was saved: the own one, where it can hold that, for others may have it too."""
    saved = _array_in(node)
    if isinstance(own, np.ndarray) and own.shape == saved.shape and own.dtype == saved.dtype and own.flags.writeable:
        own[...] = saved
        return own
    return np.array(saved)


def _array_in(node: Tree) -> Any:
    (array,) = (each for name, each in node.items() if name != "kind")
    return np.asarray(array)


def _generator(own: Any, saved: Tree) -> Any:
    if not generators.includes(own):
        own = np.random.Generator(getattr(np.random, _one_of(saved["state"]["bit_generator"]))())
    generators.restore(own, saved["state"])
    return own


def _one_of(name: Any) -> str:
    known = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
    if name not in known:
        raise LoadMismatch(f"the file has a random generator `{name}`; known: {', '.join(known)}")
    return str(name)


def _sequence(own: Any, saved: Tree) -> Any:
    there = list(own) if isinstance(own, list | tuple | deque) else []
    if "items" in saved:
        made = [_restored(there[at] if at < len(there) else None, each) for at, each in enumerate(saved["items"])]
    else:
        made = _of_columns(saved)
    if type(own) is list and saved["kind"] == "list":
        own[:] = made
        return own
    if saved["kind"] == "deque":
        return deque(made, own.maxlen if isinstance(own, deque) else None)
    return _LISTS[saved["kind"]](made)


def _of_columns(saved: Tree) -> list[Any]:
    """Return the sequence that `_columns` made arrays of."""
    if "numbers" in saved:
        return list(np.asarray(saved["numbers"]).tolist())
    columns = [_of_columns(column) for column in saved["columns"]]
    return [dict(zip(saved["keys"], row, strict=True)) for row in zip(*columns, strict=True)]


def _dict(own: Any, saved: Tree) -> Any:
    there = own if isinstance(own, _DICTS) else {}
    keys = [_sequence((), key) if isinstance(key, Mapping) else key for key in saved["keys"]]
    made = {key: _restored(there.get(key), each) for key, each in zip(keys, saved["values"], strict=True)}
    if not isinstance(own, _DICTS):
        return made
    own.clear()
    own.update(made)
    return own


def _tensordict(own: Any, saved: Tree) -> Any:
    for key, each in zip(saved["keys"], saved["values"], strict=True) if own is not None else ():
        own.set(key, _restored(own.get(key), each))
    return own


def _bytes(_own: Any, saved: Tree) -> Any:
    array = np.frombuffer(saved["data"], np.dtype(saved["dtype"])).reshape(tuple(saved["shape"])).copy()
    return array if saved["shape"] else array[()]


_MADE: Mapping[str, Callable[[Any, Tree], Any]] = {
    **dict.fromkeys(("list", "tuple", "set", "frozenset", "deque"), _sequence),
    "dict": _dict,
    "generator": _generator,
    "bytes": _bytes,
    "tensor": lambda own, saved: tensors.restored(own, _array_in(saved)),
    "torch generator": lambda own, saved: tensors.continued(own, _array_in(saved)),
    "tensordict": lambda own, saved: _tensordict(own, saved),
    "array": _into_array,
    "number": lambda _own, saved: _array_in(saved)[()],
    "enum": lambda own, saved: type(own)[saved["name"]],
}
