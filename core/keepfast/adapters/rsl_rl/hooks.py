"""Hooks in the logger of one runner of rsl_rl, which is told of each step and of each iteration."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, final

from keepfast.adapters.rsl_rl.state import RunnerState


@final
class Hooks:
    """Stands in for two methods of a runner's logger, which tell of a step, and of an iteration that has learned.

    Args:
        runner: the runner.
        experiment: keeps what it produces.
        state: is told which iterations are complete.
    """

    def __init__(self, runner: Any, experiment: Any, state: RunnerState) -> None:
        self._logger, self._experiment, self._state = runner.logger, experiment, state
        self._before = {name: getattr(self._logger, name) for name in ("process_env_step", "log")}

    def put(self) -> None:
        """Put them there."""
        self._logger.process_env_step, self._logger.log = self._record, self._complete

    def remove(self) -> None:
        """Take them away."""
        for name in self._before:
            vars(self._logger).pop(name, None)

    def _record(self, rewards: Any, dones: Any, extras: Mapping[str, Any], *more: Any, **named: Any) -> None:
        """Track one step of the environments, and what they tell of it."""
        self._before["process_env_step"](rewards, dones, extras, *more, **named)
        ended = dones > 0
        truncated = _beside(extras["time_outs"], ended) > 0 if "time_outs" in extras else ended & ~ended
        self._experiment.record_transition(rewards, ended & ~truncated, ended & truncated)
        for key, value in (extras["episode"] if "episode" in extras else extras.get("log", {})).items():
            self._experiment.track_data(key if "/" in key else f"Episode/{key}", _mean(value))

    def _complete(self, **told: Any) -> None:
        """Track what an iteration has learned, under rsl_rl's own names, and complete it."""
        self._before["log"](**told)
        experiment, logger = self._experiment, self._logger
        for tag, value in self._tags(told).items():
            experiment.track_data(tag, value)
        if logger.writer is not None and logger.rewbuffer:
            experiment.track_data("Train/mean_reward", statistics.mean(logger.rewbuffer))
            experiment.track_data("Train/mean_episode_length", statistics.mean(logger.lenbuffer))
        self._state.completed = told["it"] + 1
        experiment.set_timesteps(told["total_it"])
        experiment.step(told["it"])

    def _tags(self, told: Mapping[str, Any]) -> dict[str, Any]:
        seconds = told["collect_time"] + told["learn_time"]
        steps = self._logger.cfg["num_steps_per_env"] * self._logger.num_envs * self._logger.gpu_world_size
        tags = {f"Loss/{key}": value for key, value in told["loss_dict"].items()}
        tags |= {"Loss/learning_rate": told["learning_rate"], "Policy/mean_std": told["action_std"].mean()}
        if told.get("rnd_weight") is not None:
            tags["Rnd/weight"] = told["rnd_weight"]
        return {
            **tags,
            "Perf/total_fps": int(steps / max(seconds, 1e-9)),
            "Perf/collection_time": told["collect_time"],
            "Perf/learning_time": told["learn_time"],
        }


def _beside(value: Any, other: Any) -> Any:
    """Return a tensor on the device of another one."""
    return value.to(other.device) if hasattr(value, "to") else value


def _mean(value: Any) -> Any:
    return value.float().mean() if hasattr(value, "float") and hasattr(value, "mean") else value
