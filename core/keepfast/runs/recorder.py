"""From tracked values to writers, at the write interval."""

from __future__ import annotations

import inspect
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._arrays import scalar
from keepfast._system.arguments.forms import mapping_of
from keepfast._system.disk.directories import make_directory
from keepfast._system.finishing import finish
from keepfast._system.tally import Tally
from keepfast._system.warnings import Afterwards, warn
from keepfast.config import ExperimentConfig, masked
from keepfast.errors import ConfigError, InvalidValue, MissingDependency, WriterFailed, as_given
from keepfast.interfaces.summary.checks import mapping, string
from keepfast.interfaces.writer import Writer, WriterContext
from keepfast.plugins.discovery import registry
from keepfast.plugins.lazy import lazy
from keepfast.runs.loops.seeds import SEEDS, Seeds
from keepfast.runs.processes.exchange import Exchange
from keepfast.runs.schedule import Schedule
from keepfast.tracking.episodes.autoreset import Mode, chosen
from keepfast.tracking.interval import Interval
from keepfast.tracking.multi_writer import MultiWriter
from keepfast.tracking.resources import Resources
from keepfast.tracking.statistic import Statistic
from keepfast.tracking.tracker import Tracker
from keepfast.tracking.unstarted import Unstarted

_FALLBACK_INTERVAL = 1000
"""Timesteps between writes where "auto" has no length of training to go by."""

_REPLACEABLE = "tensorboard"
"""The writer that a run does without where none of its libraries is installed."""

_FALLBACK_WRITER = "jsonl"
"""What stands in for it."""

_OF_THE_USER_TOO = "wandb"
"""The writer whose run the user's own code may log to, whether or not there is an interval to write at."""

_SETTLE_SECONDS = 5.0
"""How long a checkpoint waits, behind training, for the writers to have what was written before it."""

_SEEDS_OF_RANKS = (
    'with `distributed_metrics` = "mean", several seeds in one compiled loop are written as those of rank 0; what else '
    "is tracked is that of all ranks"
)

_SAMPLES = 100
"""How many writes "auto" spreads over a training."""


