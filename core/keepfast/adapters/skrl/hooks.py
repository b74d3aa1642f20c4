"""Hooks: calls of ours before an agent's own, on the one object that is attached."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from keepfast.adapters.skrl.environment import WrappedEnvironment
from keepfast.adapters.skrl.memory import MemoryState
from keepfast.config import LEVEL
from keepfast.experiment import Experiment
from keepfast.plugins.backends import in_use
from keepfast.runs.random_state import capture_random_state, restore_random_state

if TYPE_CHECKING:
    from keepfast.adapters.skrl.state import AgentState

METHODS = (
    *("init", "pre_interaction", "act", "record_transition", "post_interaction"),
    *("track_data", "write_tracking_data", "write_checkpoint"),
)
"""The calls of an agent that there are others for while it is attached."""


@final
class Hooks:
    """Has an experiment keep what an agent produces: each of `METHODS` stands on the agent in its own one's place.

    The agent's own tracking is off, and so are its own checkpoints. `write_interval` is 1 all the same, for agents
    compute what they track only where it is above 0, and base classes then tell of the end of each timestep, also where
    a trainer calls them past the agent.

    Args:
        agent: the agent.
        experiment: its experiment.
        environment: the state of its environment, where that is kept.
        memories: its memories.

    Attributes:
        pass_start: where in the experiment's count of timesteps the agent's own began, from 0, in the present pass.
    """

    def __init__(
        self,
        agent: Any,
        experiment: Experiment,
        environment: WrappedEnvironment | None,
        memories: Iterable[MemoryState],
    ) -> None:
        self._agent, self._experiment, self._environment = agent, experiment, environment
        self._memories = list(memories)
        self._calls: dict[str, Callable[..., Any]] = {name: getattr(agent, name) for name in METHODS}
        self._before = {name: vars(agent)[name] for name in (*METHODS, *_SETTINGS) if name in vars(agent)}
        self._last: int | None = None
        self._resumed: object = None
        self._is_within = False
        self._offset = self._shift = 0
        self.pass_start = 0
        self._writes = 1

    def install(self, state: AgentState) -> None:
        """Put the calls on the agent, and take its writer's place."""
        self._state = state
        agent = self._agent
        writer = vars(agent).get("writer")
        if hasattr(writer, "close"):  # of an `init` before; it has nothing in it
            writer.close()
        for name in METHODS:
            setattr(agent, name, self._experiment.track_data if name == "track_data" else getattr(self, name))
        agent.experiment_dir = str(self._experiment.directory)
        self._take_over()
        agent.write_interval = 0  # until its `init` is over, that it opens nothing

    def remove(self) -> None:
        """Let the agent have its own calls and settings again."""
        for name in (*METHODS, *_SETTINGS):
            if name in self._before:
                setattr(self._agent, name, self._before[name])
            else:
                vars(self._agent).pop(name, None)

    def _take_over(self) -> None:
        self._agent.write_interval, self._agent.checkpoint_interval = self._writes, 0
        self._agent.writer = _Writer(self._experiment)

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Initialize the agent, without the writer, the directories and the run of Weights & Biases that it makes."""
        self._agent.write_interval = self._agent.checkpoint_interval = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(_without_wandb(self._agent))
            if self._resumed is not self._experiment.resumed:
                stack.enter_context(self._kept())
            result = self._calls["init"](*args, **kwargs)
        self._take_over()
        self._state.begin()
        return result

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what a resume before the `init` restored: some agents draw there, and fill memories of their own."""
        backends = [backend for name in ("torch", "jax") if (backend := in_use(name)) is not None]
        states = [(memory, memory.copied()) for memory in self._memories]
        random = capture_random_state(backends)
        yield
        restore_random_state(random, backends)
        for memory, state in states:
            memory.load_state_dict(state)

    def pre_interaction(self, timestep: int, timesteps: int) -> Any:
        """Begin a timestep, and with the first one a training or an evaluation."""
        if self._last is None or timestep <= self._last or self._resumed is not self._experiment.resumed:
            self._begin_pass(timestep, timesteps)
        self._last = timestep
        return self._calls["pre_interaction"](timestep=timestep + self._offset, timesteps=timesteps + self._offset)

    def _begin_pass(self, timestep: int, timesteps: int) -> None:
        """Count on from what is complete; where that comes of a checkpoint, the agent counts on as well.

        A trainer whose timesteps begin at what is complete is left as it is, and one that begins at 0 goes on.
        """
        experiment = self._experiment
        self._state.begin()
        is_resumed = self._resumed is not experiment.resumed
        self._resumed = experiment.resumed
        completed = experiment.completed
        self._offset = completed - self.pass_start - timestep if is_resumed else 0
        self._shift = completed - timestep
        self.pass_start = self._shift - self._offset
        experiment.set_timesteps(timesteps + self._shift)
        self._writes = int(experiment.write_interval > 0)
        self._take_over()

    def act(self, *args: Any, **kwargs: Any) -> Any:
        """Have the agent act, in the timestep that it goes on with."""
        if self._offset:
            args, kwargs = self._moved("act", args, kwargs)
        return self._calls["act"](*args, **kwargs)

    def _moved(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments with the timesteps as the agent counts them."""
        if "timestep" not in kwargs or "timesteps" not in kwargs:
            kwargs, args = dict(inspect.signature(self._calls[name]).bind(*args, **kwargs).arguments), ()
        moved = {key: kwargs[key] + self._offset for key in ("timestep", "timesteps")}
        return args, {**kwargs, **moved}

    def record_transition(self, *args: Any, **kwargs: Any) -> Any:
        """Track rewards and episodes, then have the agent put the transition into its memory."""
        if args:
            kwargs = dict(inspect.signature(self._calls["record_transition"]).bind(*args, **kwargs).arguments)
        if self._writes:
            self._experiment.record_transition(kwargs["rewards"], kwargs["terminated"], kwargs["truncated"])
        if self._environment is not None:
            self._environment.note(kwargs)
        if self._offset:
            _, kwargs = self._moved("record_transition", (), kwargs)
        agent = self._agent
        agent.write_interval = 0
        try:
            return self._calls["record_transition"](**kwargs)
        finally:
            agent.write_interval = self._writes

    def post_interaction(self, timestep: int, timesteps: int) -> Any:
        """Complete a timestep: the agent learns, then what is due is written and checkpointed."""
        self._is_within = True
        try:
            result = self._calls["post_interaction"](
                timestep=timestep + self._offset, timesteps=timesteps + self._offset
            )
        finally:
            self._is_within = False
        self._complete(timestep)
        return result

    def _complete(self, timestep: int) -> None:
        self._take_tracked()
        self._experiment.step(timestep + self._shift)

    def _take_tracked(self) -> None:
        """Track what somebody put past `track_data`."""
        tracked = self._agent.tracking_data
        if tracked:
            for tag, values in tracked.items():
                for value in values:
                    self._experiment.track_data(tag, value)
            tracked.clear()

    def write_tracking_data(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        """Write what was tracked; or, where the base class calls it, complete the timestep of an evaluation."""
        if self._is_within:
            return
        if self._last is not None and timestep == self._last + 1:
            self._complete(self._last)
            return
        self._take_tracked()
        self._experiment.write_tracking_data(self._count(timestep))

    def write_checkpoint(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        """Checkpoint at once."""
        self._experiment.write_checkpoint(self._count(timestep))

    def _count(self, timestep: int | None) -> int:
        return self._experiment.completed if timestep is None else timestep + self.pass_start


_SETTINGS = ("write_interval", "checkpoint_interval", "experiment_dir", "writer")
"""What an agent has beside its calls that is another's while it is attached."""


@final
class _Writer:
    """The experiment's writers, by the calls that agents of either line have for theirs.

    Args:
        experiment: the experiment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def add_scalar(self, tag: str, value: Any = None, timestep: int | None = None, *args: Any, **kwargs: Any) -> None:
        """Write a number; `value` and `timestep` are `scalar_value` and `global_step` too."""
        value, timestep = kwargs.pop("scalar_value", value), kwargs.pop("global_step", timestep)
        self._experiment.writer.add_scalar(tag, value, timestep, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experiment.writer, name)


@contextlib.contextmanager
def _without_wandb(agent: Any) -> Iterator[None]:
    """Have an agent's `init` start no run of Weights & Biases: the experiment has one, if that is asked for."""
    settings = agent.cfg.get(LEVEL, {}) if isinstance(agent.cfg, Mapping) else agent.cfg.experiment
    is_table = isinstance(settings, dict)
    wanted = settings.get("wandb", False) if is_table else getattr(settings, "wandb", False)
    if not wanted:
        yield
        return

    def switch(to: Any) -> None:
        settings.__setitem__("wandb", to) if is_table else setattr(settings, "wandb", to)

    switch(False)
    try:
        yield
    finally:
        switch(wanted)
