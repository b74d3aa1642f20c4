"""A tensor of a pickle, its thirty instructions at once: what most of a file of many is made of.

PyTorch and Keepfast write the call that makes one (`keepfast.formats.files.torch_pickle` says what it is) as the same
instructions each time. One pattern recognises them. Of those that are spelled alike, but for the storage's key and for
where the parts are kept, the machine runs the first as it runs everything, and what it was charged is noted; for the
others the same is charged, kept and given without a look at each instruction. What is spelled in another way, refers
to what is kept meanwhile, or asks for more than is left is the machine's, to which nothing has happened then.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, final

from keepfast.pickles.budget import StandIn
from keepfast.tree import Unread

if TYPE_CHECKING:
    from keepfast.pickles.machine import _Machine
    from keepfast.pickles.memo import Memo


@final
class Again(NamedTuple):
    """How one tensor is made of another that differs in nothing but its storage.

    Attributes:
        tensor: makes it of the other and of the storage's key; None where it cannot be told.
        storage: makes of what `persistent` made of the other's storage, and of the key, what it makes of this one's.
    """

    tensor: Callable[[Any, str], Any]
    storage: Callable[[Any, str], Any]


@final
class First(NamedTuple):
    """The first tensor that was spelled in a way.

    Attributes:
        of: what is named in it.
        made: the tensor.
        storage: what `persistent` made of its storage.
        charge: what it was charged, but for its storage's key.
    """

    of: tuple[Any, ...]
    made: Any
    storage: Any
    charge: int


_NONE = First((), None, None, 0)

_NUMBER, _GET, _PUT = rb"(?:K.|M..|J...[\0-\x7f])", rb"(?:h.|j....)", rb"(r....|\x94|)"
_INTS = rb"(\)|" + _NUMBER + rb"{1,3}[\x85-\x87]|\(" + _NUMBER + rb"{0,64}t)"
_found = re.compile(
    rb"\((" + _GET + rb"|X\x07\0\0\0storage)(" + _GET + rb")(X.\0\0\0|\x8c.)([0-9]{1,20})" + _PUT
    + rb"(" + _GET + rb"|X\x03\0\0\0cpu)(" + _NUMBER + rb")t" + _PUT
    + rb"Q(" + _NUMBER + rb")" + _INTS + _PUT + _INTS + _PUT
    + rb"([\x88\x89])(" + _GET + rb")(?:\)|\(t)R" + _PUT + rb"(" + _GET + rb"|)t" + _PUT + rb"R" + _PUT,
    re.DOTALL,
).match  # fmt: skip
"""From the second of the two marks on: of a number below zero, or of a part that is kept under one below 256, none."""

_each = re.compile(_NUMBER, re.DOTALL).findall
_KEY, _PUTS = 4, (5, 8, 11, 13, 16, 18, 19)
"""The groups of the storage's key, and of the instructions that keep its parts."""

_FAR = 5
"""The bytes of an instruction with a number of four, as that which keeps a part under a number that is told."""

_INDEX = struct.Struct("<I").unpack_from

_OF_HOOKS = 1
"""What a call without arguments is charged, as that which makes a tensor's hooks is each time."""

_MOST, _MOST_ENTRIES = 1 << 10, 1 << 6
"""How many ways to spell a tensor are remembered at most, and of each layout how many of entries."""


@final
class Spelling:
    """A way to spell a tensor, and what came of the first that was spelled in it."""

    __slots__ = ("_dtype", "_hooks", "_kind", "_place", "_word", "first", "given", "layouts", "length", "many", "typed")

    def __init__(self, *parts: bytes) -> None:
        word, kind, length, place, many, begin, shape, steps, flag, hooks, dtype = parts
        self._word, self._place, self._kind = _part(word), _part(place), _number(kind)
        self._hooks, self._dtype = _number(hooks), _part(dtype)
        self.length, self.many, self.typed = length[1], _number(many), bool(dtype)
        self.given = _number(begin), _ints(shape), _ints(steps), flag == b"\x88"
        self.first = _NONE
        self.layouts: dict[tuple[bytes, ...], Layout] = {}

    def named(self, function: Any, memo: Mapping[int, Any]) -> tuple[Any, ...]:
        """Return what is named in it: the function, and what the memo has."""
        get = memo.get
        return function, get(*self._word), get(self._kind), get(*self._place), get(self._hooks), get(*self._dtype)


