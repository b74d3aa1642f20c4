"""The episodes of several agents in one environment, whose rewards come as a dict, and their total.

As PettingZoo has it (https://pettingzoo.farama.org/api/parallel): an agent that was terminated or truncated takes no
further part in the episode of all, which is over once each agent that took part has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.checks import table
from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue
from keepfast.tracking.episodes.running import Flags, Floats, RunningEpisodes
from keepfast.tracking.held import Holder

TeamStep = Mapping[str, tuple[Any, ...]]
"""The rewards, terminated, truncated and valid of each agent at one step."""


@final
@dataclass(frozen=True)
class TeamSteps:
    """Several steps of all agents, each array of shape (agents, steps, num_envs).

    Attributes:
        rewards: the rewards, 0 where there are none.
        done: whether the agent ended.
        there: whether the row is an agent's transition at all.
    """

    rewards: Floats
    done: Flags
    there: Flags

    def __len__(self) -> int:
        return int(self.done.shape[1])

    def part(self, steps: slice) -> TeamSteps:
        """Return some of the steps."""
        return TeamSteps(self.rewards[:, steps], self.done[:, steps], self.there[:, steps])


def by_agent(rewards: Mapping[Any, Any], terminated: Any, truncated: Any, valid: Any) -> TeamStep:
    """Return a step by agent: its rewards, terminated, truncated and valid; what is given for all is each one's.

    Raises:
        InvalidValue: if something is given for other agents than the rewards are.
    """
    rewards = _table("rewards", rewards)
    given = {"terminated": terminated, "truncated": truncated, "valid": True if valid is None else valid}
    parts = {name: _table(name, part) if isinstance(part, Mapping) else part for name, part in given.items()}
    for name, part in parts.items():
        if isinstance(part, Mapping) and part.keys() != rewards.keys():
            raise InvalidValue(
                f"record_transition got rewards of the agents {_listing(rewards)}, and `{name}` of {_listing(part)}; "
                "allowed: the same agents, or one array for all of them"
            )
    return {
        str(agent): (reward, *(part[agent] if isinstance(part, Mapping) else part for part in parts.values()))
        for agent, reward in rewards.items()
    }


def _table(name: str, part: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return part if isinstance(part, dict) else table(name, part)


def _listing(agents: Iterable[object]) -> str:
    return ", ".join(f"`{agent}`" for agent in agents) or "(none)"


@final
class Team:
    """Counts the episodes of each agent, and finds those of all.

    Args:
        num_envs: the number of environments.

    Attributes:
        episodes: those of each agent, in the order in which the agents came.
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self._held: list[TeamStep] = []
        self.episodes: dict[str, RunningEpisodes] = {}
        # Of each agent, in the order of `episodes`, and environment: whether it takes part in the episode that is
        # running there, and whether it has ended.
        self._joined = self._over = np.zeros((0, num_envs), bool)
        self._late: str | None = None
        self._told = False

    def add(self, held: TeamStep) -> None:
        """Keep a step, its parts held."""
        self._held.append(held)

    def take(self, holder: Holder) -> TeamSteps:
        """Return all steps, and forget them."""
        held, self._held = self._held, []
        for agent in (agent for step in held for agent in step):
            self._welcome(agent)
        fetched = iter(holder.fetch([part for step in held for parts in step.values() for part in parts]))
        shape = len(self.episodes), len(held), self._num_envs
        rewards, done, there = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
        number = {agent: position for position, agent in enumerate(self.episodes)}
        for row, step in enumerate(held):
            for agent in step:
                place = number[agent], row
                rewards[place] = next(fetched).reshape(-1)
                done[place] = truth(next(fetched))
                done[place] |= truth(next(fetched))
                there[place] = truth(next(fetched))
        return TeamSteps(rewards, done, there)

    def _welcome(self, agent: str) -> None:
        if agent not in self.episodes:
            self.episodes[agent] = RunningEpisodes(agent)
            self.episodes[agent].start(self._num_envs)
            nobody = np.zeros((1, self._num_envs), bool)
            self._joined, self._over = np.vstack([self._joined, nobody]), np.vstack([self._over, nobody])

    def work_off(self, steps: TeamSteps, ended: Flags | None) -> tuple[Floats, Flags, Flags]:
        """Add steps to each agent's episodes, and return those of all: rewards, ends, and whether a row counts.

        Args:
            steps: some of those that `take` returned.
            ended: in which environments the row before ended the episode of all, where the row after that is a reset;
                None where there is no such row.
        """
        rewards, done, there = steps.rewards, steps.done, steps.there
        counted, ends = np.zeros_like(there), np.zeros_like(done)
        over = np.zeros(done.shape[1:], bool)
        before = np.zeros(done.shape[2], bool) if ended is None else ended
        for row in range(done.shape[1]):
            mine = there[:, row] & ~before
            self._look_for_late(mine & self._over, rewards[:, row])
            counted[:, row] = mine & ~self._over
            ends[:, row] = counted[:, row] & done[:, row]
            over[row] = self._pass(counted[:, row], ends[:, row])
            before = before if ended is None else over[row]
        for agent, running in enumerate(self.episodes.values()):
            running.work_off(rewards[agent], ends[agent], counted[agent])
        with np.errstate(invalid="ignore", over="ignore"):
            total: Floats = np.where(counted, rewards, 0.0).sum(axis=0)
        return total, over, np.logical_or.reduce(counted)

    def _pass(self, counted: Flags, ends: Flags) -> Flags:
        """Take note of a row, and return in which environments it ended the episode of all."""
        self._joined |= counted
        self._over |= ends
        over: Flags = counted.any(axis=0) & (self._over | ~self._joined).all(axis=0)
        self._joined[:, over] = self._over[:, over] = False
        return over

    def _look_for_late(self, late: Flags, rewards: NDArray[Any]) -> None:
        if self._late is None and late.any() and rewards[late].any():
            agent = int(np.flatnonzero((late & (rewards != 0)).any(axis=1))[0])
            self._late = list(self.episodes)[agent]

    def tell(self) -> None:
        """Warn, once, of rewards that an agent got after it had ended."""
        if self._late is not None and not self._told:
            self._told = True
            warn(
                f"the agent `{self._late}` got rewards after it had ended, while others went on; these are left out, "
                "because an agent that ended takes no further part until the episode of all is over. Where agents are "
                "reset one by one, give each agent's rewards to an `Experiment` of its own"
            )

    def drop(self, envs: Any = slice(None)) -> None:
        """Forget the running episodes of some environments."""
        self._joined[:, envs] = self._over[:, envs] = False
        for running in self.episodes.values():
            running.drop(envs)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the interval holds so far, and the running episodes, as a tree."""
        return {
            "agents": [[agent, running.state_dict()] for agent, running in self.episodes.items()],
            "joined": self._joined.copy(),
            "over": self._over.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, in the place of whatever was added."""
        self._held = []
        self.episodes = {agent: RunningEpisodes(agent) for agent, _ in state["agents"]}
        for agent, running in state["agents"]:
            self.episodes[agent].load_state_dict(running)
        self._joined, self._over = (np.array(state[name], bool) for name in ("joined", "over"))


def truth(array: NDArray[Any]) -> Flags:
    """Return the flags that an array stands for, one after the other."""
    return array.reshape(-1).astype(bool, copy=False)
