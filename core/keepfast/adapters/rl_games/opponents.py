"""Opponents of an agent of rl_games that plays against itself: the networks that its environments were given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, final

from keepfast.adapters.environments import captured, restored
from keepfast.plain.state import Kept
from keepfast.tree import Tree


@final
class Opponents(Kept):
    """Keeps what a manager of self-play gave each environment to play against, and gives it to them again.

    Args:
        agent: the agent, with a manager of self-play.
    """

    def __init__(self, agent: Any) -> None:
        self._agent, self._envs = agent, agent.vec_env
        self._give = agent.vec_env.set_weights
        self._given: dict[int, Tree] = {}
        self._is_resumed = False

    def put(self) -> None:
        """Listen to what environments are given."""
        self._envs.set_weights = self._set_weights

    def remove(self) -> None:
        """Listen no more."""
        vars(self._envs).pop("set_weights", None)

    def _set_weights(self, indices: Any, weights: Any) -> Any:
        kept = copy.deepcopy(captured(weights))  # what is given is the agent's own, which goes on learning
        self._given |= {int(index): kept for index in indices}
        return self._give(indices, weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the networks that were given, each once, and which environments have them."""
        distinct = list({id(each): each for each in self._given.values()}.values())
        places = {index: next(at for at, each in enumerate(distinct) if each is own) for index, own in self._of_all()}
        return {"of": {str(index): at for index, at in places.items()}, "networks": distinct}

    def _of_all(self) -> list[tuple[int, Tree]]:
        return sorted(self._given.items())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them, for the environments to be given once the training has begun."""
        self._given = {int(index): state["networks"][at] for index, at in state["of"].items()}
        self._is_resumed = True

    def go_on(self) -> None:
        """Give the environments what they had."""
        given = self._of_all() if self._is_resumed else []
        self._is_resumed = False
        for index, kept in given:
            self._give([index], restored(copy.deepcopy(self._agent.get_weights()), kept))
