"""RslRlAdapter: gives the runners of rsl_rl an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

from keepfast._system.warnings import warn
from keepfast.adapters.environments import EnvironmentState
from keepfast.adapters.rsl_rl.hooks import Hooks
from keepfast.adapters.rsl_rl.state import RunnerState
from keepfast.config import LEVEL
from keepfast.interfaces.adapter import Adapter, descends
from keepfast.modules.parts import Module

_NETWORKS = ("actor", "critic", "student", "teacher")


@final
class RslRlAdapter(Adapter):
    """Knows `OnPolicyRunner` and `DistillationRunner` of rsl_rl 5, and heirs of them. A timestep is an iteration."""

    library: ClassVar[str] = "rsl_rl"

    def recognizes(self, agent: object) -> bool:
        """Say whether an object is a runner."""
        return descends(agent, "rsl_rl.runners.on_policy_runner.OnPolicyRunner")

    def name(self, agent: Any) -> str:
        """Return the name of the algorithm."""
        return type(agent.alg).__name__

    def configuration(self, agent: Any) -> Mapping[str, Any]:
        """Return the runner's configuration; its environments reset in the step that ends an episode."""
        return {**agent.cfg, LEVEL: {"autoreset": "same_step"}}

    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        """Have each iteration complete a timestep, once it has learned."""
        environment = EnvironmentState(agent.env)
        state = RunnerState(agent)
        experiment.register(**_modules(agent), env=environment, runner=state)
        if obstacle := environment.obstacle:
            warn(
                f"the state of this environment cannot be kept, since {obstacle}; a resume goes on with one that is new"
            )
        hooks = Hooks(agent, experiment, state)
        hooks.put()
        return hooks.remove


def _modules(runner: Any) -> dict[str, Module]:
    """Return the networks and optimizers of a runner's algorithm, none of them compiled."""
    algorithm = runner.alg
    found = {name: getattr(algorithm, f"_raw_{name}", getattr(algorithm, name, None)) for name in _NETWORKS}
    modules = {name: network for name, network in found.items() if network is not None}
    modules["optimizer"] = algorithm.optimizer
    if (rnd := getattr(algorithm, "rnd", None)) is not None:
        modules |= {"rnd": rnd, "rnd_optimizer": rnd.optimizer}
    return modules
