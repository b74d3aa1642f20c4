"""A machine for pickles that runs nothing: the names a pickle may use are a table, and all else is refused.

It is not Python's unpickler, which does what a pickle says until memory or the stack of C ends. It knows no instruction
but those for plain data (`pickletools` tells what each does), charges what they ask for to a budget by the size of the
pickle, calls, changes and hashes only what it knows to be harmless, and has no recursion that depends on the pickle.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, final

from keepfast.pickles.budget import SHARED, Budget, StandIn, checked_key, require_at_most, require_few_parts
from keepfast.pickles.memo import Memo
from keepfast.pickles.objects import Pickled
from keepfast.pickles.tensors import Again, Layout, Spelling, make_entries, make_tensor
from keepfast.pickles.written import index, quoted, real, whole
from keepfast.tree import Unread

_LENGTH = struct.Struct("<Q")
"""What stands before a frame."""

_INDEX = struct.Struct("<I").unpack_from

Admitted = Mapping[str, Any]
"""What a pickle may name, as ``module.name``, and the function of ours that stands in for it, or itself."""

Persistent = Callable[[Any], Any] | None
MayBeUnread = Callable[[str, str], bool] | None
"""Says of a module and a name that are not in the table whether what is made of them can be left unread."""

Instead = Callable[[Unread, list[Any]], Any]
"""Makes what stands for an object that is not made, of the name of its class and of what that would be given."""


@final
class CodeRefused(Exception):
    """A pickle names something, as ``module.name``, that is not in the table."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def safe_load(
    file: BinaryIO,
    admitted: Admitted,
    persistent: Persistent = None,
    may_be_unread: MayBeUnread = None,
    again: Again | None = None,
) -> Any:
    """Return what a pickle of containers, numbers, strings and bytes, and of what a table admits beside them, holds.

    The file holds this pickle and nothing else: what stands behind one is not looked at by its readers.

    Args:
        file: the pickle.
        admitted: the table; its functions are called with whatever arguments the pickle has for them. What they make is
            changed by the pickle only where it has a `__setstate__`.
        persistent: turns what the pickle says of data kept outside it into that data.
        may_be_unread: says which other names are harmless as long as nobody imports them. They, and whatever the pickle
            makes of them, are `keepfast.tree.Unread`, and so are names of the table without a function.
        again: make a tensor like another; with them, tensors take less time, and are the same.

    Raises:
        CodeRefused: if the pickle names anything else; nothing of it has run.
        Exception: nearly any, if it is damaged.
    """
    content = file.read()
    value = _Machine(content, admitted, persistent, may_be_unread, again=again).checked()
    require_at_most(len(content), value)
    return value


def load_objects(content: bytes, persistent: Persistent = None) -> Any:
    """Return what a pickle holds of containers and leaves, with a `Pickled` for each object of it.

    Whatever it names, of this or any library, is `keepfast.tree.Unread`: nothing is imported, and nothing is called.
    How deep its parts are in each other is for whoever goes through them to limit, and so is how often an object stands
    there; no container has many more parts than the pickle has bytes.
    What `persistent` makes stands for the data that are kept outside the pickle.

    Raises:
        UnpicklingError: if it is damaged, or asks for more than a pickle of its size may.
        Exception: nearly any other, if it is damaged.
    """
    value = _Machine(content, {}, persistent, lambda _module, _name: True, Pickled.made).checked()
    require_few_parts(len(content) + SHARED, value)
    return value