@final
class Form:
    """Bytes that are the same each time, with others between them.

    Args:
        same: those.
        between: the kinds of the others, as `struct` spells them.
    """

    __slots__ = ("_unpack", "between", "same", "size")

    def __init__(self, same: tuple[bytes, ...], between: tuple[str, ...]) -> None:
        self.same, self.between = same, between
        layout = "".join(f"{len(before)}s{kind}" for before, kind in zip(same, between, strict=False))
        unpacked = struct.Struct(f"<{layout}{len(same[-1])}s")
        self._unpack, self.size = unpacked.unpack_from, unpacked.size

    def read(self, content: bytes, at: int) -> tuple[Any, ...] | None:
        """Return what stands between; None where something else stands there."""
        if at + self.size > len(content):
            return None
        parts = self._unpack(content, at)
        return parts[1::2] if parts[::2] == self.same else None


@final
class Layout:
    """Where a spelling's bytes are, with its parts kept in one way: of most tensors they are those of the one before.

    Args:
        found: the first that was found so.
        spelling: how it is spelled.
        keeps_shape: whether its shape is kept.
        keeps_steps: whether its strides are.
    """

    __slots__ = ("entries", "form", "kept", "shaped", "spelling", "told")

    def __init__(self, found: re.Match[bytes], spelling: Spelling, *, keeps_shape: bool, keeps_steps: bool) -> None:
        self.spelling = spelling
        self.kept = 5 + keeps_shape + keeps_steps if found[_PUTS[0]] else 0
        self.told = found[_PUTS[0]][:1] == b"r"
        self.shaped = spelling.given[1 if keeps_shape else 2 : 3 if keeps_steps else 2]
        spans = [(found.end(group) - 4, found.end(group)) for group in _PUTS if self.told and found[group]]
        ends = [found.start(), *(end for _, end in (found.span(_KEY), *spans))]
        begins = [begin for begin, _ in (found.span(_KEY), *spans)] + [found.end()]
        same = tuple(found.string[end:begin] for end, begin in zip(ends, begins, strict=True))
        self.form = Form(same, (f"{len(found[_KEY])}s", *("I" for _ in spans)))
        self.entries: dict[tuple[int, bytes], Form] = {}

    def entry(self, memo: Memo, function: Any, content: bytes, at: int) -> Form | None:
        """Return how an entry stands there: its key, where the function is kept, and a tensor of this layout."""
        begin = at + _FAR
        if not content.startswith(b"X", at) or begin > len(content):
            return None
        (length,) = _INDEX(content, at + 1)
        behind = begin + length + (_FAR if self.told else 0)
        call = content[behind : behind + (2 if content.startswith(b"h", behind) else _FAR)]
        if call[:1] not in (b"h", b"j") or memo.get(_number(call)) is not function:
            return None
        if (form := self.entries.get((length, call))) is None:
            if len(self.entries) >= _MOST_ENTRIES:
                self.entries.clear()
            before, *same = self.form.same
            told = (b"r",) if self.told else ()
            form = Form(
                (content[at:begin], *told, call + b"(" + before, *same),
                (f"{length}s", *("I" for _ in told), *self.form.between),
            )
            self.entries[length, call] = form
        return form

    def parts(self, again: Again, first: First, made: Any, name: str, *before: str) -> tuple[Any, ...]:
        """Return what is kept of a tensor, in order: what stands before it, its parts, and itself."""
        spelling, of = self.spelling, first.of
        storage, hung = again.storage(first.storage, name), of[4].charged()
        given = (storage, *spelling.given, hung, of[5]) if spelling.typed else (storage, *spelling.given, hung)
        return (*before, name, (of[1], of[2], name, of[3], spelling.many), *self.shaped, hung, given, made)


def make_tensor(machine: _Machine, again: Again, at: int) -> int | None:
    """Do what makes the tensor whose second mark stands there; the function that does stands on the stack.

    Returns:
        Where its last instruction ends; None where that is for the machine to do.
    """
    layout = machine.layout
    parts = layout.form.read(machine.content, at) if layout else None
    if layout is None or parts is None:
        if (found := _found(machine.content, at)) is None or (layout := _layout(machine, found)) is None:
            return None
        parts = layout.form.read(machine.content, at)
    memo, stack, spelling, end = machine.memo, machine.stack, layout.spelling, at + layout.form.size
    if end > machine.frame_end or not stack or not parts or not parts[0].isdigit():
        return None
    key, *told = parts
    if layout.kept and not layout.told:
        memo.make_all()
        told = [*range(len(memo), len(memo) + layout.kept)]
    of = spelling.named(stack[-1], memo)
    if of != spelling.first.of:
        if not memo.is_free(told):
            return None
        _learn(machine, at, end, spelling, of, key)
        return end
    made = _made(machine, again, layout, key, told)
    if made is None:
        return None
    stack[-1] = made
    return end


