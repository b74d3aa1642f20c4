"""From tracked values to writers, at the write interval."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from keepfast._system.warnings import warn
from keepfast.config import ExperimentConfig
from keepfast.errors import ConfigError, InvalidValue, MissingDependency, WriterFailed
from keepfast.interfaces.writer import Writer, WriterContext
from keepfast.plugins.discovery import registry
from keepfast.plugins.lazy import lazy
from keepfast.runs.schedule import Schedule
from keepfast.tracking.episodes.autoreset import Mode, chosen
from keepfast.tracking.multi_writer import MultiWriter
from keepfast.tracking.tracker import Tracker

_FALLBACK_INTERVAL = 1000
"""Timesteps between writes where "auto" has no length of training to go by."""

_REPLACEABLE = "tensorboard"
"""The writer that a run does without where none of its libraries is installed."""

_FALLBACK_WRITER = "jsonl"
"""What stands in for it."""

_SAMPLES = 100
"""How many writes "auto" spreads over a training."""


@final
class Recorder:
    """Tracks values, and hands their statistics to the writers when that is due.

    Writers are found by name at once, so that a wrong name is told at the start; they are made at the first need, so
    that a resume can still tell them where the run goes on.

    Args:
        config: the experiment's settings.
        directory: the experiment's directory.
        agent_config: the agent's whole configuration, for writers to keep.
        enabled: whether anything is written; in a distributed run one process alone does.

    Attributes:
        enabled: whether anything is tracked and written at all.
        record: takes a step of every environment; see `EpisodeTracker.record`.
        track: takes a value; see `Tracker.track`.

    Raises:
        UnknownPlugin: if the configuration names a writer that nobody provides.
        ConfigError: if an entry of ``writers`` makes no sense.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        directory: Path,
        agent_config: Mapping[str, Any],
        *,
        enabled: bool = True,
    ) -> None:
        interval = config.write_interval
        self._first = enabled
        self.enabled = enabled and (interval == "auto" or interval > 0)
        self._config, self._directory, self.agent_config = config, directory, agent_config
        self._factories = [
            (name, options, _checked(name, options, registry().get("writer", name)))
            for name, options in config.writer_table()
        ]
        self._writer: MultiWriter | None = None
        self._writer_state: Mapping[str, Any] = {}
        self._resume_step: int | None = None
        self._tracker = tracker = Tracker()
        self.record: Callable[[Any, Any, Any, Any], None] = tracker.episodes.record if self.enabled else _ignore
        self.track: Callable[[str, Any], None] = tracker.track if self.enabled else _ignore
        self.schedule = Schedule(0)

    def set_length(self, timesteps: int | None) -> None:
        """Set the interval, given the length of the training or None."""
        self.schedule = Schedule.of(self._config.write_interval, timesteps, _SAMPLES, _FALLBACK_INTERVAL)

    def set_environment(self, env: object) -> Mode | None:
        """Return when an environment resets: as the settings say, or it itself; None where it is not known."""
        setting = self._config.autoreset
        mode = chosen(setting, env)
        self._tracker.episodes.set_autoreset(mode, by_setting=setting != "auto")
        return mode

    def reset_episodes(self, envs: Any) -> int | None:
        """Forget the running episodes of environments that were reset; return how many environments there are."""
        self._tracker.episodes.reset(envs)
        return self._tracker.episodes.num_envs

    def continues(self, environment: bool) -> bool:
        """Say whether a resume goes on with running episodes: as set, or if an environment's state came back."""
        told = "running_episodes" in self._config.model_fields_set
        return self._config.running_episodes == "continue" if told else environment

    @property
    def writer(self) -> MultiWriter:
        """Return the writers behind one, made now if they were not; also where no interval has them written to."""
        if self._writer is None:
            made = self._make_writers() if self._first else {}
            self._writer = MultiWriter(made, on_error=self._config.on_writer_error)
            self._writer.load_state_dict(self._writer_state)
        return self._writer

    def _make_writers(self) -> dict[str, Writer]:
        context = WriterContext(self._directory, self._directory.name, self.agent_config, self._resume_step)
        made: dict[str, Writer] = {}
        for name, options, factory in self._factories:
            own = dataclasses.replace(context, resume_state=self._writer_state.get(name, {}))
            made.update(self._make_writer(name, options, factory, own))
        return made

    def _make_writer(
        self,
        name: str,
        options: Mapping[str, Any],
        factory: Callable[..., Writer],
        context: WriterContext,
    ) -> dict[str, Writer]:
        try:
            return {name: _writer_of(factory(context, **options))}
        except MissingDependency as error:
            if name != _REPLACEABLE:
                raise
            warn(f"{error}; until then the run is kept by the `{_FALLBACK_WRITER}` writer")
            if any(other == _FALLBACK_WRITER for other, _, _ in self._factories):
                return {}
            return self._make_writer(_FALLBACK_WRITER, {}, registry().get("writer", _FALLBACK_WRITER), context)
        except (Exception, SystemExit) as error:
            if self._config.on_writer_error == "raise":
                raise WriterFailed(f"writer `{name}` cannot start: {error}") from error
            warn(f"writer `{name}` cannot start: {error}; the run goes on without it")
            return {}

    def write(self, step: int) -> dict[str, float]:
        """Write the statistics of the interval that ends here, and return them.

        Args:
            step: the completed timesteps.
        """
        statistics = self._tracker.statistics()
        if statistics:
            self.writer.write_scalars(statistics, step, time.time())
        return statistics

    @property
    def pending(self) -> bool:
        """Say whether anything was tracked since the last write."""
        return self.enabled and self._tracker.pending

    @property
    def episodes(self) -> int:
        """Return how many episodes ended in the interval written last."""
        return self._tracker.episodes.ended_in_last_interval

    def state_dict(self) -> dict[str, Any]:
        """Return the interval so far and what each writer needs, as a tree."""
        writers = self._writer_state if self._writer is None else self._writer.state_dict()
        return {"tracker": self._tracker.state_dict(), "writers": writers}

    def resume(self, state: Mapping[str, Any] | None, step: int, *, running_episodes: bool = False) -> None:
        """Go on from a timestep: what was written beyond it is void.

        Args:
            state: what `state_dict` returned then, or None where nothing is known of it.
            step: the completed timesteps.
            running_episodes: whether to go on with the episodes that were running.
        """
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._resume_step = step
        if state is not None:
            self._tracker.load_state_dict(state["tracker"], running_episodes=running_episodes)
            self._writer_state = state["writers"]

    def settle(self, patience: float) -> None:
        """Return when every healthy writer keeps what was written; see `MultiWriter.settle`."""
        if (writer := self._writer) is not None:
            writer.settle(patience)

    def flush(self) -> None:
        """Return when what was written is where the writers keep it."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the writers, and tell how many values were not finite."""
        self._tracker.tell_tally()
        if self._writer is not None:
            self._writer.close()


def _ignore(*_given: Any) -> None:
    """Take what is not written: on another rank than the first, and where the write interval is 0."""


def _writer_of(made: object) -> Writer:
    if isinstance(made, Writer):
        return made
    raise InvalidValue(f"its factory returned {made!r:.80} ({type(made).__name__}); allowed: a `keepfast.Writer`")


def _checked(name: str, options: Mapping[str, Any], factory: Callable[..., Writer]) -> Callable[..., Writer]:
    """Return a writer's factory, once it is known to take its options.

    Raises:
        MissingDependency: if a package that it needs is not installed, and nothing stands in for it.
        ConfigError: if it takes no such options; lists those it takes.
    """
    if name == _REPLACEABLE and isinstance(factory, lazy) and factory.missing():
        return factory  # told when it is made, and replaced
    target = factory.resolve() if isinstance(factory, lazy) else factory
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # a callable that does not tell
        return factory
    try:
        signature.bind(None, **options)
    except TypeError as error:
        allowed = ", ".join(list(signature.parameters)[1:]) or "none"
        raise ConfigError(f"the writer `{name}` does not take {dict(options)}: {error}; options: {allowed}") from None
    return factory
