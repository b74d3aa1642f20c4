"""StableBaselines3Adapter: gives the models of stable-baselines3 an experiment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

from keepfast._system.warnings import warn
from keepfast.adapters.environments import EnvironmentState
from keepfast.adapters.stable_baselines3.state import BufferState, ModelState
from keepfast.config import LEVEL
from keepfast.errors import UsageError
from keepfast.interfaces.adapter import Adapter, descends
from keepfast.modules.parts import Attribute, Module

_MODEL = "stable_baselines3.common.base_class.BaseAlgorithm"
_SETTINGS = (bool, int, float, str, type(None))
_COUNTED = frozenset({"num_timesteps", "exploration_rate", "start_time"})


@final
class StableBaselines3Adapter(Adapter):
    """Knows whatever trains by collecting rollouts: PPO, A2C, DQN, SAC, TD3, DDPG, and heirs of them; so does sbx."""

    library: ClassVar[str] = "stable_baselines3"

    def recognizes(self, agent: object) -> bool:
        """Say whether an object is a model."""
        return descends(agent, _MODEL)

    def configuration(self, agent: Any) -> Mapping[str, Any]:
        """Return the model's settings; its environments reset in the step that ends an episode."""
        own = {name: value for name, value in vars(agent).items() if type(value) in _SETTINGS}
        kept = {name: value for name, value in own.items() if not name.startswith("_") and name not in _COUNTED}
        return {**kept, "policy": type(agent.policy).__name__, LEVEL: {"autoreset": "same_step"}}

    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        """Have a callback and an output format in each `learn`, and checkpoints between two rollouts."""
        if not hasattr(agent, "collect_rollouts") or agent.policy is None:
            raise UsageError(
                f"this {type(agent).__name__} does not train in rollouts, or has no policy yet; attach a model that "
                "was made with its policy and its environment"
            )
        if not _networks(agent):
            raise UsageError(
                f"this {type(agent).__module__}.{type(agent).__name__} has networks neither of PyTorch nor in train "
                "states of Flax, and checkpoints would lack them; use `keepfast.Experiment` in a callback of your own"
            )
        from keepfast.adapters.stable_baselines3.hooks import Hooks

        environment = EnvironmentState(agent.get_env())
        state = ModelState(agent, environment)
        experiment.register(**_modules(agent, environment, state))
        if obstacle := environment.obstacle if agent.get_env() is not None else "":
            warn(
                f"the state of this environment cannot be kept, since {obstacle}; a resume resets it, and goes on "
                "exactly but for that"
            )
        hooks = Hooks(agent, experiment, state)
        hooks.put()
        return hooks.remove


def _networks(model: Any) -> dict[str, Module]:
    """Return the networks and optimizers of a model; of sbx, whose are on JAX, its train states and random keys."""
    networks, tensors = model._get_torch_save_params()  # noqa: SLF001  (what the library itself stores)
    found: dict[str, Module] = {name.replace(".", "_"): _within(model, name) for name in (*networks, *tensors)}
    for prefix, owner in (("", model), ("policy_", model.policy)):
        names = [name for name, value in vars(owner).items() if _is_of_jax(value)]
        found |= {f"{prefix}{name}": Attribute(owner, name) for name in names}
    return found


def _is_of_jax(value: Any) -> bool:
    jax = sys.modules.get("jax")
    return descends(value, "flax.training.train_state.TrainState") or (jax is not None and isinstance(value, jax.Array))


def _modules(model: Any, environment: EnvironmentState, state: ModelState) -> dict[str, Module]:
    """Return what checkpoints hold of a model, by the names that it has there."""
    modules = _networks(model)
    if (normalize := model.get_vec_normalize_env()) is not None:
        modules["vec_normalize"] = normalize
    if getattr(model, "replay_buffer", None) is not None:
        modules["replay_buffer"] = BufferState(model)
    return {**modules, "env": environment, "model": state}


def _within(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner
