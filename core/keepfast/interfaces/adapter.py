"""Adapter: what gives the agents of another library an experiment."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class Adapter(abc.ABC):
    """Gives the agents of another library an experiment: what they track, what checkpoints hold, which steps are over.

    It changes the one object that it is given, neither its class nor the library, and what the agent computes is what
    it would compute without. It knows the agent by its class's name, so that nobody's library is imported for it. The
    smallest complete adapter::

        class ExampleAdapter(keepfast.Adapter):
            library = "example"

            def recognizes(self, agent):
                return keepfast.adapters.descends(agent, "example.agents.Agent")

            def attach(self, agent, experiment, env=None):
                experiment.register(network=agent.network, optimizer=agent.optimizer)
                agent.callbacks.append(experiment.step)
                return lambda: agent.callbacks.remove(experiment.step)

    Registered by a plugin: ``keepfast_adapters`` returns ``{"example": ExampleAdapter}``, and `keepfast.attach` finds
    it. `keepfast.testing.AdapterContract` proves it.
    """

    library: ClassVar[str]
    """The library whose agents it knows."""

    @abc.abstractmethod
    def recognizes(self, agent: object) -> bool:
        """Say whether an object is one of the library's agents; never raises, and imports nothing."""

    @abc.abstractmethod
    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        """Have an experiment keep what an agent produces from now on.

        Args:
            agent: what `recognizes` said yes to.
            experiment: the `keepfast.Experiment`, at its beginning: nothing is registered, and nothing resumed.
            env: the environment that the agent trains in, where the user gave it; the experiment knows it already.

        Returns:
            What lets the agent go as it was before; called when the experiment is closed.

        Raises:
            KeepfastError: if the agent is not in a state that an experiment can begin with; nothing was changed then.
        """

    def name(self, agent: Any) -> str:
        """Return the agent's name, which a run's directory ends with; the name of its class."""
        return type(agent).__name__

    def configuration(self, agent: Any) -> Mapping[str, Any]:
        """Return the agent's own configuration for ``config.json``; nothing, unless the adapter says more.

        Under ``"experiment"`` it may have settings of `keepfast.ExperimentConfig`; what users give wins over them.
        """
        return {}

    def device(self, agent: Any) -> Any:
        """Return where a resume puts what it restores; None leaves each where it is."""
        return None


def descends(agent: object, *classes: str) -> bool:
    """Say whether an object is of a class, or of one derived from it, by the class's name alone.

    Args:
        agent: any object.
        classes: the full names of classes, ``"skrl.agents.torch.base.Agent"`` for example; one of them is enough.

    Example:
        >>> descends(True, "builtins.int")
        True
    """
    return any(f"{each.__module__}.{each.__qualname__}" in classes for each in type(agent).__mro__)
