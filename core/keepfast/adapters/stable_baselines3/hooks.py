"""Hooks in one model of stable-baselines3: a callback, an output format, and a checkpoint between two rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, HParam, Image, KVWriter, Video

from keepfast.adapters.stable_baselines3.state import ModelState
from keepfast.errors import UsageError

_EXCLUDED = ("keepfast", "tensorboard")
"""A value that is recorded with one of these to `exclude` is none for here; the second one marks what is no curve."""


@final
class Hooks:
    """Stands in for three methods of one model, and leaves its class alone.

    A checkpoint in the middle of a rollout could not be gone on from, since `learn` begins with a new one. So each
    timestep is completed where a rollout begins or the training ends: all that the model has is in its attributes then.

    Args:
        model: the model.
        experiment: keeps what it produces.
        state: what a resume puts into the model.
    """

    def __init__(self, model: Any, experiment: Any, state: ModelState) -> None:
        self._model, self.experiment, self._state = model, experiment, state
        self._before = {name: getattr(model, name) for name in ("_init_callback", "collect_rollouts")}
        self._completed, self.after = model.num_timesteps, 0
        self._normalize: Any = None
        self._steps: list[tuple[Any, Any, Any]] = []
        self._output = OutputFormat(self)

    def put(self) -> None:
        """Put them there."""
        self._model._init_callback = self._begin  # noqa: SLF001
        self._model.collect_rollouts = self._collect
        self._model._excluded_save_params = self._excluded  # noqa: SLF001

    def remove(self) -> None:
        """Take them away."""
        for name in (*self._before, "_excluded_save_params"):
            vars(self._model).pop(name, None)
        logger = getattr(self._model, "_logger", None)
        if logger is not None and self._output in logger.output_formats:
            logger.output_formats.remove(self._output)

    def _excluded(self) -> list[str]:
        """Return what `model.save` leaves out: what it always does, and these."""
        return [*type(self._model)._excluded_save_params(self._model), *self._before, "_excluded_save_params"]  # noqa: SLF001

    def _begin(self, callback: Any, progress_bar: bool = False) -> Any:
        """Begin a training: `learn` calls this once it has set all up."""
        model, experiment = self._model, self.experiment
        self._check_resumed()
        if not model.num_timesteps and experiment.completed:
            experiment.begin_pass()
            self.after = experiment.completed
        self._completed = model.num_timesteps
        experiment.set_timesteps(_end(model))
        if self._output not in model.logger.output_formats:
            model.logger.output_formats.append(self._output)
        given = callback if isinstance(callback, list) else [] if callback is None else [callback]
        begun = self._before["_init_callback"]([*given, Callback(self)] if given else Callback(self), progress_bar)
        self._state.go_on()
        return begun

    def _check_resumed(self) -> None:
        at = self._state.resumed_at
        if at is not None and self._model.num_timesteps != at:
            raise UsageError(
                f"this model was resumed at timestep {at}, and `learn` counts from 0 again; call "
                f"`model.learn(timesteps - {at}, reset_num_timesteps=False)`"
            )

    def _collect(self, *args: Any, **kwargs: Any) -> Any:
        """Complete what was collected and learned before, and collect more, which is tracked once that ends.

        Between two steps a network is run, and the processor has forgotten all that there is of tracking by then: a
        step that is tracked at once costs several times what it does behind others.
        """
        self.complete()
        self._normalize = self._model.get_vec_normalize_env()
        try:
            return self._before["collect_rollouts"](*args, **kwargs)
        finally:
            steps, self._steps = self._steps, []
            for step in steps:
                self.experiment.record_transition(*step)

    def complete(self) -> None:
        """Complete the timesteps of the model that are not yet; writes and checkpoints where that is due."""
        if self._model.num_timesteps > self._completed:
            self._completed = self._model.num_timesteps
            self.experiment.step(self._completed - 1)

    def record(self, values: Mapping[str, Any]) -> None:
        """Keep one step of the environments until its rollout ends."""
        normalize = self._normalize
        rewards = values["rewards"].copy() if normalize is None else normalize.get_original_reward()
        dones = np.array(values["dones"], bool)
        truncated = dones
        if np.count_nonzero(dones):
            truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in values["infos"]])
            dones, truncated = dones & ~truncated, dones & truncated
        self._steps.append((rewards, dones, truncated))


def _end(model: Any) -> int:
    """Return at how many timesteps a training ends: `learn` collects whole rollouts."""
    first, last = model._num_timesteps_at_start, model._total_timesteps  # noqa: SLF001
    frequency = getattr(model, "train_freq", None)
    steps = model.n_steps if frequency is None else frequency.frequency if frequency.unit.value == "step" else 1
    rollout = steps * model.n_envs
    return max(int(first + -(-(last - first) // rollout) * rollout), 1)


@final
class Callback(BaseCallback):  # type: ignore[misc]
    """Tells the hooks of each step, and of the end."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    def _on_step(self) -> bool:
        self._hooks.record(self.locals)
        return True

    def _on_training_end(self) -> None:
        self._hooks.complete()


@final
class OutputFormat(KVWriter):  # type: ignore[misc]
    """Takes what the model's logger writes: numbers are tracked, all else goes to the writers at once."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Take what was recorded since the last time, but for what is excluded."""
        for key, value in key_values.items():
            if not any(name in _EXCLUDED for name in key_excluded.get(key) or ()):
                self._take(key, value, step + self._hooks.after)

    def _take(self, key: str, value: Any, step: int) -> None:
        experiment = self._hooks.experiment
        if isinstance(value, str):
            experiment.writer.add_text(key, value, step)
        elif isinstance(value, np.ScalarType):
            experiment.track_data(key, value)
        elif isinstance(value, Video):
            experiment.writer.add_video(key, value.frames, step, value.fps)
        elif isinstance(value, Figure):
            experiment.writer.add_figure(key, value.figure, step, close=value.close)
        elif isinstance(value, Image):
            experiment.writer.add_image(key, value.image, step, dataformats=value.dataformats)
        elif isinstance(value, HParam):
            experiment.writer.add_hparams(dict(value.hparam_dict), dict(value.metric_dict))
        elif hasattr(value, "shape"):
            experiment.writer.add_histogram(key, value, step)

    def close(self) -> None:
        """Do nothing: whoever made the experiment closes it."""
