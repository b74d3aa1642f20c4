"""SkrlAdapter: what an experiment keeps of an agent of skrl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

from keepfast._system.arguments.forms import mapping_of
from keepfast._system.finishing import finish
from keepfast.adapters.skrl.environment import kept
from keepfast.adapters.skrl.hooks import Hooks
from keepfast.adapters.skrl.memory import MEMORIES, MemoryState
from keepfast.adapters.skrl.state import AgentState, further_modules, registered_modules
from keepfast.adapters.skrl.tracing import TracedActs
from keepfast.config import LEVEL, ExperimentConfig
from keepfast.experiment import Experiment
from keepfast.interfaces.adapter import Adapter, descends
from keepfast.modules.parts import description

_TORCH, _JAX = "skrl.agents.torch.base.Agent", "skrl.agents.jax.base.Agent"

AGENT_STATE = "agent_state"
"""What checkpoints call all that an agent goes on from beside its modules."""


@final
class SkrlAdapter(Adapter):
    """Keeps agents of skrl 1.4 and 2, each in skrl's own trainers.

    Checkpoints hold the agent's modules under its own names, so that its own `load` takes them, and beside them what an
    exact resume needs: the memories, counters, schedulers and optimizers that skrl itself stores nowhere.
    """

    library: ClassVar[str] = "skrl"

    def recognizes(self, agent: object) -> bool:
        """Say whether an object is one of its agents for one agent in an environment, on PyTorch or JAX."""
        return descends(agent, _TORCH, _JAX)

    def configuration(self, agent: Any) -> Mapping[str, Any]:
        """Return its own configuration; its checkpoints on JAX are of the format that its own `load` takes."""
        settings = dict(mapping_of(agent.cfg) or {})
        given = dict(mapping_of(settings.get(LEVEL, {})) or {})
        known = {key: given[key] for key in given if key in ExperimentConfig.model_fields and given[key] is not None}
        if descends(agent, _JAX):
            known.setdefault("checkpoint_format", "pickle")
        models = {role: description(model) for role, model in agent.models.items() if model is not None}
        return {**settings, "models": models, LEVEL: known}

    def attach(self, agent: Any, experiment: Experiment, env: Any = None) -> Callable[[], object]:
        """Register all that it goes on from, and put calls of ours before its own."""
        environment = kept(env)
        memories = {name: MemoryState(memory, experiment) for name, memory in _memories(agent).items()}
        hooks = Hooks(agent, experiment, environment, memories.values())
        state = AgentState(agent, hooks)
        rest: dict[str, Any] = {**memories, "env": environment}
        own = registered_modules(agent)
        further = {"own": state, **further_modules(agent)}
        experiment.register(
            **own, **{AGENT_STATE: further}, **{name: each for name, each in rest.items() if name not in own}
        )
        hooks.install(state)
        parts: list[TracedActs | MemoryState] = [state.traced, *memories.values()]
        for part in parts:
            part.install()
        return lambda: finish(hooks.remove, *(part.remove for part in parts))


def _memories(agent: Any) -> dict[str, Any]:
    """Return the memories of an agent by name, its own first; each of them once."""
    found = {"memory": agent.memory, **vars(agent)}
    found |= {
        f"secondary_memory_{number}": each for number, each in enumerate(getattr(agent, "secondary_memories", ()))
    }
    seen: dict[int, str] = {}
    for name, memory in found.items():
        if descends(memory, *MEMORIES):
            seen.setdefault(id(memory), name)
    return {name: found[name] for name in seen.values()}
