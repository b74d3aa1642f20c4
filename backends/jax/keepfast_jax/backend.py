"""JaxBackend: JAX, Flax and Optax as Keepfast sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

import jax
import jaxlib
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from keepfast import Backend, DemoResult, DemoSettings, InvalidValue, Mismatch, Peers, Step, StepBuffer
from keepfast._system.arguments.guarding import guarded_calls_outside, tell_outside
from keepfast.tree import Tree, items, leaves, rebuild
from keepfast_jax.arrays import host_array, host_leaf, host_views, tracked
from keepfast_jax.containers import is_serialized_by_its_own, open_container
from keepfast_jax.device import parse_device
from keepfast_jax.exchanging import exchange
from keepfast_jax.model import Model
from keepfast_jax.modes import outside_of_modes
from keepfast_jax.settings import outputs_of, settings_of
from keepfast_jax.sharding.arrays import is_spread
from keepfast_jax.state import capture, find_kind, kind_of, mismatches, params_of, restore
from keepfast_jax.step_buffer import step_buffer

_PACKAGES = frozenset({"jax", "jaxlib", "flax", "optax", "keepfast_jax"})
"""Whatever has a type of these packages, or one derived from theirs, is this backend's."""


@final
@guarded_calls_outside(inside={"hold"})
class JaxBackend(Backend):
    """Captures and restores what programs on JAX keep.

    That is: variables of flax.linen, modules, optimizers, metrics and random streams of flax.nnx, TrainStates, optax
    states, random keys, and any registered pytree of arrays and numbers, as well as objects with ``state_dict`` and
    ``load_state_dict``. What is immutable is replaced by a restore, and registered as `keepfast.attribute`. Of a
    dictionary or list the entries are replaced (NumPy arrays in it are overwritten); nnx modules and `Model` holders
    are changed in place.

    JAX has no random generator of its own: keys are state like any other, and registered like it.
    """

    name: ClassVar[str] = "jax"
    checkpoint_format: ClassVar[str] = "safetensors"
    sharded_format: ClassVar[str | None] = "orbax"

    def recognizes(self, module: object) -> bool:
        """Say whether anything in a module is of JAX or NumPy, and nothing of PyTorch.

        What is of NumPy alone, and changed in its place where no framework is, is not JAX's to replace.
        """
        signs = set(_signs(module))
        return "torch" not in signs and ("jax" in signs or ("numpy" in signs and not self.replaces(module)))

    def about(self) -> Mapping[str, Any]:
        """Return the versions of JAX and jaxlib, and how it computes; it has no seed of its own.

        Devices are not asked for, since that would set them up.
        """
        config: Any = jax.config
        found = {
            "version": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "x64": bool(config.jax_enable_x64),
            "platforms": config.jax_platforms,
            "matmul_precision": config.jax_default_matmul_precision,
        }
        return {key: value for key, value in found.items() if value is not None}

    @outside_of_modes
    def capture(self, module: Any) -> Tree:
        """Return the state of a module without copying its arrays.

        Raises:
            UnsupportedModule: if a part of it is nothing that a file can hold; names the part.
            UsageError: if an array of it was deleted or donated; names the array.
        """
        return capture(module)

    @outside_of_modes
    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        """Put a state into a module, or into a new one like it where it is immutable.

        Args:
            module: decides every type, dtype and static field.
            state: a tree as `capture` gives, with NumPy arrays, which are copied.
            device: a ``jax.Device``, a ``jax.sharding.Sharding`` or a name such as ``"cuda:1"``, for all arrays; None
                leaves each on the device, or spread as, the module has it.

        Raises:
            InvalidValue: if there is no such device.
            LoadMismatch: if random keys are of another implementation than the module's.
        """
        return restore(module, state, parse_device(device))

    def place(self, device: Any) -> Any:
        """Return the device, or the sharding, that users name.

        Raises:
            InvalidValue: if there is no such device; lists what there is.
        """
        return parse_device(device)

    def replaces(self, module: Any) -> bool:
        """Say whether a module is immutable, so that `restore` returns a new one."""
        return kind_of(module).replaces(module)

    def is_open(self, module: Any) -> bool:
        """Say whether a module restores itself by ``load_state_dict``, and so decides what it takes."""
        return kind_of(module).is_open

    @outside_of_modes
    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        """Return the random keys in a state that are of another implementation than the module's."""
        return mismatches(module, state)

    def is_part(self, node: object) -> bool:
        """Say whether an object is a part of a module of flax.nnx, a `Model`, or a pytree of some class."""
        is_known = isinstance(node, nnx.Pytree | nnx.Variable | Model) or is_serialized_by_its_own(node)
        return is_known or open_container(node) is not None

    def is_resizable(self, array: object) -> bool:
        """Say whether it is an array of JAX; what is trained is in pytrees."""
        return isinstance(array, jax.Array)

    @outside_of_modes
    def host_copy(self, tree: Tree) -> Tree:
        """Return an independent copy of a captured tree, every array a NumPy array in C order.

        Whatever happens to the arrays afterwards, donation and deletion included, does not reach the copy. Numbers in
        a 0-d array of weak type become Python numbers (see `keepfast_jax.arrays`). An array that came over from an
        accelerator is read-only, and so is a large one of the CPU, which is JAX's own memory: nobody changes it.
        """
        return self._on_host(tree, shared=False)

    @outside_of_modes
    def host_view(self, tree: Tree) -> Tree:
        """Return the same with the memory of every array that is on the CPU and in C order."""
        return self._on_host(tree, shared=True)

    def _on_host(self, tree: Tree, *, shared: bool) -> Tree:
        if jax.default_backend() != "cpu":
            for _, leaf in leaves(tree):
                if isinstance(leaf, jax.Array):
                    leaf.copy_to_host_async()  # all under way before the first is waited for
        return _host(tree, shared=shared)

    def host_array(self, value: Any) -> NDArray[Any] | None:
        """Return a NumPy array of a JAX array; None of anything else.

        Raises:
            InvalidValue: if it has no value, or many: it is being traced.
        """
        return host_array(value)

    def hold(self, value: Any) -> Any:
        """Return a JAX array itself, which nobody can change, and a copy of anything else.

        An array that is donated to a compiled function before the next write has no value any more; `fetch` says so.

        Raises:
            InvalidValue: if the array is being traced, or has no values at all.
        """
        try:
            if isinstance(value, jax.Array):
                return tracked(value)
            if (array := np.array(value)).dtype.hasobject:
                raise InvalidValue(f"a {type(value).__qualname__} has no values; give an array or a number")
            return array
        except Exception as error:
            tell_outside("JaxBackend.hold", error)
            raise

    @outside_of_modes
    def fetch(self, held: Sequence[Any]) -> list[NDArray[Any]]:
        """Return held values as NumPy arrays, all transfers from a device under way at the same time.

        Raises:
            UsageError: if an array was deleted or donated since it was held.
        """
        return [np.array(value) for value in host_views(held)]

    def step_buffer(self, step: Step, capacity: int) -> StepBuffer | None:
        """Return a buffer for the steps of environments that give JAX arrays."""
        return step_buffer(step, capacity)

    def settings(self, module: Any) -> Mapping[str, Mapping[str, Any]]:
        """Return what the layers of a network are and how they are set."""
        return settings_of(module)

    @outside_of_modes
    def outputs(self, module: Any, observations: Any) -> NDArray[Any]:
        """Return what a network makes of observations, the first of several outputs.

        Raises:
            InvalidValue: if it is no network that can be called.
        """
        return outputs_of(module, observations)

    def rank(self) -> int | None:
        """Return the index of this process, or None where ``jax.distributed`` was not set up."""
        return jax.process_index() if jax.distributed.is_initialized() else None

    def exchange(self, payload: bytes, seconds: float) -> Sequence[bytes]:
        """Return what each process gave, through the coordinator of ``jax.distributed``."""
        return exchange(payload, seconds)

    def is_sharded(self, array: object) -> bool:
        """Say whether this process has only a part of an array, or others have it too."""
        return is_spread(array)

    def peers(self) -> Peers | None:
        """Return a conversation of the processes of ``jax.distributed``; None where there is one alone."""
        from keepfast_jax.sharding.peers import peers

        return peers()

    def demo(self) -> Callable[[DemoSettings], DemoResult]:
        """Return the function behind ``keepfast demo --backend jax``."""
        from keepfast_jax.demo import run

        return run