@final
class Recorder:
    """Tracks values, and hands their statistics to the writers when that is due.

    Writers are found by name at once, so that a wrong name is told at the start. They are made by `open`, by `resume`,
    which can tell them where the run goes on, or else at the first need. One that cannot start is tried again.

    Args:
        config: the experiment's settings.
        directory: the experiment's directory.
        agent_config: the agent's whole configuration, for writers to keep.
        enabled: whether anything is written; in a distributed run one process alone does.

    Attributes:
        enabled: whether anything is tracked at all.
        exchange: brings together what all processes tracked, where their values are written; else None.
        written_at: the completed timesteps at the last write, or None.
        artifacts: which files each writer gets, by its name.
        writer: the writers behind one, which stays the same as long as this does; also where no interval has them
            written to.
        record: takes a step of every environment; see `EpisodeTracker.record`.
        track: takes a value; see `Tracker.track`.
        environment: the environment, or None where nobody told it.
        was_reset: whether environments were reset in mid-run since a compiled loop last asked.

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
        is_shared = config.distributed_metrics == "mean"
        self.exchange = Exchange(config, lambda: self._directory) if is_shared else None
        self.enabled = (enabled or is_shared) and (interval == "auto" or interval > 0)
        self.written_at: int | None = None
        self._config, self._directory, self.agent_config = config, directory, agent_config
        self.artifacts = config.artifact_table()
        self._factories = [
            (name, options, _checked(name, options, registry().get("writer", name)))
            for name, options in config.writer_table()
        ]
        self.writer = self._writers_in(lambda: self._directory, lambda: self._writer_state)
        self.writer.log_dir = str(directory)
        self._writer_state: Mapping[str, Any] = {}
        self._resume_step: int | None = None
        self._resumed: bytes | None = None
        self._opened: set[Path] = set()
        self._nonfinite, self._seeds_of_ranks = Tally(), Tally()
        self._tracker = tracker = Tracker(self._nonfinite)
        self._seeds: Seeds | None = None
        self.was_reset = False
        self.environment: object = None
        self.record: Callable[[Any, Any, Any, Any], None] = tracker.episodes.record if self.enabled else _ignore
        self.track: Callable[[str, Any], None] = tracker.track if self.enabled else _ignore
        self._resources = Resources() if config.system_metrics and self.enabled else None
        self.schedule = Schedule(0)

    def move(self, directory: Path, *, vain: bool) -> None:
        """Have the writers close, and go on in another directory once they are needed.

        Args:
            directory: the other directory.
            vain: whether nothing was written in this one, so that they take back that they began.
        """
        self._directory = directory
        self.writer.log_dir = str(directory)
        self.writer.reopen(self.writer.state_dict(), vain=vain)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Have writers that are yet to be made told another configuration.

        Raises:
            ConfigError: if it is no mapping, or contains itself.
        """
        if mapping_of(config) is None:
            raise ConfigError(f"the configuration is {as_given(config)}; allowed: a mapping")
        self.agent_config = masked(config)

    def set_length(self, timesteps: int | None) -> None:
        """Set the interval, given the length of the training or None."""
        self.schedule = Schedule.of(self._config.write_interval, timesteps, _SAMPLES, _FALLBACK_INTERVAL)

    def set_environment(self, env: object) -> Mode | None:
        """Return when an environment resets: as the settings say, or it itself; None where it is not known."""
        self.environment = env
        setting = self._config.autoreset
        mode = chosen(setting, env)
        self._tracker.episodes.set_autoreset(mode, by_setting=setting != "auto")
        return mode

    def reset_episodes(self, envs: Any) -> int | None:
        """Forget the running episodes of environments that were reset; return how many environments there are."""
        self._tracker.episodes.reset(envs)
        self.was_reset = True
        return self._tracker.episodes.num_envs

    def continues(self, environment: bool) -> bool:
        """Say whether a resume goes on with running episodes: as set, or if an environment's state came back."""
        told = "running_episodes" in self._config.model_fields_set
        return self._config.running_episodes == "continue" if told else environment

    def open(self) -> None:
        """Make the writers, where there is something for them to do: no interval is 0, or wandb is to have its run.

        Raises:
            WriterFailed: with ``on_writer_error="raise"``, if one of them cannot start.
        """
        if self.enabled or any(name == _OF_THE_USER_TOO for name, _, _ in self._factories):
            self.writer.open()

    def stand_aside(self) -> None:
        """Write nothing from now on, and remove what the writers made when they were opened."""
        self._first = False
        if self.exchange is None:
            self.enabled = False
            self.record, self.track = _ignore, _ignore
        self.writer.mute()
        for path in self._opened:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _writers_in(self, directory: Callable[[], Path], states: Callable[[], Mapping[str, Any]]) -> MultiWriter:
        """Return the writers behind one, who are to write in a directory and have states, as they are then."""
        return MultiWriter.opened_by(lambda: self._make_writers(directory(), states()), self._config.on_writer_error)

    def _make_writers(self, directory: Path, states: Mapping[str, Any]) -> dict[str, Writer | Unstarted]:
        if not self._first:
            return {}
        before = set(directory.iterdir()) if directory.exists() else set()
        made = self._make_each(directory, states)
        self._opened |= (set(directory.iterdir()) if directory.exists() else set()) - before
        return made

    def _make_each(self, directory: Path, states: Mapping[str, Any]) -> dict[str, Writer | Unstarted]:
        made: dict[str, Writer | Unstarted] = {}
        try:
            for name, options, factory in self._factories:
                made.update(self._make_writer(name, options, factory, directory, states.get(name)))
        except BaseException as error:
            writers = [writer for writer in made.values() if isinstance(writer, Writer)]
            finish(*(writer.close for writer in reversed(writers)), after=error)
            raise
        return made

    def _make_writer(
        self,
        name: str,
        options: Mapping[str, Any],
        factory: Callable[..., Writer],
        directory: Path,
        state: Mapping[str, Any] | None,
    ) -> dict[str, Writer | Unstarted]:
        context = WriterContext(
            directory, directory.name, self.agent_config, self._resume_step, {} if state is None else state
        )
        try:
            return {name: _writer_of(factory(context, **options))}
        except MissingDependency as error:
            if name != _REPLACEABLE:
                raise
            warn(f"{error}; until then the run is kept by the `{_FALLBACK_WRITER}` writer")
            if any(other == _FALLBACK_WRITER for other, _, _ in self._factories):
                return {}
            return self._make_writer(_FALLBACK_WRITER, {}, registry().get("writer", _FALLBACK_WRITER), directory, state)
        except (Exception, SystemExit) as error:
            if self._config.on_writer_error == "raise":
                raise WriterFailed(f"writer `{name}` cannot start: {error}") from error
            return {name: Unstarted(partial(_started_late, factory, context, options, state), error)}

    def track_interval(self, *seeds: Interval) -> None:
        """Track what was added up elsewhere: one interval, or one for each of several seeds.

        Raises:
            UsageError: if there are not as many seeds as before.
        """
        if not self.enabled:
            return
        if len(seeds) == 1 and self._seeds is None:
            self._tracker.merge(seeds[0])
        else:
            self._seeds = self._seeds or self._make_seeds(len(seeds))
            self._seeds.track(seeds)

    def _make_seeds(self, count: int, states: Sequence[Mapping[str, Any]] = ()) -> Seeds:
        """Return the trackers of so many seeds, with writers where each is a run of its own."""

        def writer(number: int) -> MultiWriter:
            directory = self._directory / SEEDS / str(number)
            make_directory(directory)
            made = self._writers_in(lambda: directory, lambda: states[number] if states else {})
            made.open()
            return made

        own = [writer(number) for number in range(count)] if self._config.seeds != "mean" else []
        return Seeds([Tracker(self._nonfinite) for _ in range(count)], own)

    @property
    def is_shared(self) -> bool:
        """Say whether a write brings together what all processes of a distributed run tracked."""
        return self.enabled and self.exchange is not None and self.exchange.is_on

    def write(self, step: int, *, alone: bool = False) -> dict[str, float]:
        """Write the statistics of the interval that ends here, and return them.

        Args:
            step: the completed timesteps.
            alone: whether to write what this process tracked, whatever the others did.
        """
        with Afterwards():
            self.written_at = step
            shares = None if alone or not self.is_shared else self._shares(step)
            statistics, now = self._tracker.statistics() if shares is None else self._joined(shares), time.time()
            if statistics and shares is None and not alone and self.exchange is not None:
                self.exchange.tell_missing("the values that are written are those")
            if statistics and shares is None and self._resources is not None:
                statistics |= self._resources.measure()
            over_seeds = {} if self._seeds is None else self._seeds.write(step, now)
            if (statistics or over_seeds) and self._resources is not None:
                statistics |= self._resources.measure()
            written = statistics if self._config.seeds == "each" else {**statistics, **over_seeds}
            if written:
                self.writer.write_scalars(written, step, now)
        return {**statistics, **over_seeds}

    def _shares(self, step: int) -> list[dict[str, Any]]:
        """Return what each process tracked, by rank; what this one did alone, where the others are gone."""
        own = self._tracker.share()
        if (
            own["statistics"] or any(episodes["count"] for _, episodes in own["episodes"])
        ) and self._resources is not None:
            measured = {tag: Statistic(1, value, value, value) for tag, value in self._resources.measure().items()}
            own["statistics"] |= {tag: statistic.state() for tag, statistic in measured.items()}
        together = None if self.exchange is None else self.exchange.together("a write", step, own)
        return ([own] if self._first else []) if together is None else together

    def _joined(self, shares: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        if self._seeds is not None and len(shares) > 1:
            self._seeds_of_ranks.count("seeds")
            self._seeds_of_ranks.tell(lambda _name, _count: _SEEDS_OF_RANKS)
        return self._tracker.joined(shares, tells=self._first)

    def log(self, values: Mapping[str, Any], step: int) -> dict[str, float]:
        """Write values at once, and return them by tag.

        Args:
            values: numbers by tag, or mappings of such.
            step: the completed timesteps.
        """
        written = {tag: scalar(value, tag) for tag, value in _flat(mapping(values, "values"))}
        if self._first and written:
            self.writer.write_scalars(written, step, time.time())
        return written

    @property
    def pending(self) -> bool:
        """Say whether anything was tracked since the last write."""
        return self.enabled and (self._tracker.pending or (self._seeds is not None and self._seeds.pending))

    @property
    def is_as_resumed(self) -> bool:
        """Say whether the interval is the one that a resume found, to which nothing was added."""
        return self._resumed is not None and self._resumed == self._interval()

    def _interval(self) -> bytes:
        seeds = [] if self._seeds is None else self._seeds.state_dict()["trackers"]
        return pickle.dumps([self._tracker.state_dict(), seeds])

    @property
    def episodes(self) -> int:
        """Return how many episodes ended in the interval written last."""
        ended = self._tracker.episodes.ended_in_last_interval
        return ended if self._seeds is None else ended + self._seeds.episodes

    def state_dict(self) -> dict[str, Any]:
        """Return the interval so far and what each writer needs, as a tree."""
        seeds = {} if self._seeds is None else {"seeds": self._seeds.state_dict()}
        return {"tracker": self._tracker.state_dict(), "writers": self.writer.state_dict(), **seeds}

    def resume(self, state: Mapping[str, Any] | None, step: int, *, running_episodes: bool = False) -> None:
        """Go on from a timestep: what was written beyond it is void.

        Args:
            state: what `state_dict` returned then, or None where nothing is known of it. Without ``"writers"``, as of
                another run, the writers keep the state they have.
            step: the completed timesteps.
            running_episodes: whether to go on with the episodes that were running.
        """
        self._resume_step = step
        if state is not None:
            self._tracker.load_state_dict(state["tracker"], running_episodes=running_episodes)
        stored = (state or {}).get("writers")
        self._writer_state = self.writer.state_dict() if stored is None else stored
        self.writer.reopen(self._writer_state)
        self._resume_seeds((state or {}).get("seeds"), own=stored is not None)
        self._resumed = self._interval()
        self.open()

    def _resume_seeds(self, state: Mapping[str, Any] | None, *, own: bool) -> None:
        if self._seeds is not None:
            finish(*(writer.close for writer in self._seeds.writers))
        self._seeds = None
        if state is not None:
            self._seeds = self._make_seeds(len(state["trackers"]), state["writers"] if own else ())
            self._seeds.load_state_dict(state)

    def remember(self) -> Callable[[], None]:
        """Return what undoes a `resume`, as far as that is in the hands of no writer."""
        step, states, tracked = self._resume_step, self._writer_state, self._tracker.state_dict()
        resumed = self._resumed

        def back() -> None:
            self._resume_step, self._writer_state, self._resumed = step, states, resumed
            self._tracker.load_state_dict(tracked)

        return back

    def settle(self, patience: float = _SETTLE_SECONDS) -> None:
        """Return when every healthy writer keeps what was written; see `MultiWriter.settle`."""
        for writer in self._all_writers():
            writer.settle(patience)

    def flush(self) -> None:
        """Return when what was written is where the writers keep it."""
        finish(*(writer.flush for writer in self._all_writers()))

    def close(self) -> None:
        """Close the writers, and tell how many values were not finite."""
        self._tracker.tell_tally()
        finish(*(writer.close for writer in self._all_writers()))

    def _all_writers(self) -> list[MultiWriter]:
        return [self.writer, *(() if self._seeds is None else self._seeds.writers)]


_DEEPEST = 100
"""How many mappings within each other are taken for tags: one that contains itself has no end."""


def _flat(values: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield values by tag, those of mappings within by tags that are joined."""
    if depth > _DEEPEST:
        raise InvalidValue(f"`values` are nested more than {_DEEPEST} deep, or contain themselves; see `{above:.60}`")
    for key, value in values.items():
        tag = f"{above}{string(key, 'tag')}"
        if isinstance(value, Mapping):
            yield from _flat(mapping(value, tag), f"{tag}/", depth + 1)
        else:
            yield tag, value


def _ignore(*_given: Any) -> None:
    """Take what is not written: on another rank than the first, and where the write interval is 0."""


def _started_late(
    factory: Callable[..., Writer],
    context: WriterContext,
    options: Mapping[str, Any],
    state: Mapping[str, Any] | None,
) -> Writer:
    """Return a writer that could not start before, with its state."""
    writer = _writer_of(factory(context, **options))
    if state is not None:
        writer.load_state_dict(state)
    return writer


def _writer_of(made: object) -> Writer:
    if isinstance(made, Writer):
        return made
    raise InvalidValue(f"its factory returned {as_given(made)} ({type(made).__name__}); allowed: a `keepfast.Writer`")


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


def check_tracked(state: Mapping[str, Any]) -> None:
    """Check what `Recorder.state_dict` returned, by having a tracker of its own take it.

    Raises:
        Exception: whatever that raises at it.
    """
    for tracked in (state["tracker"], *state.get("seeds", {"trackers": ()})["trackers"]):
        Tracker().load_state_dict(tracked)
    if not isinstance(state.get("writers", {}), Mapping):
        raise InvalidValue(f"`recorder.writers` is {as_given(state['writers'])}; allowed: a mapping")
