"""The modes of PyTorch that a call may be made in, and how it is made on the tensors themselves all the same.

Such are the transforms of ``torch.func``, tracing (``torch.jit``, ``torch.fx``, ``torch.export``), FakeTensorMode and
other modes of Python's dispatch, functions' modes (a default device is one), inference mode, and whether gradients are
kept. What has a value under them is taken as it is; what has none yet, or many, is refused.
"""

# ruff: noqa: SLF001  (PyTorch tells of its modes, and leaves them, by private names alone; its own code does it so)

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

from keepfast import InvalidValue

_internals: Any = torch._C
_functorch: Any = _internals._functorch
dispatch_modes: Callable[[], int] = _internals._len_torch_dispatch_stack
_pre_dispatch_modes: Callable[[], int] = torch._ops._len_torch_dispatch_stack_pre_dispatch
transforms: Callable[[], object] = _functorch.peek_interpreter_stack

_P = ParamSpec("_P")
_R = TypeVar("_R")

_TRACED = frozenset({"FakeTensor", "FunctionalTensor"})
"""Tensors that stand for values to come. Their classes are told by name: to import them takes a second."""


def are_transformed() -> bool:
    """Say whether what is done with tensors now may be done with others in their place."""
    return transforms() is not None or dispatch_modes() > 0


def is_mode_on() -> bool:
    """Say whether there is a mode to leave at all."""
    return (
        torch.is_inference_mode_enabled()
        or transforms() is not None
        or dispatch_modes() > 0
        or _internals._len_torch_function_stack() > 0
        or _internals._get_tracing_state() is not None
    )


def real_value(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor that has the values, out of what a transform has wrapped around it.

    Raises:
        InvalidValue: if it has none: it is being traced, one of many in a vmap, or on the device ``meta``.
    """
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            raise InvalidValue(
                "it is one of a batch in torch.vmap and has as many values; return it from the mapped function and use "
                "what comes out"
            )
        if _functorch.is_functionaltensor(tensor):
            torch._sync(tensor)  # type: ignore[attr-defined, no-untyped-call]
        tensor = _functorch.get_unwrapped(tensor)
    if type(tensor).__name__ in _TRACED or torch._is_functional_tensor(tensor):
        raise InvalidValue(
            "it is being traced (by FakeTensorMode, torch.export or make_fx) and has no value; return it from the "
            "traced function and use what comes out"
        )
    if tensor.is_meta:
        raise InvalidValue("it is on the device `meta`, so it has no value")
    return tensor


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Do what is in the block with the tensors themselves, whatever mode the caller is in, and keep no gradients."""
    if not (is_mode_on() or _pre_dispatch_modes()):
        with torch.no_grad():
            yield
        return
    with contextlib.ExitStack() as modes:
        if transforms() is not None:
            modes.enter_context(_internals._DisableFuncTorch())
        if dispatch_modes() or _pre_dispatch_modes():
            from torch.utils._python_dispatch import _disable_current_modes

            modes.enter_context(_disable_current_modes())
        if _internals._len_torch_function_stack():
            modes.enter_context(_without_function_modes())
        if (tracing := _internals._get_tracing_state()) is not None:
            _internals._set_tracing_state(None)
            modes.callback(_internals._set_tracing_state, tracing)
        modes.enter_context(torch.inference_mode(mode=False))
        modes.enter_context(torch.no_grad())
        yield


@contextlib.contextmanager
def _without_function_modes() -> Iterator[None]:
    popped = [_internals._pop_torch_function_stack() for _ in range(_internals._len_torch_function_stack())]
    try:
        yield
    finally:
        for mode in reversed(popped):
            _internals._push_on_torch_function_stack(mode)


def outside_of_modes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function run as in `outside`."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with outside():
            return function(*args, **kwargs)

    return run


def writable(*tensors: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return the mode in which tensors can be overwritten: what was made in inference mode can be in it alone."""
    made_in_it = any(not torch.nn.parameter.is_lazy(tensor) and tensor.is_inference() for tensor in tensors)
    return torch.inference_mode() if made_in_it else contextlib.nullcontext()


@contextlib.contextmanager
def conversion_in_place() -> Iterator[None]:
    """Have a module that is moved keep its parameters, which an optimizer holds, whatever the caller has set."""
    conversion: Any = torch.__future__
    before = conversion.get_overwrite_module_params_on_conversion()
    conversion.set_overwrite_module_params_on_conversion(False)
    try:
        yield
    finally:
        conversion.set_overwrite_module_params_on_conversion(before)