def _host(tree: Tree, *, shared: bool) -> Tree:
    if type(tree) is dict:  # as most containers are
        return {key: _host(child, shared=shared) for key, child in tree.items()}
    children = items(tree)
    if children is None:
        return host_leaf(tree, shared=shared)
    return rebuild(tree, [_host(child, shared=shared) for _, child in children])


def _sign(node: Any) -> str:
    packages = {base.__module__.partition(".")[0] for base in type(node).__mro__}
    if "torch" in packages:
        return "torch"
    if not _PACKAGES.isdisjoint(packages):
        return "jax"
    return "numpy" if isinstance(node, np.ndarray | np.generic) else ""


def _signs(node: Any) -> Iterator[str]:
    """Yield, for every part of a module that tells whose it is: ``jax``, ``numpy`` or ``torch``."""
    if isinstance(node, type):  # its metaclass may be one of Flax
        return
    if own := _sign(node):
        yield own
    elif is_serialized_by_its_own(node):
        yield "jax"
    else:
        if (container := open_container(node)) is not None and container.registered:
            yield "jax"
        for part in _parts(node):
            yield from _signs(part)


def _parts(node: Any) -> Iterable[Any]:
    """Return the parts of a module that may tell whose it is."""
    kind = None if isinstance(node, deque) else find_kind(node)
    if kind is None:
        return node if isinstance(node, deque) else ()
    if kind.is_open:
        return (node.state_dict(),)
    if (container := open_container(node)) is not None:
        return container.children.values()
    return () if (params := params_of(node)) is None else (params,)
