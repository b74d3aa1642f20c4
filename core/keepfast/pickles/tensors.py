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
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, final

from keepfast.pickles.budget import StandIn
from keepfast.tree import Unread

if TYPE_CHECKING:
    from keepfast.pickles.machine import _Machine

Again = Callable[[Any, Any, str], tuple[Any, Any]]
"""Makes of a tensor, what `persistent` made of its storage, and the key of another one of the same kind what these are
of that; None in the place of the tensor where it cannot be told."""

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

_MOST = 1 << 10
"""How many ways to spell a tensor are remembered at most."""


@final
class Spelling:
    """A way to spell a tensor, and what came of the first that was spelled in it."""

    __slots__ = ("_dtype", "_hooks", "_kind", "_place", "_word", "charge", "given", "layouts", "length", "made", "many",
                 "of", "storage", "typed")  # fmt: skip

    def __init__(self, *parts: bytes) -> None:
        word, kind, length, place, many, begin, shape, steps, flag, hooks, dtype = parts
        self._word, self._place, self._kind = _part(word), _part(place), _number(kind)
        self._hooks, self._dtype = _number(hooks), _part(dtype)
        self.length, self.many, self.typed = length[1], _number(many), bool(dtype)
        self.given = _number(begin), _ints(shape), _ints(steps), flag == b"\x88"
        self.of: tuple[Any, ...] = ()
        self.charge, self.made, self.storage = 0, None, None
        self.layouts: dict[tuple[bytes, ...], Layout] = {}

    def named(self, function: Any, memo: Mapping[int, Any]) -> tuple[Any, ...]:
        """Return what is named in it: the function, and what the memo has."""
        get = memo.get
        return function, get(*self._word), get(self._kind), get(*self._place), get(self._hooks), get(*self._dtype)


@final
class Layout:
    """Where a spelling's bytes are, with its parts kept in one way: of most tensors they are those of the one before.

    Args:
        found: the first that was found so.
        spelling: how it is spelled.
        written: where each of its parts is kept, in the groups of the pattern.
        keeps_shape: whether its shape is kept.
        keeps_steps: whether its strides are.
    """

    __slots__ = ("_bytes", "_unpack", "kept", "shaped", "size", "spelling", "told")

    def __init__(self, found: re.Match[bytes], spelling: Spelling, *, keeps_shape: bool, keeps_steps: bool) -> None:
        self.spelling, self.size = spelling, found.end() - found.start()
        self.kept = 5 + keeps_shape + keeps_steps if found[_PUTS[0]] else 0
        self.told = found[_PUTS[0]][:1] == b"r"
        self.shaped = spelling.given[1 if keeps_shape else 2 : 3 if keeps_steps else 2]
        spans = [(found.end(group) - 4, found.end(group)) for group in _PUTS if self.told and found[group]]
        at, layout = found.start(), "<"
        for kind, (begin, end) in (("s", found.span(_KEY)), *(("I", span) for span in spans)):
            layout += f"{begin - at}s{end - begin if kind == 's' else ''}{kind}"
            at = end
        self._unpack = struct.Struct(f"{layout}{found.end() - at}s").unpack_from
        self._bytes = self._unpack(found.string, found.start())[::2]

    def read(self, content: bytes, at: int) -> tuple[Any, ...] | None:
        """Return a storage's key, and the numbers that are told; None where something else stands there."""
        if at + self.size > len(content):
            return None
        parts = self._unpack(content, at)
        return parts[1::2] if parts[::2] == self._bytes and parts[1].isdigit() else None


def make_tensor(machine: _Machine, again: Again, at: int) -> int | None:
    """Do what makes the tensor whose second mark stands there; the function that does stands on the stack.

    Returns:
        Where its last instruction ends; None where that is for the machine to do.
    """
    layout = machine.layout
    parts = layout.read(machine.content, at) if layout else None
    if layout is None or parts is None:
        if (found := _found(machine.content, at)) is None or (layout := _layout(machine, found)) is None:
            return None
        parts = layout.read(machine.content, at)
    memo, stack, spelling, end = machine.memo, machine.stack, layout.spelling, at + layout.size
    if end > machine.frame_end or not stack or not parts:
        return None
    key, *told = parts
    numbers = told if layout.told else range(len(memo), len(memo) + layout.kept)
    if not memo.keys().isdisjoint(numbers):
        return None
    of = spelling.named(stack[-1], memo)
    if of != spelling.of:
        _learn(machine, at, end, spelling, of, key)
        return end
    made = _made(machine, again, layout, key, numbers)
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
    if not (of := layout.spelling.of) or of != layout.spelling.named(of[0], memo):
        return at
    function, read, told = of[0], layout.read, layout.told
    while content.startswith(b"X", at) and at + _FAR < len(content):
        begin = at + _FAR
        behind = end = begin + _INDEX(content, at + 1)[0]
        behind += _FAR if told else 0
        is_near = content.startswith(b"h", behind)
        mark = behind + (2 if is_near else _FAR)
        if not content.startswith(b"((", mark) or not (is_near or content.startswith(b"j", behind)):
            break
        number = content[behind + 1] if is_near else _INDEX(content, behind + 1)[0]
        parts = read(content, mark + 1)
        if parts is None or memo.get(number) is not function:
            break
        text, (key, *numbers) = content[begin:end].decode("utf-8", "surrogatepass"), parts
        if told:
            numbers.insert(0, _INDEX(content, end + 1)[0])
            if not content.startswith(b"r", end) or not memo.keys().isdisjoint(numbers):
                break
        if (made := _made(machine, again, layout, key, numbers, text)) is None:
            break
        stack += (text, made)
        at = mark + 1 + layout.size
    return at


def _made(machine: _Machine, again: Again, layout: Layout, key: bytes, numbers: Collection[int], *before: str) -> Any:
    """Return a tensor that is laid out as one before, its parts kept; None where that is for the machine to do."""
    spelling, of = layout.spelling, layout.spelling.of
    charge, name = spelling.charge + len(key), key.decode()
    storage, made = again(spelling.made, spelling.storage, name)
    if made is None or charge + _OF_HOOKS > machine.budget.left:
        return None
    machine.budget.spend(charge)
    hung = of[4]()
    if numbers:
        given = (storage, *spelling.given, hung, of[5]) if spelling.typed else (storage, *spelling.given, hung)
        reference = of[1], of[2], name, of[3], spelling.many
        machine.memo.update(zip(numbers, (*before, name, reference, *layout.shaped, hung, given, made), strict=True))
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
        spelling.of, spelling.made = of, machine.stack[-1]
        refer = machine.persistent or (lambda what: what)  # there is one: the machine has just referred to a storage
        spelling.storage = refer((of[1], of[2], key.decode(), of[3], spelling.many))
        spelling.charge = left - machine.budget.left - len(key) - _OF_HOOKS


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
