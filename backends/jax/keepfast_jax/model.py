"""Model: a flax.linen module together with its variables."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, final

import flax.linen
import jax
import jax.numpy as jnp

import keepfast
from keepfast._system.arguments.guarding import guarded_calls
from keepfast.migration.saving import space_size
from keepfast.modules.single import read_single
from keepfast.tree import Tree, map_leaves
from keepfast_jax.device import parse_device


class Keeping(keepfast.Saving):
    """Gives what has `variables` the calls `save` and `load`.

    Attributes:
        variables: the variables by collection, as ``module.init`` returns them: ``{"params": ...}``.
    """

    variables: Any

    @property
    @abc.abstractmethod
    def linen(self) -> flax.linen.Module:
        """Return the linen module that the variables are of."""


@guarded_calls("__init__")
@final
class HeldModel(Keeping):
    """Holds a flax.linen module and its variables; what `Model` makes of them.

    Attributes:
        module: the linen module, which has no state of its own.
        variables: its variables by collection, as ``module.init`` returns them: ``{"params": ...}``.
    """

    def __init__(self, module: flax.linen.Module, variables: Mapping[str, Any]) -> None:
        self.module = module
        self.variables = variables

    @property
    def linen(self) -> flax.linen.Module:
        """Return the linen module that the variables are of."""
        return self.module

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with the present variables.

        Args:
            *args: what the module's ``__call__``, or the ``method`` named, takes.
            **kwargs: the same, and what ``module.apply`` takes beside it: ``mutable``, ``rngs``, ``method``.

        Returns:
            What ``module.apply`` returns; with ``mutable``, also the collections that changed, which are not kept here.
        """
        return self.module.apply(self.variables, *args, **kwargs)


@guarded_calls()
class _OwnVariables(Keeping, abc.ABC):
    """Gives a linen module, which is frozen, variables of its own."""

    observation_space: Any
    action_space: Any
    device: Any

    @property
    def linen(self) -> flax.linen.Module:
        """Return the model itself."""
        return cast("flax.linen.Module", self)

    @property
    def variables(self) -> Any:
        """Return the variables, or None where there are none yet."""
        return self.__dict__.get("_variables")

    @variables.setter
    def variables(self, variables: Any) -> None:
        object.__setattr__(self, "_variables", variables)

    @property
    def num_observations(self) -> int | None:
        """Return the number of elements of an observation, or None where no space is given."""
        return space_size(self.observation_space)

    @property
    def num_actions(self) -> int | None:
        """Return the number of elements of an action, or None where no space is given."""
        return space_size(self.action_space)

    def init_variables(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the variables, as ``module.init`` does with these arguments, on the model's device.

        Returns:
            The variables.
        """
        module: Any = self
        self.variables = jax.device_put(module.init(key, *args, **kwargs), parse_device(self.device))
        return self.variables

    def load(
        self,
        path: str | Path,
        device: Any = None,
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> keepfast.LoadReport:
        """Load the variables from a file, onto the device of the constructor; see `keepfast.load`.

        A model that has none yet takes the file's as they are.
        """
        device = self.device if device is None else device
        if self.variables is None:
            self.variables = _on_device(read_single(path, modules).state, device)
        return super().load(path, device, modules=modules, strict=strict, cast=cast, rename=rename)


def _on_device(state: Tree, device: Any) -> Any:
    place = parse_device(device)
    return map_leaves(lambda _path, leaf: jnp.asarray(leaf, device=place), state)


@guarded_calls("__init__")
class Model(_OwnVariables, flax.linen.Module):
    """A flax.linen module that keeps its variables, so that they can be called, saved and loaded as one.

    Keepfast takes it wherever it takes a module. What travels are the variables; a restore gives `variables` a new
    value, and a training step does the same. The `device` of `load` is a ``jax.Device``, a ``jax.sharding.Sharding`` or
    a name such as ``"cuda:1"``, for all arrays.

    It is used in two ways. ``Model(module, variables)`` holds a module of any class beside its variables, and calls it:
    see `HeldModel`. A class that derives from it is a linen module itself, with the variables in it.

    Args:
        observation_space: the space of observations, or its size; None where the class needs none.
        action_space: the space of actions, or its size.
        device: where a load and `init_variables` put arrays; None is the framework's default.
        **linen: what linen gives its modules: ``parent`` and ``name``.

    Raises:
        InvalidValue: if there is no such device.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> module = nn.Dense(2)
        >>> model = Model(module, module.init(jax.random.key(0), jnp.zeros((1, 3))))
        >>> model.apply(jnp.zeros((5, 3))).shape
        (5, 2)
        >>> class Policy(Model):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(self.num_actions)(x)
        >>> policy = Policy(3, 2)
        >>> variables = policy.init_variables(jax.random.key(0), jnp.zeros((1, policy.num_observations)))
        >>> policy.apply(policy.variables, jnp.zeros((5, 3))).shape
        (5, 2)
    """

    observation_space: Any = None
    action_space: Any = None
    device: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a holder where the class itself is given a module and its variables."""
        if cls is Model:
            return HeldModel(*args, **kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        observation_space: Any = None,
        action_space: Any = None,
        device: Any = None,
        **linen: Any,
    ) -> None:
        parse_device(device)
        self.observation_space, self.action_space, self.device = observation_space, action_space, device
        fields = type(self).__dataclass_fields__
        self.parent = linen.pop("parent", fields["parent"].default)
        self.name = linen.pop("name", None)
        if linen:
            raise keepfast.InvalidValue(
                f"a model was given {', '.join(f'`{key}`' for key in linen)}; allowed: observation_space, "
                "action_space, device, and linen's parent and name"
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have a constructor of the class's own complete what linen does behind the ones that it writes."""
        made = cls.__dict__.get("__init__")
        super().__init_subclass__(**kwargs)
        if made is not None:
            cls.__init__ = _completed(made)  # type: ignore[method-assign]


def _completed(make: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that ends as linen's own do, unless it did so itself."""

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if "_id" not in self.__dict__ and type(self).__init__ is init:
            self.__post_init__()

    return init
