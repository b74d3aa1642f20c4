"""What the layers of a network are and how they are set, and what it makes of observations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen
import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from keepfast import InvalidValue
from keepfast_jax.containers import open_container
from keepfast_jax.model import Keeping

_SPATIAL = (84, 64, 32, 96, 16)
"""Sizes of images that networks are tried with, to see what their layers are; nothing is computed."""


def settings_of(module: Any) -> dict[str, dict[str, Any]]:
    """Return the kind and the settings of each layer by its path, and the kind of each state of an optimizer."""
    if isinstance(module, nnx.Optimizer):
        return dict(_of_states(module.opt_state, "opt_state"))
    if isinstance(module, nnx.Module):
        return dict(_of_nnx(module))
    return _of_linen(module) if isinstance(module, Keeping) else dict(_of_states(module, ""))


def _of_states(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the class of every named tuple, as all states of optax are, that is no array's or variable's."""
    if isinstance(node, jax.Array | np.ndarray | nnx.Variable) or (container := open_container(node)) is None:
        return
    if hasattr(node, "_fields"):
        yield path, {"kind": type(node).__name__}
    for name, child in container.children.items():
        yield from _of_states(child, f"{path}.{name}" if path else str(name))


def _of_nnx(module: nnx.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, node in nnx.iter_graph(module):
        name = ".".join(map(str, path))
        if isinstance(node, nnx.Module):
            yield name, _told(node)
            for key, value in vars(node).items():
                if _is_gelu(value):
                    yield f"{name}.{key}".lstrip("."), {"kind": "gelu", "approximate": True}
                if isinstance(value, list | tuple | nnx.List):
                    yield from (
                        (f"{name}.{key}.{number}".lstrip("."), {"kind": "gelu", "approximate": True})
                        for number, each in enumerate(value)
                        if _is_gelu(each)
                    )


def _is_gelu(value: Any) -> bool:
    return getattr(value, "__wrapped__", value) is getattr(jax.nn.gelu, "__wrapped__", jax.nn.gelu)


def _told(layer: Any) -> dict[str, Any]:
    kind = type(layer).__name__
    told: dict[str, Any] = {"kind": kind}
    if isinstance(epsilon := getattr(layer, "epsilon", None), float):
        told["eps"] = epsilon
    if kind == "BatchNorm":
        told["momentum"] = 1 - float(layer.momentum)
    if kind in ("Conv", "ConvTranspose"):
        size = layer.kernel_size
        told["kind"] = f"{kind}{1 if isinstance(size, int) else len(size)}d"
        if getattr(layer, "transpose_kernel", False):
            told["kind"] += " with transpose_kernel"
    return told


def _of_linen(model: Keeping) -> dict[str, dict[str, Any]]:
    """Return what a linen module shows of its layers when it is called with inputs that fit; nothing is computed."""
    for example in _examples(model.variables):
        found: dict[str, dict[str, Any]] = {}

        def note(call: Any, args: Any, kwargs: Any, context: Any, found: dict[str, dict[str, Any]] = found) -> Any:
            found[".".join(context.module.path)] = _told(context.module)
            return call(*args, **kwargs)

        def run(inputs: Any, note: Any = note) -> Any:
            with flax.linen.intercept_methods(note):
                return model.linen.apply(model.variables, inputs, mutable=True)

        with contextlib.suppress(Exception):  # inputs of this shape do not fit: the next may
            jax.eval_shape(run, example)
            return found
    return {}


def _examples(variables: Mapping[str, Any]) -> Iterator[jax.ShapeDtypeStruct]:
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if str(getattr(path[-1], "key", "")) in ("kernel", "scale", "embedding")
    ]
    for size in dict.fromkeys(leaf.shape[-2] for leaf in kernels if leaf.ndim == 2):
        yield _shaped((1, size))
        yield _shaped((1, 2, size))
    for ndim, channels in dict.fromkeys((leaf.ndim - 2, leaf.shape[-2]) for leaf in kernels if leaf.ndim > 2):
        for size in _SPATIAL:
            yield _shaped((1, *[size] * ndim, channels))
    for size in dict.fromkeys(leaf.shape[-1] for leaf in kernels if leaf.ndim == 1):
        yield _shaped((1, size))


def _shaped(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]


def outputs_of(module: Any, observations: Any) -> NDArray[Any]:
    """Return what a network makes of observations, the first of several outputs.

    Raises:
        InvalidValue: if it is no network.
    """
    if isinstance(module, Keeping):
        made = module.linen.apply(module.variables, np.asarray(observations))
    elif isinstance(module, nnx.Module) and callable(module):
        made = module(np.asarray(observations))
    else:
        raise InvalidValue(
            f"a {type(module).__qualname__} cannot be called to check its outputs; give the function that does it as "
            "the third element of `check`"
        )
    while isinstance(made, tuple | list):
        made = made[0]
    return np.asarray(made)
