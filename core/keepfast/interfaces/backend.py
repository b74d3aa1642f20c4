"""Backend: what Keepfast asks of a framework."""

from __future__ import annotations

import abc
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded_calls_outside, tell_outside
from keepfast._system.memory.staging import copied
from keepfast.errors import InvalidValue
from keepfast.interfaces.loading.conversion import Conversion, FileEntries
from keepfast.interfaces.sharding.peers import Peers
from keepfast.interfaces.step_buffer import Step, StepBuffer
from keepfast.tree import Tree, Versions, is_array, map_leaves


@final
@dataclass(frozen=True)
class DemoSettings:
    """What the command line asks of a demo.

    Attributes:
        env: a Gymnasium environment id with discrete actions and a vector of numbers as observation.
        timesteps: how many timesteps of each environment to train for.
        directory: where the experiment's directory is made.
        seed: seeds the environments, the parameters and the sampling.
        progress: is called after each timestep with the number of completed timesteps and the best score so far, or
            None where there is none. What it raises ends the training; a `KeyboardInterrupt` ends it cleanly.
        name: the experiment's name, under which a second start goes on; by date, time and agent if empty.
    """

    env: str
    timesteps: int
    directory: Path
    seed: int
    progress: Callable[[int, float | None], None]
    name: str = ""


@final
@dataclass(frozen=True)
class DemoResult:
    """What a demo reports when it is done.

    Attributes:
        experiment_dir: the experiment's directory.
        memory_dir: where its memories were exported.
        best_score: the best mean total reward of the training, or None where no episode was judged.
        evaluation_score: the mean return of the best checkpoint, loaded into a fresh agent, or None where there is no
            best checkpoint.
        interrupted: whether Ctrl-C ended the training early.
        timesteps: how many timesteps were completed.
    """

    experiment_dir: Path
    memory_dir: Path
    best_score: float | None
    evaluation_score: float | None
    interrupted: bool
    timesteps: int


