"""Pickles that mean harm: to the stack of C, to the memory, or to the time, whatever of a machine they misuse."""

from __future__ import annotations

import pickle
import struct

from tests.hostile.making import number, numbers, tensor, text

MIB = 1 << 20


def memo(index: int) -> bytes:
    return pickle.LONG_BINPUT + struct.pack("<I", index)


def call(name: str, *arguments: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + function.encode() + b"\n(" + b"".join(arguments) + b"tR"


DEEP = b")" + b"\x85" * 300_000  # tuples in each other
DOUBLED = b"K\1" + b"2\x86" * 60  # a tuple of 2**60 parts, by DUP and TUPLE2
LONG_TEXT = text("x" * MIB) + b"q\0"
COLLIDING = b"".join(number(index * (2**61 - 1)) + b"N" for index in range(60_000))
ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n)C\1btR"
DTYPE = call("numpy.dtype", text("f4"), b"\x89", b"\x88")

ATTACKS = {
    "deep key": b"}" + DEEP + b"Ns.",
    "deep keys": b"}(" + DEEP + b"Nu.",
    "deep dict": b"(" + DEEP + b"Nd.",
    "deep member": b"\x8f(" + DEEP + b"\x90.",
    "deep frozen": b"(" + DEEP + b"\x91.",
    "deep set": call("builtins.set", b"(" + DEEP + b"l") + b".",
    "deep counter": call("collections.Counter", b"(" + DEEP + b"l") + b".",
    "doubled key": b"}" + DOUBLED + b"Ns.",
    "doubled set": call("builtins.set", b"(" + DOUBLED + b"l") + b".",
    "same long key": b"(" + b"(" + b"K\1" * 100_000 + b"tq\0" + b"".join(b"}h\0Ns" for _ in range(100_000)) + b"l.",
    "colliding keys": b"}(" + COLLIDING + b"u.",
    "encoded often": LONG_TEXT + b"0(" + call("_codecs.encode", b"h\0", text("latin1")) * 4000 + b"l.",
    "counted often": LONG_TEXT + b"0(" + call("collections.Counter", b"h\0") * 4000 + b"l.",
    "counter changed": call("collections.Counter", b"}") + b"}" + text("values") + b"K\1sb.",
    "size often": b"(" + b"(" + b"K\1" * 100_000 + b"tq\0" + call("torch.Size", b"h\0") * 2000 + b"l.",
    "array often": b"(" + b"C" + b"\4" + bytes(4) + b"0B" + struct.pack("<I", MIB) + bytes(MIB) + b"q\0"
    + (ARRAY + b"(K\1" + numbers(MIB // 4) + DTYPE + b"\x89h\0tb") * 4000 + b"l.",
    "tensor changed": tensor((1,), (1,)) + b"}" + text("nbytes") + number(1 << 60) + b"sb.",
    "doubled value": DOUBLED + b".",
    "deep value": DEEP + b".",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "marks": b"(" * 100_000 + b".",
    "no end": b"(" * 1000,
    "length": b"\x8e" + b"\xff" * 8 + b".",
    "integer": b"\x8b" + struct.pack("<i", -5) + b".",
}  # fmt: skip