def make_entries(machine: _Machine, again: Again, at: int) -> int:
    """Put the tensors on the stack that stand behind the one before, each with the key of an entry before it.

    Returns:
        Where the last of them ends; where the one before ended if what stands there is for the machine to do.
    """
    content, memo, stack, layout = machine.content, machine.memo, machine.stack, machine.layout
    if layout is None or machine.frame_end <= len(content) or (layout.kept and not layout.told):
        return at
    if not (of := layout.spelling.first.of) or of != layout.spelling.named(of[0], memo):
        return at
    form, numbers = None, list[int]()
    while True:
        parts = form.read(content, at) if form else None
        if form is None or parts is None:
            form = layout.entry(memo, of[0], content, at)
            if form is None or (parts := form.read(content, at)) is None:
                return at
        if layout.told:
            before, number, key, *numbers = parts
            numbers.insert(0, number)
        else:
            before, key = parts
        text = before.decode("utf-8", "surrogatepass")
        if not key.isdigit() or (made := _made(machine, again, layout, key, numbers, text)) is None:
            return at
        stack += (text, made)
        at += form.size


def _made(machine: _Machine, again: Again, layout: Layout, key: bytes, numbers: list[int], *before: str) -> Any:
    """Return a tensor that is laid out as one before, its parts kept; None where that is for the machine to do."""
    first, name = layout.spelling.first, key.decode()
    made, charge = again.tensor(first.made, name), first.charge + len(key) + _OF_HOOKS
    if made is None or charge > machine.budget.left:
        return None
    if numbers and not machine.memo.keep(numbers, layout.parts, again, first, made, name, *before):
        return None
    machine.budget.left -= charge
    return made


def _layout(machine: _Machine, found: re.Match[bytes]) -> Layout | None:
    """Return how a tensor stands there, and remember it; None where its parts are kept in several ways, or wrong."""
    (word, kind, length, key, put_key, place, many, put_said, begin, shape, put_shape, steps, put_steps,
     flag, hooks, put_hooks, dtype, put_given, put_made) = found.groups()  # fmt: skip
    parts = word, kind, length, place, many, begin, shape, steps, flag, hooks, dtype
    spelling = machine.spellings.get(parts) or _spelling(machine, parts)
    written = b"".join((put_key, put_said, put_shape, put_steps, put_hooks, put_given, put_made))
    kept = 5 + bool(put_shape) + bool(put_steps)
    far = len(written) == _FAR * kept
    if spelling.length != len(key) or None in spelling.given or not (far or written in (b"", b"\x94" * kept)):
        return None
    how = put_key[:1], put_shape[:1], put_steps[:1]
    if (layout := spelling.layouts.get(how)) is None:
        layout = Layout(found, spelling, keeps_shape=bool(put_shape), keeps_steps=bool(put_steps))
        spelling.layouts[how] = layout
    machine.layout = layout
    return layout


def _spelling(machine: _Machine, parts: tuple[bytes, ...]) -> Spelling:
    if len(machine.spellings) >= _MOST:
        machine.spellings.clear()
    made = machine.spellings[parts] = Spelling(*parts)
    return made


def _learn(machine: _Machine, at: int, end: int, spelling: Spelling, of: tuple[Any, ...], key: bytes) -> None:
    """Have the machine make a tensor, and note what came of it, where all it is made of is known and plain."""
    left = machine.budget.left
    machine.run_marked(at, end)
    if {*map(type, of)} <= _PLAIN and type(of[0]) is StandIn and type(of[4]) is StandIn:
        refer = machine.persistent or (lambda what: what)  # there is one: the machine has just referred to a storage
        storage = refer((of[1], of[2], key.decode(), of[3], spelling.many))
        charge = left - machine.budget.left - len(key) - _OF_HOOKS
        spelling.first = First(of, machine.stack[-1], storage, charge)


_PLAIN = {StandIn, Unread, str}


def _part(written: bytes) -> tuple[int, Any]:
    """Return under which number a part is kept; a text that stands there itself is kept under none."""
    return (-1, written[5:].decode()) if written[:1] in (b"", b"X") else (_number(written), None)


def _number(written: bytes) -> int:
    return int.from_bytes(written[1:], "little")


def _ints(written: bytes) -> tuple[int, ...] | None:
    """Return a tuple of numbers; None where its instruction takes fewer than stand before it, or more."""
    marked = written[:1] == b"("
    found = tuple(map(_number, _each(written, marked, len(written) - 1)))
    return found if marked or written == b")" or len(found) == written[-1] - 0x84 else None
