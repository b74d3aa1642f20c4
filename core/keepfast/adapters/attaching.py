"""Attaching: finds the adapter of an agent of another library, and starts an experiment for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, final

from keepfast._system.arguments.guarding import guarded
from keepfast._system.finishing import finish
from keepfast.config import LEVEL, ExperimentConfig, Source, agent_settings
from keepfast.errors import InvalidValue, PluginConflict, UnsupportedModule, UsageError, as_given
from keepfast.experiment import Experiment
from keepfast.interfaces.adapter import Adapter
from keepfast.plugins.discovery import Provided, registry
from keepfast.runs.in_vain import idle_settings


@guarded
def attach(
    agent: Any, cfg: Source = None, *, env: object = None, timesteps: int | None = None, adapter: str | None = None
) -> Experiment:
    """Give an agent of another library an experiment: its metrics, checkpoints and memories are kept from now on.

    The agent stays what it is, of its own class, in its library's own trainer, and computes what it would compute
    without. `Experiment.resume` goes on with an earlier run, and `Experiment.close` lets the agent go.

    Args:
        agent: the agent, before its training begins.
        cfg: the experiment's settings, in any form that `ExperimentConfig` takes; they win over those that the agent's
            own configuration has for the same.
        env: the environment that the agent trains in, which tells when it resets, and whose state checkpoints hold
            where the adapter can keep it.
        timesteps: the length of the training, where the library does not tell it.
        adapter: the name of the adapter, where several know the agent.

    Returns:
        The experiment, whose calls are all there.

    Raises:
        UnsupportedModule: if no adapter knows the agent; tells which there are.
        UsageError: if the agent has an experiment already.
        ConfigError: if a setting is wrong.
        DirectoryError: if the run's directory cannot be written in, or another experiment owns it.

    Example::

        experiment = keepfast.attach(agent, {"directory": "runs", "writers": ["tensorboard", "jsonl"]})
        trainer.train()
    """
    known = _adapter_of(agent, adapter)
    if (other := _attached.experiment_of(agent)) is not None:
        raise UsageError(f"this agent is attached to {other!r}; close that one first, or use it")
    experiment = Experiment(
        _configuration(known, agent, cfg),
        name=known.name(agent),
        timesteps=timesteps,
        env=env,
        device=known.device(agent),
    )
    try:
        experiment.when_closed(known.attach(agent, experiment, env))
    except BaseException as error:
        finish(experiment.close, after=error)
        raise
    _attached.add(agent, experiment)
    return experiment


def _configuration(adapter: Adapter, agent: Any, cfg: Source) -> dict[str, Any]:
    """Return the agent's own configuration with the experiment's settings, those that users gave before its own.

    What the agent's own has in vain beside theirs is left away: they did not ask for it.
    """
    own = dict(adapter.configuration(agent))
    config, others = agent_settings(cfg)
    given = config.model_dump(exclude_unset=True)
    settings = {**ExperimentConfig(own.pop(LEVEL, {})).model_dump(exclude_unset=True), **given}
    vain = idle_settings(ExperimentConfig(settings)).keys() - given.keys()
    kept = {name: value for name, value in settings.items() if name not in vain}
    return {**own, **others, LEVEL: ExperimentConfig(kept)}


def _adapter_of(agent: Any, name: str | None) -> Adapter:
    """Return the adapter that knows an agent, or the one of a name.

    Raises:
        UnsupportedModule: if none does.
        PluginConflict: if several do, and none is named.
        UnknownPlugin: if nobody provides the one that is named.
    """
    if name is not None:
        named: Adapter = registry().get("adapter", name)()
        if not named.recognizes(agent):
            raise InvalidValue(f"the adapter `{name}` is of {named.library}, and does not know {_told(agent)}")
        return named
    knowing = [(each, made) for each in registry().provided("adapter") if (made := _asked(each, agent)) is not None]
    if not knowing:
        raise _unknown(agent)
    if len(knowing) > 1:
        names = " and ".join(f"`{each.name}` of {each.distribution}" for each, _ in knowing)
        raise PluginConflict(f"the adapters {names} know {_told(agent)}; give one, as `adapter={knowing[0][0].name!r}`")
    return knowing[0][1]


def _asked(provided: Provided, agent: Any) -> Adapter | None:
    """Return an adapter that is ready and knows an agent, else None."""
    made: Adapter | None = registry().make(provided)
    return made if made is not None and made.recognizes(agent) else None


def _told(agent: Any) -> str:
    return f"a `{type(agent).__module__}.{type(agent).__qualname__}`"


def _unknown(agent: Any) -> UnsupportedModule:
    names = ", ".join(registry().names("adapter")) or "none"
    failed = "".join(f"\n{broken}" for broken in registry().broken)
    if isinstance(agent, type):
        return UnsupportedModule(f"{as_given(agent)} is a class; give the agent that you made of it{failed}")
    return UnsupportedModule(
        f"no adapter knows {_told(agent)}; there are adapters of: {names}. For a loop of your own there is "
        f"`keepfast.Experiment`, and for an agent of your own class `keepfast.Agent`{failed}"
    )


@final
class _Attached:
    """Which agents have an experiment; it keeps none of them alive."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Callable[[], Any], Callable[[], Experiment | None]]] = {}

    def experiment_of(self, agent: Any) -> Experiment | None:
        """Return the experiment of an agent that is not closed, or None."""
        held, of = self._held.get(id(agent), (lambda: None, lambda: None))
        return of() if held() is agent else None

    def add(self, agent: Any, experiment: Experiment) -> None:
        """Take note of an agent's experiment, until that is closed or one of them is gone."""
        forget = partial(self._held.pop, id(agent), None)
        try:
            reference: Callable[[], Any] = weakref.ref(agent, lambda _: forget())
        except TypeError:  # of a class that allows no such references; it is held until the experiment is closed
            reference = partial(lambda held: held, agent)
        self._held[id(agent)] = reference, weakref.ref(experiment)
        experiment.when_closed(forget)


_attached = _Attached()