@final
class _Machine:
    """Runs one pickle; each instruction is given where its argument begins, and returns where that ends."""

    def __init__(
        self,
        content: bytes,
        admitted: Admitted,
        persistent: Persistent,
        may_be_unread: MayBeUnread,
        instead: Instead = lambda name, _given: name,
        again: Again | None = None,
    ) -> None:
        self.content, self._admitted, self._instead = content, admitted, instead
        self.persistent, self._may_be_unread, self._again = persistent, may_be_unread, again
        self.spellings: dict[tuple[bytes, ...], Spelling] = {}
        self.layout: Layout | None = None
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self.memo = Memo()
        self.budget = Budget(len(content))
        self.frame_end = self._no_frame = len(content) + 1

    def checked(self) -> Any:
        """Return what `run` does; what is not there is damage.

        Raises:
            UnpicklingError: if it is damaged.
            Exception: nearly any other, if it is damaged.
        """
        try:
            return self.run()
        except (IndexError, struct.error) as error:
            raise pickle.UnpicklingError(f"the pickle is cut, or asks for what is not there ({error})") from error
        except MemoryError as error:
            raise pickle.UnpicklingError("the pickle asks for more memory than there is") from error

    def run(self) -> Any:
        """Return what the pickle leaves on the stack."""
        content, at, stop, instructions = self.content, 0, pickle.STOP[0], _INSTRUCTIONS
        while (code := content[at]) != stop:
            at = instructions[code](self, at + 1)
            if at >= self.frame_end:
                self._end_frame(at)
        if at + 1 != len(content):
            raise pickle.UnpicklingError(f"has {len(content) - at - 1:,} bytes behind its end, as if it were two")
        return self.stack.pop()

    def run_marked(self, at: int, end: int) -> None:
        """Run from behind a mark to the end of an instruction."""
        self._marked.append(self.stack)
        self.stack = []
        while at < end:
            at = _INSTRUCTIONS[self.content[at]](self, at + 1)

    def line(self, at: int) -> tuple[bytes, int]:
        end = self.content.index(b"\n", at)
        return self.content[at:end], end + 1

    def protocol(self, at: int) -> int:
        if self.content[at] > pickle.HIGHEST_PROTOCOL:
            raise pickle.UnpicklingError(f"the pickle is of the protocol {self.content[at]}, which nobody knows")
        return at + 1

    def frame(self, at: int) -> int:
        (length,) = _LENGTH.unpack_from(self.content, at)
        at += _LENGTH.size
        if self.frame_end != self._no_frame or length > len(self.content) - at:
            raise pickle.UnpicklingError("the pickle has a frame that ends in another, or behind the pickle")
        self.frame_end = at + length
        return at

    def _end_frame(self, at: int) -> None:
        if at > self.frame_end:
            raise pickle.UnpicklingError("the pickle has a frame that ends within an instruction")
        self.frame_end = self._no_frame

    def refuse(self, at: int) -> int:
        raise pickle.UnpicklingError(f"the pickle has the instruction {self.content[at - 1 : at]!r}, which is not run")

    def _since_mark(self) -> list[Any]:
        if not self._marked:
            raise pickle.UnpicklingError("the pickle asks for what is not there")
        found, self.stack = self.stack, self._marked.pop()
        return found

    def mark(self, at: int) -> int:
        if self._again and self.content.startswith(b"(", at) and (end := make_tensor(self, self._again, at)):
            return make_entries(self, self._again, end)
        self._marked.append(self.stack)
        self.stack = []
        return at

    def pop_mark(self, at: int) -> int:
        self._since_mark()
        return at

    def pop(self, at: int) -> int:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()
        return at

    def duplicate(self, at: int) -> int:
        self.stack.append(self.stack[-1])
        return at

    def append(self, at: int) -> int:
        value = self.stack.pop()
        self._top(list).append(value)
        return at

    def append_all(self, at: int) -> int:
        values = self._since_mark()
        self._top(list).extend(values)
        return at

    def set_item(self, at: int) -> int:
        value, key = self.stack.pop(), self.stack.pop()
        into = self._top(dict)
        into[checked_key(key, self.budget, id(into))] = value
        return at

    def set_items(self, at: int) -> int:
        pairs = self._since_mark()
        self._put(self._top(dict), pairs)
        return at

    def _put(self, into: dict[Any, Any], pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            into[key if type(key) is str else checked_key(key, self.budget, id(into))] = value

    def add_all(self, at: int) -> int:
        members = self._since_mark()
        into = self._top(set)
        into.update(checked_key(each, self.budget, id(into)) for each in members)
        return at

    def _top(self, kind: type[Any]) -> Any:
        found = self.stack[-1]
        if type(found) is Unread:
            return kind()  # which is let go, with all that is put into it
        if not isinstance(found, kind | Pickled):
            raise pickle.UnpicklingError(f"a {type(found).__name__} stands where a {kind.__name__} belongs")
        return found

    def tuple_of_all(self, at: int) -> int:
        found, self.stack = self.stack, self._marked.pop()
        self.stack.append(tuple(found))
        return at

    def make(self, kind: Callable[[list[Any]], Any], at: int) -> int:
        found = self._since_mark()
        self.stack.append(kind(found))
        return at

    def dict_of(self, pairs: list[Any]) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._put(made, pairs)
        return made

    def frozenset_of(self, members: list[Any]) -> frozenset[Any]:
        into = self.budget.fresh()
        return frozenset(checked_key(each, self.budget, into) for each in members)

    def memoize(self, at: int) -> int:
        memo = self.memo
        if memo.later:
            memo.make_all()
        memo[len(memo)] = self.stack[-1]
        return at

    def keep(self, at: int) -> int:
        self.memo[self.content[at]] = self.stack[-1]
        return at + 1

    def keep_far(self, at: int) -> int:
        self.memo[_INDEX(self.content, at)[0]] = self.stack[-1]
        return at + 4

    def keep_told(self, at: int) -> int:
        line, at = self.line(at)
        self.memo[index(line)] = self.stack[-1]
        return at

    def remember(self, at: int) -> int:
        self.stack.append(self.memo[self.content[at]])
        return at + 1

    def remember_far(self, at: int) -> int:
        self.stack.append(self.memo[_INDEX(self.content, at)[0]])
        return at + 4

    def remember_told(self, at: int) -> int:
        line, at = self.line(at)
        self.stack.append(self.memo[index(line)])
        return at

    def byte(self, at: int) -> int:
        self.stack.append(self.content[at])
        return at + 1

    def alone(self, at: int) -> int:
        self.stack[-1] = (self.stack[-1],)
        return at

    def name(self, at: int) -> int:
        module, at = self.line(at)
        name, at = self.line(at)
        self.stack.append(self._admit(module.decode(), name.decode()))
        return at

    def stack_name(self, at: int) -> int:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise pickle.UnpicklingError("a name is no text")
        self.stack.append(self._admit(module, name))
        return at

    def _admit(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full not in self._admitted and not (self._may_be_unread and self._may_be_unread(module, name)):
            raise CodeRefused(full)
        found = self._admitted.get(full)
        return StandIn(found, self.budget) if callable(found) else Unread(full)

    def call(self, at: int) -> int:
        stack = self.stack
        function = stack[-2]
        if type(function) is Unread:
            return self.leave(at, 2)
        arguments = stack.pop()
        if type(function) is not StandIn or type(arguments) is not tuple:
            raise pickle.UnpicklingError("the pickle calls what is no function")
        stack[-1] = function(*arguments)
        return at

    def leave(self, at: int, parts: int) -> int:
        """Put what stands for what cannot be read in the place of its name and of what it would be made from."""
        if len(self.stack) < parts or type(self.stack[-parts]) is not Unread:
            return self.refuse(at)
        name, *given = self.stack[-parts:]
        self.stack[-parts:] = [self._instead(name, given)]
        return at

    def build(self, at: int) -> int:
        if type(self.stack[-2]) is Unread:
            self.stack.pop()
            return at
        state, made = self.stack.pop(), self.stack[-1]
        change = getattr(type(made), "__setstate__", None)
        if change is None:
            raise pickle.UnpicklingError(f"the pickle tries to change a {type(made).__name__}")
        self.budget.spend_on(state if type(state) is tuple else (state,))
        change(made, state)
        return at

    def persist(self, at: int) -> int:
        self.stack[-1] = self.outside(self.stack[-1])
        return at

    def persist_line(self, at: int) -> int:
        line, at = self.line(at)
        self.stack.append(self.outside(_ASCII(line)))
        return at

    def outside(self, what: Any) -> Any:
        if self.persistent is None:
            raise pickle.UnpicklingError("the pickle refers to data outside it")
        self.budget.spend_on((what,))
        return self.persistent(what)


_Instruction = Callable[[_Machine, int], int]


def _fresh(kind: Callable[[], Any]) -> _Instruction:
    def push(machine: _Machine, at: int) -> int:
        machine.stack.append(kind())
        return at

    return push


def _number(layout: str) -> _Instruction:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def push(machine: _Machine, at: int) -> int:
        machine.stack += unpack(machine.content, at)
        return at + size

    return push


def _prefixed(layout: str, made: Callable[[bytes], Any]) -> _Instruction:
    """Return the instruction for what has its length before it."""
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def push(machine: _Machine, at: int) -> int:
        at += size
        end: int = at + unpack(machine.content, at - size)[0]
        if end > len(machine.content):
            raise pickle.UnpicklingError("the pickle is cut")
        machine.stack.append(made(machine.content[at:end]))
        return end

    return push


def _line(made: Callable[[bytes], Any]) -> _Instruction:
    """Return the instruction for what is written out, up to the end of a line."""

    def push(machine: _Machine, at: int) -> int:
        found, at = machine.line(at)
        machine.stack.append(made(found))
        return at

    return push


def _tuple_of(count: int) -> _Instruction:
    def push(machine: _Machine, at: int) -> int:
        if len(machine.stack) < count:
            raise IndexError(f"a tuple of {count}")
        machine.stack[-count:] = [tuple(machine.stack[-count:])]
        return at

    return push


_TEXT: Callable[[bytes], Any] = partial(str, encoding="utf-8", errors="surrogatepass")
_ASCII: Callable[[bytes], Any] = partial(str, encoding="ascii")


_KNOWN: dict[bytes, _Instruction] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: _Machine.frame,
    pickle.NONE: _fresh(lambda: None),
    pickle.NEWTRUE: _fresh(lambda: True),
    pickle.NEWFALSE: _fresh(lambda: False),
    pickle.EMPTY_TUPLE: _fresh(tuple),
    pickle.EMPTY_LIST: _fresh(list),
    pickle.EMPTY_DICT: _fresh(dict),
    pickle.EMPTY_SET: _fresh(set),
    pickle.BININT: _number("<i"),
    pickle.BININT1: _Machine.byte,
    pickle.BININT2: _number("<H"),
    pickle.BINFLOAT: _number(">d"),
    pickle.LONG1: _prefixed("<B", pickle.decode_long),
    pickle.LONG4: _prefixed("<I", pickle.decode_long),
    pickle.BINUNICODE: _prefixed("<I", _TEXT),
    pickle.SHORT_BINUNICODE: _prefixed("<B", _TEXT),
    pickle.BINUNICODE8: _prefixed("<Q", _TEXT),
    pickle.BINBYTES: _prefixed("<I", bytes),
    pickle.SHORT_BINBYTES: _prefixed("<B", bytes),
    pickle.BINBYTES8: _prefixed("<Q", bytes),
    pickle.BYTEARRAY8: _prefixed("<Q", bytearray),
    pickle.BINSTRING: _prefixed("<I", _ASCII),
    pickle.SHORT_BINSTRING: _prefixed("<B", _ASCII),
    pickle.INT: _line(lambda line: {b"00": False, b"01": True}[line] if line in (b"00", b"01") else whole(line)),
    pickle.LONG: _line(lambda line: whole(line.removesuffix(b"L"))),
    pickle.FLOAT: _line(real),
    pickle.STRING: _line(quoted),
    pickle.UNICODE: _line(lambda line: line.decode("raw-unicode-escape")),
    pickle.TUPLE1: _Machine.alone,
    pickle.TUPLE2: _tuple_of(2),
    pickle.TUPLE3: _tuple_of(3),
    pickle.BINGET: _Machine.remember,
    pickle.LONG_BINGET: _Machine.remember_far,
    pickle.GET: _Machine.remember_told,
    pickle.BINPUT: _Machine.keep,
    pickle.LONG_BINPUT: _Machine.keep_far,
    pickle.PUT: _Machine.keep_told,
    pickle.MEMOIZE: _Machine.memoize,
    pickle.MARK: _Machine.mark,
    pickle.POP_MARK: _Machine.pop_mark,
    pickle.POP: _Machine.pop,
    pickle.DUP: _Machine.duplicate,
    pickle.APPEND: _Machine.append,
    pickle.APPENDS: _Machine.append_all,
    pickle.SETITEM: _Machine.set_item,
    pickle.SETITEMS: _Machine.set_items,
    pickle.ADDITEMS: _Machine.add_all,
    pickle.LIST: lambda machine, at: machine.make(list, at),
    pickle.TUPLE: _Machine.tuple_of_all,
    pickle.DICT: lambda machine, at: machine.make(machine.dict_of, at),
    pickle.FROZENSET: lambda machine, at: machine.make(machine.frozenset_of, at),
    pickle.GLOBAL: _Machine.name,
    pickle.STACK_GLOBAL: _Machine.stack_name,
    pickle.REDUCE: _Machine.call,
    pickle.BUILD: _Machine.build,
    pickle.NEWOBJ: lambda machine, at: machine.leave(at, 2),
    pickle.NEWOBJ_EX: lambda machine, at: machine.leave(at, 3),
    pickle.BINPERSID: _Machine.persist,
    pickle.PERSID: _Machine.persist_line,
}
"""The instructions that are run. Instances are made of nothing, but left unread; none is taken from a registry."""

_INSTRUCTIONS = [_KNOWN.get(bytes([code]), _Machine.refuse) for code in range(256)]
