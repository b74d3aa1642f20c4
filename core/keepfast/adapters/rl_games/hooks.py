"""Hooks in one agent of rl_games: where an epoch is complete, what a step gave, and what its writer is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from keepfast.adapters.rl_games.opponents import Opponents
from keepfast.adapters.rl_games.state import AgentState, LateEnvironment
from keepfast.plugins.backends import in_use
from keepfast.runs.random_state import capture_random_state, restore_random_state

_OTHER_AXES = ("/time", "/step", "/frame")
"""How the tags end under which a number that has one ending in ``/iter`` is written again, over another axis."""


@final
class Hooks:
    """Stands in for three methods of one agent, and listens to its writer.

    An epoch is complete where the next one begins, or the training ends: what the agent has is in its attributes then.
    The beginning of a training makes some of them anew and resets the environments, so what a resume restored is put
    back once more before its first epoch.

    Args:
        agent: the agent.
        experiment: keeps what it produces.
        state: what a resume puts into the agent.
        later: what a resume puts back behind the beginning of a training, in this order: environments, opponents.
    """

    def __init__(
        self, agent: Any, experiment: Any, state: AgentState, later: Sequence[LateEnvironment | Opponents]
    ) -> None:
        self._agent, self._experiment = agent, experiment
        self._state, self._later = state, later
        self._ahead = int(not hasattr(agent, "update_epoch"))  # the agent of SAC counts an epoch before it begins it
        self._epoch = "train_epoch" if self._ahead else "update_epoch"
        self._before = {name: getattr(agent, name) for name in ("train", self._epoch, "env_step")}
        self._add_scalar = getattr(agent.writer, "add_scalar", None)  # the first process alone has a writer
        self._is_beginning, self._random = False, dict[str, Any]()

    def put(self) -> None:
        """Put them there."""
        agent = self._agent
        agent.train, agent.env_step = self._train, self._step
        setattr(agent, self._epoch, self._begin_epoch)
        if self._add_scalar is not None:
            agent.writer.add_scalar = self._write

    def remove(self) -> None:
        """Take them away."""
        for name in self._before:
            vars(self._agent).pop(name, None)
        if self._add_scalar is not None:
            vars(self._agent.writer).pop("add_scalar", None)

    def _train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and complete the last epoch."""
        agent = self._agent
        if agent.max_epochs > 0:
            self._experiment.set_timesteps(int(agent.max_epochs))
        if self._state.is_resumed:
            self._random = capture_random_state(self._backends())
        self._is_beginning = True
        result = self._before["train"](*args, **kwargs)
        self._complete()
        return result

    def _backends(self) -> list[Any]:
        return [backend for name in ("torch", "jax") if (backend := in_use(name)) is not None]

    def _begin_epoch(self) -> Any:
        """Complete the epoch before this one; or go on from where a resume is."""
        self._agent.epoch_num -= self._ahead
        if not self._is_beginning:
            self._complete()
        elif self._state.is_resumed:
            for each in (*self._later, self._state):
                each.go_on()
            restore_random_state(self._random, self._backends())
        self._is_beginning = False
        self._agent.epoch_num += self._ahead
        return self._before[self._epoch]()

    def _complete(self) -> None:
        self._experiment.step(self._agent.epoch_num - 1)

    def _step(self, actions: Any) -> Any:
        """Take a step of the environments, and track it."""
        result = self._before["env_step"](actions)
        _, rewards, dones, infos = result
        ended = dones > 0
        cut = infos.get("time_outs") if isinstance(infos, Mapping) else None
        truncated = ended & ~ended if cut is None else ended & (self._agent.cast_obs(cut) > 0)
        self._experiment.record_transition(rewards.reshape(len(rewards), -1)[:, 0], ended & ~truncated, truncated)
        return result

    def _write(self, tag: str, scalar_value: Any, *args: Any, **kwargs: Any) -> Any:
        """Track what the agent's writer is given, each number once."""
        if not tag.endswith(_OTHER_AXES):
            self._experiment.track_data(tag, scalar_value)
        return self._add_scalar(tag, scalar_value, *args, **kwargs) if self._add_scalar is not None else None