@guarded_calls_outside(inside={"hold"})
class Backend(abc.ABC):
    """Captures and restores the modules of one framework.

    A module is whatever a user registers: a network, an optimizer, a train state, a pytree, a tensor. Its state
    travels as a tree (see `keepfast.tree`): `capture` gives one whose leaves are the framework's own arrays, still
    shared with the module; `host_copy` makes of it an independent one whose leaves are NumPy arrays, which is what
    checkpoint formats write; `restore` puts such a tree back.

    The smallest complete backend, for modules that are dictionaries of NumPy arrays::

        class NumpyBackend(keepfast.Backend):
            name = "numpy"
            checkpoint_format = "safetensors"

            def recognizes(self, module):
                return isinstance(module, dict)

            def capture(self, module):
                return module

            def restore(self, module, state, device=None):
                for key, value in state.items():
                    module[key][...] = value
                return module

    Registered by a plugin: ``keepfast_backends`` returns ``{"numpy": NumpyBackend}``.
    `keepfast.testing.BackendContract` proves it.
    """

    name: ClassVar[str]
    """What users write as ``backend`` in their configuration."""

    checkpoint_format: ClassVar[str]
    """The checkpoint format that ``"auto"`` stands for."""

    sharded_format: ClassVar[str | None] = None
    """The one that it stands for where arrays are spread over processes; None where this framework has no such."""

    @abc.abstractmethod
    def recognizes(self, module: object) -> bool:
        """Say whether a module is of this framework, so that the backend need not be named."""

    def prepare(self) -> None:
        """Be told that more of Keepfast is in use now.

        A framework that traces or compiles what it runs is kept out of it here.
        """
        return

    def about(self) -> Mapping[str, Any]:
        """Return what there is to tell of the framework where a run starts: versions, devices, ``seed``; at no cost.

        Values are what JSON has. What would set up a device is left out.
        """
        return {}

    def host_array(self, value: Any) -> NDArray[Any] | None:
        """Return a NumPy array of an array of this framework, whatever mode the framework is in; None of anything else.

        Raises:
            InvalidValue: if it has no value, or many: it is being traced, say.
        """
        return None

    @abc.abstractmethod
    def capture(self, module: Any) -> Tree:
        """Return the state of a module without copying its arrays.

        Containers are plain (`dict`, `OrderedDict`, `Counter`, `list`, `tuple`); whatever a framework adds to them
        (named tuples, dataclasses, its own dictionaries) becomes one of these.

        Raises:
            UnsupportedModule: if this backend cannot capture such an object.
        """

    @abc.abstractmethod
    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        """Put a state into a module.

        Args:
            module: the module, unchanged so far.
            state: a tree of the same shape as `capture` gives, its arrays NumPy arrays on the host or, where the file
                had nothing for an entry, the module's own. For an open module (see `is_open`), the file's own tree.
            device: where new arrays are placed; None keeps each where the module has it.

        Returns:
            The module if it was changed in place, or the new value that replaces it.

        Raises:
            LoadMismatch: if an open module refuses the state.
        """

    def place(self, device: Any) -> Any:
        """Return where a device that users name is, as `restore` takes it.

        Raises:
            InvalidValue: if there is no such device; lists what there is.
        """
        return device

    def replaces(self, module: Any) -> bool:
        """Say whether `restore` returns a new value instead of changing the module in place."""
        return False

    def is_open(self, module: Any) -> bool:
        """Say whether a module takes entries it does not have yet, as an optimizer does before its first step."""
        return False

    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        """Return everything in a state that a module cannot take; nothing is changed.

        Asked before anything is loaded, so that one error can tell of all modules. What a comparison entry by entry
        shows is found without it: that is, for an open module, arrays of another shape at the same path.

        Args:
            module: the module.
            state: what `restore` would be given; for an open module that is the file's own tree, which may be of
                anything at all.
        """
        return ()

    def wholes(self, module: Any) -> Container[str]:
        """Return how the paths end of what a module takes from a file whatever is in it, as `set_extra_state` does."""
        return ()

    def converts(self, module: Any, versions: Versions | None) -> bool:
        """Say whether a module makes something else of a file before it takes it.

        Args:
            module: a module that is not open.
            versions: what the file tells of its parts; see `FileEntries`.
        """
        return False

    def converted(self, module: Any, file: FileEntries) -> Conversion:
        """Return what a module makes of a file, for it to be compared with the module then.

        The module may be changed by it: it is put back afterwards. `restore` is given a `Converted` state.

        Raises:
            LoadMismatch: if the module cannot convert it.
        """
        raise NotImplementedError(f"the backend `{self.name}` has no modules that convert files")

    def names(self, module: Any, beside: Mapping[str, Any]) -> Tree:
        """Return what the modules beside a module call that which its own state calls by number alone.

        It is stored with the module, and given to `aligned` when that is loaded.

        Args:
            module: an open module, such as an optimizer.
            beside: the modules registered with it, by name.

        Returns:
            A tree of names, or None where there is nothing to name.
        """
        return None

    def aligned(self, module: Any, state: Tree, names: Tree, saved: Tree) -> tuple[Tree, Sequence[Mismatch]]:
        """Return a file's state in the order of an open module, and in what way it has no such order.

        Args:
            module: the module.
            state: the file's tree, of anything at all.
            names: what `names` returns for the module now.
            saved: what it returned when the file was written, or None.
        """
        return state, ()

    def is_part(self, node: object) -> bool:
        """Say whether an object is a module that this framework's modules are made of, however deep within them."""
        return False

    def is_resizable(self, array: object) -> bool:
        """Say whether an array that its owner holds may be replaced by one of another shape, as one that grew is.

        No parameter may be: an optimizer counts on it.
        """
        return False

    def place_of(self, array: object) -> int | None:
        """Return the address of the memory of an array of this framework that can be changed; None of anything else."""
        return None

    def strides_of(self, array: object) -> tuple[int, ...] | None:
        """Return the bytes from one number to the next along each axis of an array that has a place; see `place_of`."""
        return None

    def replaces_arrays(self, module: Any) -> bool:
        """Say whether `restore` writes to no array that a module has, but gives it others in their place.

        Then no array of it is copied before a load that may have to be undone.
        """
        return False

    def memory_of(self, array: Any, device: Any = None) -> NDArray[Any] | None:
        """Return the memory of an array, for whoever gives it other numbers there, as `restore` would do.

        Args:
            array: an array of a captured tree.
            device: where it is to be; None leaves it where it is.

        Returns:
            A contiguous array of its shape and of dtypes of its width; None where `restore` does anything else.
        """
        return None

    def remember(self, array: Any, *, numbers: bool = True) -> Callable[[], None]:
        """Return what gives an array that can be changed its present values back, kept on the host until then.

        Asked of an array that has a place (see `place_of`), before a load that may have to be undone. Other objects,
        containers and NumPy arrays are remembered without it.

        Args:
            array: the array.
            numbers: whether its values are to be kept; where not, they are kept elsewhere or do not change (see
                `memory_of` and `replaces_arrays`), and what is given back is where it has them, if that can change.
        """
        raise NotImplementedError(f"the backend `{self.name}` has no arrays that can be changed")

    def host_copy(self, tree: Tree) -> Tree:
        """Return an independent copy of a captured tree, every array a NumPy array in C order.

        Nothing done to the module afterwards reaches the copy. NumPy scalars become 0-d arrays.
        """
        return map_leaves(lambda _path, leaf: copied(np.asarray(leaf)) if is_array(leaf) else leaf, tree)

    def host_view(self, tree: Tree) -> Tree:
        """Return what `host_copy` does, but for whoever is done with it before anything is done to the module.

        Arrays may be the module's own memory then, and are not to be written to.
        """
        return self.host_copy(tree)

    def hold(self, value: Any) -> Any:
        """Return something that keeps the present value of an array without waiting for its device.

        What is held may be changed in place by its owner afterwards (environments reuse their buffers), so a mutable
        array is copied, on its own device and asynchronously where there is one.
        """
        try:
            return np.array(value)
        except Exception as error:
            tell_outside("Backend.hold", error)
            raise

    def fetch(self, held: Sequence[Any]) -> list[NDArray[Any]]:
        """Return held values as NumPy arrays of their own shapes, in one transfer where possible."""
        return [np.asarray(value) for value in held]

    def step_buffer(self, step: Step, capacity: int) -> StepBuffer | None:
        """Return a buffer for the steps of environments, or None to have `hold` and `fetch` keep them.

        Args:
            step: the first step, its rewards an array of this framework; all others are of the same kind.
            capacity: how many steps are added at most before they are taken, unless the buffer says otherwise.
        """
        return None

    def settings(self, module: Any) -> Mapping[str, Mapping[str, Any]]:
        """Return what a module's layers are and how they are set, which their arrays cannot tell.

        Args:
            module: a module.

        Returns:
            By the path of a layer, without the names of collections: its ``kind``, such as ``ConvTranspose2d``, and
            settings in PyTorch's words: ``eps``, ``momentum``. Empty where nothing is known.
        """
        return {}

    def scheduled(self, module: Any, steps: int) -> tuple[Tree, Sequence[float]] | None:
        """Return the state that a scheduler of rates has after so many steps, and the rate of each group then.

        None of anything else, and of a scheduler whose rates follow from more than the steps. The module is unchanged.
        """
        return None

    def outputs(self, module: Any, observations: Any) -> NDArray[Any]:
        """Return what a module makes of observations, without training it; the first of several outputs.

        Raises:
            InvalidValue: if it cannot be called.
        """
        raise InvalidValue(
            f"a {type(module).__qualname__} cannot be called to check its outputs; give the function that does it as "
            "the third element of `check`"
        )

    def random_state(self) -> Tree:
        """Return the state of the framework's own random generators, empty where it has none."""
        return {}

    def set_random_state(self, state: Tree) -> None:
        """Put back what `random_state` returned."""
        return

    def rank(self) -> int | None:
        """Return this process's rank in a distributed run, or None where the framework runs alone."""
        return None

    def exchange(self, payload: bytes, seconds: float) -> Sequence[bytes]:
        """Give every process of the distributed run what this one has, and return what each gave, by rank.

        Every process calls it as often as the others, and gets the same. It goes over the host, and is of no account
        to whatever the framework itself exchanges.

        Args:
            payload: what this process gives, of any length.
            seconds: how long the others are waited for.

        Raises:
            Exception: what the framework raises where a process is gone, or does not come in time.
        """
        if self.rank() is None:
            return [payload]
        raise NotImplementedError(f"the backend `{self.name}` cannot bring together what several processes have")

    def is_sharded(self, array: object) -> bool:
        """Say whether an array is spread over processes, so that this one may have a part of it."""
        return False

    def peers(self) -> Peers | None:
        """Return a conversation with the other processes of the run; None where this one is alone.

        All processes call it at the same point of their programs. Each call makes another one, which one thread uses.
        """
        return None

    def demo(self) -> Callable[[DemoSettings], DemoResult] | None:
        """Return the function behind ``keepfast demo --backend NAME``, or None where there is no demo."""
        return None


Difference = Literal["missing", "extra", "shape", "dtype", "kind", "value", "refused"]


REASONS: dict[Difference, str] = {
    "missing": "the file has no such entry; expected {expected}",
    "extra": "the module has no such entry; the file has {found}",
    "shape": "the module has {expected}, the file has {found}",
    "dtype": "the module has {expected}, the file has {found} (`cast=True` converts)",
    "kind": "the module has {expected}, the file has {found}",
    "value": "the module has {expected}, which cannot hold what the file has: {found}",
    "refused": "{found}",
}


@final
@dataclass(frozen=True)
class Mismatch:
    """One entry of a file that a module cannot take, as `Backend.mismatches` tells it.

    Attributes:
        path: its path within the module, "" for the module as a whole.
        status: what is wrong with it; see `Entry`.
        expected: what the module has, or needs, there.
        found: what the file has there.
    """

    path: str
    status: Difference
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        reason = REASONS[self.status].format(expected=self.expected, found=self.found)
        return f"{self.path}: {self.status}: {reason}" if self.path else f"{self.status}: {reason}"
