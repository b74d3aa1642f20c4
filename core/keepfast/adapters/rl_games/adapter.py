"""RlGamesAdapter: gives the agents of rl_games an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

from keepfast._system.finishing import finish
from keepfast._system.warnings import warn
from keepfast.adapters.environments import EnvironmentState
from keepfast.adapters.rl_games.hooks import Hooks
from keepfast.adapters.rl_games.opponents import Opponents
from keepfast.adapters.rl_games.replay import ReplayBuffer
from keepfast.adapters.rl_games.state import AgentState, LateEnvironment
from keepfast.config import LEVEL
from keepfast.interfaces.adapter import Adapter, descends
from keepfast.modules.parts import Module

_AGENT = "rl_games.common.a2c_common.A2CBase"
SAC = "rl_games.algos_torch.sac_agent.SACAgent"
"""The full name of the class of agents of SAC."""

_OPTIMIZERS_OF_SAC = ("actor_optimizer", "critic_optimizer", "log_alpha_optimizer")
_SETTINGS = (bool, int, float, str, type(None))


@final
class RlGamesAdapter(Adapter):
    """Knows the agents that learn by PPO and A2C, of continuous and of discrete actions, and by SAC.

    A timestep is an epoch.
    """

    library: ClassVar[str] = "rl_games"

    def recognizes(self, agent: object) -> bool:
        """Say whether an object is an agent in training; a player is none."""
        return descends(agent, _AGENT, SAC)

    def name(self, agent: Any) -> str:
        """Return the name that its configuration has."""
        return str(agent.config.get("name", type(agent).__name__))

    def configuration(self, agent: Any) -> Mapping[str, Any]:
        """Return its configuration without the objects in it; environments reset in the step that ends an episode."""
        return {**_plain(agent.config), LEVEL: {"autoreset": "same_step"}}

    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        """Have each epoch complete a timestep, once the next one begins or the training ends."""
        environment = EnvironmentState(agent.vec_env)
        late = LateEnvironment(environment)
        state = AgentState(agent, environment)
        experiment.register(**_modules(agent), env=late, agent=state)
        opponents = [Opponents(agent)] if getattr(agent, "has_self_play_config", False) else []
        for each in opponents:
            experiment.register(opponents=each)
        if obstacle := environment.obstacle:
            warn(
                f"the state of this environment cannot be kept, since {obstacle}; a resume goes on with one that is new"
            )
        hooks = Hooks(agent, experiment, state, (late, *opponents))
        hooks.put()
        for each in opponents:
            each.put()
        return lambda: finish(hooks.remove, *(each.remove for each in opponents))


def _modules(agent: Any) -> dict[str, Module]:
    """Return the networks of an agent, with their normalisers, its optimizers and its samples."""
    if descends(agent, SAC):
        optimizers = {name: getattr(agent, name) for name in _OPTIMIZERS_OF_SAC}
        return {"model": agent.model, **optimizers, "replay_buffer": ReplayBuffer(agent.replay_buffer)}
    modules = {"model": agent.model, "optimizer": agent.optimizer}
    if agent.has_central_value:
        modules |= {"central_value": agent.central_value_net.model}
        modules |= {"central_value_optimizer": agent.central_value_net.optimizer}
    if (advantages := getattr(agent, "advantage_mean_std", None)) is not None:
        modules["advantage_mean_std"] = advantages
    if agent.mixed_precision:
        modules["scaler"] = agent.scaler
    return modules


def _plain(node: Any) -> Any:
    """Return a configuration without what is no setting."""
    if isinstance(node, Mapping):
        return {
            str(key): _plain(value) for key, value in node.items() if isinstance(value, (*_SETTINGS, Mapping, list))
        }
    return (
        [_plain(value) for value in node] if isinstance(node, list) else node if isinstance(node, _SETTINGS) else None
    )
