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
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from keepfast.pickles.budget import StandIn
from keepfast.tree import Unread

if TYPE_CHECKING:
    from keepfast.pickles.machine import _Machine

Again = Callable[[Any, Any], tuple[Any, Any]]
"""Makes of a tensor, and of a reference to another storage of the same kind, what `persistent` makes of that, and what
the tensor's function would make of it; None in the place of the latter where it cannot be told."""

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
_FAR = {kept: struct.Struct("<" + "xI" * kept) for kept in (5, 6, 7)}
_OF_HOOKS = 1
"""What a call without arguments is charged, as that which makes a tensor's hooks is each time."""

_MOST = 1 << 10
"""How many ways to spell a tensor are remembered at most."""


@final
class Spelling:
    """A way to spell a tensor, and what came of the first that was spelled in it."""

    __slots__ = ("_dtype", "_hooks", "_kind", "_place", "_word", "charge", "given", "length", "made", "many", "of")

    def __init__(self, *parts: bytes) -> None:
        word, kind, length, place, many, begin, shape, steps, flag, hooks, dtype = parts
        self._word, self._place, self._kind = _part(word), _part(place), _number(kind)
        self._hooks, self._dtype = _number(hooks), _part(dtype)
        self.length, self.many = length[1], _number(many)
        self.given = _number(begin), _ints(shape), _ints(steps), flag == b"\x88"
        self.of: tuple[Any, ...] = ()
        self.charge, self.made = 0, None

    def named(self, function: Any, memo: Mapping[int, Any]) -> tuple[Any, ...]:
        """Return what is named in it: the function, and what the memo has."""
        get = memo.get
        return function, get(*self._word), get(self._kind), get(*self._place), get(self._hooks), get(*self._dtype)


def make_tensor(machine: _Machine, again: Again, at: int) -> int | None:
    """Do what makes the tensor whose second mark stands there; the function that does stands on the stack.

    Returns:
        Where its last instruction ends; None where that is for the machine to do.
    """
    found, memo, stack = _found(machine.content, at), machine.memo, machine.stack
    if found is None or (end := found.end()) > machine.frame_end or not stack:
        return None
    (word, kind, length, key, put_key, place, many, put_said, begin, shape, put_shape, steps, put_steps,
     flag, hooks, put_hooks, dtype, put_given, put_made) = found.groups()  # fmt: skip
    parts = word, kind, length, place, many, begin, shape, steps, flag, hooks, dtype
    spelling = machine.spellings.get(parts) or _spelling(machine, parts)
    written = b"".join((put_key, put_said, put_shape, put_steps, put_hooks, put_given, put_made))
    numbers = _numbers(memo, written, 5 + bool(put_shape) + bool(put_steps))
    if spelling.length != len(key) or None in spelling.given or numbers is None or not memo.keys().isdisjoint(numbers):
        return None
    of = spelling.named(stack[-1], memo)
    if of != spelling.of:
        _learn(machine, at, end, spelling, of, len(key))
        return end
    charge, reference = spelling.charge + len(key), (of[1], of[2], key.decode(), of[3], spelling.many)
    storage, made = again(spelling.made, reference)
    if made is None or charge + _OF_HOOKS > machine.budget.left:
        return None
    machine.budget.spend(charge)
    hung, stack[-1] = of[4](), made
    if numbers:
        given = (storage, *spelling.given, hung, of[5]) if dtype else (storage, *spelling.given, hung)
        shaped = spelling.given[1 if put_shape else 2 : 3 if put_steps else 2]
        for number, part in zip(numbers, (reference[2], reference, *shaped, hung, given, made), strict=True):
            memo[number] = part
    return end


def _spelling(machine: _Machine, parts: tuple[bytes, ...]) -> Spelling:
    if len(machine.spellings) >= _MOST:
        machine.spellings.clear()
    made = machine.spellings[parts] = Spelling(*parts)
    return made


def _learn(machine: _Machine, at: int, end: int, spelling: Spelling, of: tuple[Any, ...], length: int) -> None:
    """Have the machine make a tensor, and note what came of it, where all it is made of is known and plain."""
    left = machine.budget.left
    machine.run_marked(at, end)
    if {*map(type, of)} <= _PLAIN and type(of[0]) is StandIn and type(of[4]) is StandIn:
        spelling.of, spelling.made = of, machine.stack[-1]
        spelling.charge = left - machine.budget.left - length - _OF_HOOKS


_PLAIN = {StandIn, Unread, str}


def _numbers(memo: Mapping[int, Any], written: bytes, kept: int) -> Sequence[int] | None:
    """Return the numbers under which the parts are kept, none where they are not; None where they differ in how."""
    if len(written) == 5 * kept:
        return _FAR[kept].unpack(written)
    if written == b"\x94" * kept:
        return range(len(memo), len(memo) + kept)
    return None if written else ()


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
