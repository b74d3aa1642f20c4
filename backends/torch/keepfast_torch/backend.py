"""TorchBackend: PyTorch as Keepfast sees it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from keepfast import Backend, Conversion, DemoResult, DemoSettings, FileEntries, Mismatch, Peers, Step, StepBuffer
from keepfast._system.arguments.guarding import guarded_calls_outside, tell_outside
from keepfast._system.memory.staging import copied
from keepfast.plain.generators import of_torch
from keepfast.tree import Tree, Versions, map_leaves
from keepfast_torch import converting, optimizer, parameter_order, scheduler
from keepfast_torch.arrays import HostCopier, fetch, hold, host_array, tensor_copy
from keepfast_torch.compiling import keep_out
from keepfast_torch.device import parse_device
from keepfast_torch.exchanging import exchange
from keepfast_torch.modes import outside_of_modes
from keepfast_torch.remembering import exposed, place_of, remember
from keepfast_torch.settings import outputs_of, settings_of
from keepfast_torch.sharding.tensors import is_spread, local_of, sharded
from keepfast_torch.state import find_kind, kind_of
from keepfast_torch.step_buffer import step_buffer
from keepfast_torch.uninitialized import require_values
from keepfast_torch.wrappers import unwrapped

_CPU = torch.device("cpu")


@final
@guarded_calls_outside(inside={"hold"})
class TorchBackend(Backend):
    """Captures and restores what programs on PyTorch keep.

    That is: modules (compiled and data-parallel ones under their own names), optimizers, learning-rate schedulers,
    GradScaler, Generator, tensors and parameters, dictionaries, lists and tuples of tensors, and objects with
    ``state_dict`` and ``load_state_dict``. Everything is changed in place but a tuple, which is replaced.
    """

    name: ClassVar[str] = "torch"
    checkpoint_format: ClassVar[str] = "pt"
    sharded_format: ClassVar[str | None] = "dcp"

    def recognizes(self, module: object) -> bool:
        """Say whether a module is an object of PyTorch, or one whose state has tensors of PyTorch in it."""
        kind = find_kind(module)
        return kind is not None and kind.recognizes(module)

    def prepare(self) -> None:
        """Keep torch.compile out of what is loaded of Keepfast by now."""
        keep_out()

    def about(self) -> Mapping[str, Any]:
        """Return PyTorch's version and CUDA's, how it computes, its seed, and GPUs where they are in use already."""
        found: dict[str, Any] = {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "seed": torch.initial_seed(),
        }
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            found["devices"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return {key: value for key, value in found.items() if value is not None}

    @outside_of_modes
    def capture(self, module: Any) -> Tree:
        """Return the state of a module, what ``state_dict`` gives, without copying its tensors.

        Raises:
            UnsupportedModule: if it, or a part of it, is nothing that a file can hold; names the part.
            UsageError: if a tensor has no values yet; names it.
        """
        return kind_of(module).capture(module)

    @outside_of_modes
    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        """Put a state into a module, as ``load_state_dict`` does.

        Args:
            module: what to restore.
            state: a tree as `capture` gives, with NumPy arrays, which are copied and never changed.
            device: where modules and tensors are moved first; None leaves each where it is. The state of an optimizer
                always goes where its parameters are.

        Raises:
            InvalidValue: if there is no such device.
            LoadMismatch: if the state does not fit; lists every difference.
        """
        return kind_of(module).restore(module, state, parse_device(device))

    def place(self, device: Any) -> Any:
        """Return the device that users name.

        Raises:
            InvalidValue: if there is no such device; lists what there is.
        """
        return parse_device(device)

    def replaces(self, module: Any) -> bool:
        """Say whether a module is a tuple, of which `restore` makes a new one."""
        return kind_of(module).replaces(module)

    def replaces_arrays(self, module: Any) -> bool:
        """Say whether a module is an optimizer that loads as PyTorch's own do, which give it other tensors."""
        return isinstance(module, torch.optim.Optimizer) and optimizer.loads_plainly(module)

    def is_open(self, module: Any) -> bool:
        """Say whether a module decides by itself what it takes, as optimizers and schedulers do."""
        return kind_of(module).is_open

    @outside_of_modes
    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        """Return what in a file's state does not fit an optimizer or scheduler of PyTorch; others decide on loading."""
        return kind_of(module).mismatches(module, state)

    def wholes(self, module: Any) -> Container[str]:
        """Return what the extra state of a module is called, of which the module knows what it takes."""
        return ("_extra_state",) if isinstance(module, torch.nn.Module) else ()

    def converts(self, module: Any, versions: Versions | None) -> bool:
        """Say whether a module has hooks or ways of its own to load a state, for older versions, say."""
        return converting.converts(unwrapped(module), versions)

    @outside_of_modes
    def converted(self, module: Any, file: FileEntries) -> Conversion:
        """Return what a module makes of a file, its hooks and its classes' ways of loading.

        Raises:
            LoadMismatch: if it refuses the file.
        """
        return converting.converted(unwrapped(module), file)

    def names(self, module: Any, beside: Mapping[str, Any]) -> Tree:
        """Return by what names the modules beside an optimizer have its parameters; None of anything else."""
        return parameter_order.names_of(module, beside) if isinstance(module, torch.optim.Optimizer) else None

    def aligned(self, module: Any, state: Tree, names: Tree, saved: Tree) -> tuple[Tree, Sequence[Mismatch]]:
        """Return the state of an optimizer in the order of this one's parameters, by the names that both have."""
        if not isinstance(module, torch.optim.Optimizer) or optimizer.is_malformed(state):
            return state, ()
        return parameter_order.aligned(module, state, names, saved)

    def is_part(self, node: object) -> bool:
        """Say whether an object is a module, as networks are made of."""
        return isinstance(node, torch.nn.Module)

    def is_resizable(self, array: object) -> bool:
        """Say whether it is a tensor that is not trained."""
        return isinstance(array, torch.Tensor) and not array.requires_grad and not isinstance(array, torch.nn.Parameter)

    def place_of(self, array: object) -> int | None:
        """Return the address of a tensor's memory."""
        return place_of(array)

    def strides_of(self, array: object) -> tuple[int, ...] | None:
        """Return the bytes from one number to the next along each axis of a tensor; None of a conjugate or negative."""
        if not isinstance(array, torch.Tensor) or (array := local_of(array)).is_conj() or array.is_neg():
            return None
        return tuple(stride * array.element_size() for stride in array.stride())

    def memory_of(self, array: Any, device: Any = None) -> NDArray[Any] | None:
        """Return the memory of a tensor that is on the CPU, contiguous and of numbers as they are, and stays there."""
        return None if device is not None and parse_device(device) != _CPU else exposed(array)

    def remember(self, array: Any, *, numbers: bool = True) -> Callable[[], None]:
        """Return what gives a tensor its present values back, and its place on its device."""
        return remember(array, numbers=numbers)

    @outside_of_modes
    def host_copy(self, tree: Tree) -> Tree:
        """Return an independent copy of a captured tree, every array a NumPy array in C order.

        Accelerators are waited for once. Tensors that are the same memory (tied weights) become one array.

        Raises:
            UsageError: if a parameter of a module is not initialized yet; names it.
        """
        return _on_host(tree, HostCopier())

    @outside_of_modes
    def host_view(self, tree: Tree) -> Tree:
        """Return the same with the memory of the tensors themselves where that is on the CPU and in C order."""
        return _on_host(tree, HostCopier(shared=True))

    def host_array(self, value: Any) -> NDArray[Any] | None:
        """Return a NumPy array of a tensor; None of anything else.

        Raises:
            InvalidValue: if it has no value, or many: it is being traced.
        """
        return host_array(value)

    def hold(self, value: Any) -> Any:
        """Return something that keeps the present values of a tensor, without waiting for its device.

        Raises:
            InvalidValue: if the tensor has none, or many: it is being traced, or one of a batch in a vmap.
        """
        try:
            return hold(value)
        except Exception as error:
            tell_outside("TorchBackend.hold", error)
            raise

    @outside_of_modes
    def fetch(self, held: Sequence[Any]) -> list[NDArray[Any]]:
        """Return held values as NumPy arrays of their own shapes, in one transfer from each device."""
        return fetch(held)

    @outside_of_modes
    def step_buffer(self, step: Step, capacity: int) -> StepBuffer | None:
        """Return a buffer for the steps of environments that give tensors."""
        return step_buffer(step, capacity)

    @outside_of_modes
    def random_state(self) -> Tree:
        """Return the state of the global generators of the CPU and of every accelerator in use, as NumPy arrays."""
        states: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            states["cuda"] = torch.cuda.get_rng_state_all()
        if torch.backends.mps.is_available():
            states["mps"] = torch.mps.get_rng_state()
        return self.host_copy(states)

    @outside_of_modes
    def set_random_state(self, state: Tree) -> None:
        """Put back what `random_state` returned; what is for devices that are not here is passed over."""
        torch.set_rng_state(tensor_copy(of_torch(np.ascontiguousarray(state["cpu"]))))
        if torch.cuda.is_available():
            for number, saved in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(tensor_copy(saved), number)
        if "mps" in state and torch.backends.mps.is_available():
            torch.mps.set_rng_state(tensor_copy(state["mps"]))

    def settings(self, module: Any) -> Mapping[str, Mapping[str, Any]]:
        """Return what the layers of a network are and how they are set."""
        return settings_of(module)

    def scheduled(self, module: Any, steps: int) -> tuple[Tree, Sequence[float]] | None:
        """Return the state that a scheduler has after so many steps, and the rates then, where these tell it."""
        return scheduler.scheduled(module, steps) if scheduler.is_scheduler(module) else None

    @outside_of_modes
    def outputs(self, module: Any, observations: Any) -> NDArray[Any]:
        """Return what a network makes of observations, the first of several outputs.

        Raises:
            InvalidValue: if it is no network that can be called.
        """
        return outputs_of(module, observations)

    def rank(self) -> int | None:
        """Return the rank in the default process group, or None where there is no such group."""
        distributed = torch.distributed
        return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else None

    @outside_of_modes
    def exchange(self, payload: bytes, seconds: float) -> Sequence[bytes]:
        """Return what each process of the default group gave, over a group on the host beside it."""
        return exchange(payload, seconds)

    def is_sharded(self, array: object) -> bool:
        """Say whether it is a DTensor."""
        return is_spread(array)

    def peers(self) -> Peers | None:
        """Return a conversation over a group of its own; None where the default group has one process."""
        from keepfast_torch.sharding.peers import peers

        return peers()

    def demo(self) -> Callable[[DemoSettings], DemoResult]:
        """Return the function behind ``keepfast demo --backend torch``."""
        from keepfast_torch.demo import run

        return run


def _on_host(tree: Tree, copier: HostCopier) -> Tree:
    def copy(path: str, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            require_values(leaf, path)
            return sharded(leaf, copier.copy) if is_spread(leaf) else copier.copy(leaf)
        return copied(leaf) if isinstance(leaf, np.ndarray) else leaf

    made = map_leaves(copy, tree)
    copier.wait()
    return made
