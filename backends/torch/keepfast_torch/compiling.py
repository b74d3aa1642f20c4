"""Keeps torch.compile out of Keepfast: what is called from a compiled function runs as it does anywhere else.

A call from a compiled function breaks its graph there. With ``fullgraph=True`` that is an error, whose text says so.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch

PACKAGES = ("keepfast", "keepfast_torch", "keepfast_writers")

REASON = (
    "it keeps what a run produces and is no part of a graph; call it outside of what is compiled with fullgraph=True"
)

# What `torch.compiler.disable` does, which would load the compiler, and put a wrapper around each function.
_frames: Any = torch._C._dynamo.eval_frame  # noqa: SLF001
_set_strategy: Any = getattr(_frames, "set_code_exec_strategy", None)
_LEFT_ALONE = _set_strategy and _frames._FrameExecStrategy(*[_frames._FrameAction.SKIP] * 2)  # noqa: SLF001

_marked: dict[str, int] = {}


def keep_out() -> None:
    """Mark every function of our packages that is loaded by now; modules that are marked already cost nothing again."""
    ours = [name for name in list(sys.modules) if name.startswith(PACKAGES)]  # of thousands
    for name, module in ((name, sys.modules.get(name)) for name in ours if name.partition(".")[0] in PACKAGES):
        if module is not None and _marked.get(name) != (count := len(vars(module))):
            _marked[name] = count  # one that is being loaded still gets more
            for function in _functions(module):
                _mark(function)


def _functions(module: Any) -> Iterator[FunctionType]:
    """Yield the functions and methods that a module defines."""
    for value in list(vars(module).values()):
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for member in vars(value).values():
                yield from _functions_of(member)


def _functions_of(member: Any) -> Iterator[FunctionType]:
    if isinstance(member, property):
        yield from (each for each in (member.fget, member.fset) if isinstance(each, FunctionType))
    elif isinstance(found := inspect.unwrap(getattr(member, "__func__", member)), FunctionType):
        yield found


def _mark(function: FunctionType) -> None:
    """Have the compiler leave a function alone, and all that it calls."""
    vars(function).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=REASON)
    if _set_strategy is not None:
        _set_strategy(function.__code__, _LEFT_ALONE)
