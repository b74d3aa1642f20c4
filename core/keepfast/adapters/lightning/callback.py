"""KeepfastCallback: the checkpoints of a fit of Lightning, and its resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

from lightning.pytorch.callbacks import Callback

from keepfast.adapters.lightning.data import Position
from keepfast.adapters.lightning.logger import KeepfastLogger
from keepfast.adapters.lightning.state import TrainerState
from keepfast.errors import UsageError
from keepfast.experiment import Experiment
from keepfast.modules.parts import Module


@final
class KeepfastCallback(Callback):  # type: ignore[misc]
    """Checkpoints a fit at the experiment's intervals, and has it go on where one was taken, in mid-epoch too.

    Checkpoints hold the module, every optimizer and scheduler, loops, callbacks, precision, what the module and the
    data module add to checkpoints, all random generators, and the place in the data. A timestep is what Lightning's
    loggers count: a batch after which an optimizer steps.

    Args:
        resume: what the fit goes on from, as `Experiment.resume` takes it; None begins anew.

    Raises:
        UsageError: by `fit`, if the trainer has no `KeepfastLogger`.
    """

    def __init__(self, resume: str | Path | None = "latest") -> None:
        super().__init__()
        self._resume = resume
        self._position: Position | None = None
        self._known: Experiment | None = None
        self._trainer: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Register what checkpoints hold, and go on from one where there is one."""
        self._trainer, self._logger = trainer, _logger_of(trainer)
        self._logger.is_driven = True
        experiment = self._logger.experiment
        self._position = Position(trainer, self._complete)
        self._position.install()
        experiment.register(**_modules(trainer, pl_module), trainer=TrainerState(trainer, self._position))
        if self._known is not experiment and self._resume is not None:
            before = experiment.resumed
            experiment.resume(self._resume)
            if experiment.resumed is not before:
                self._position.go_on()
        self._known = experiment

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Tell the length of the training, once the data tells it."""
        if (steps := _length(trainer)) is not None:
            self._logger.experiment.set_timesteps(steps)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Complete the last timestep, and checkpoint it."""
        self._complete()
        experiment = self._logger.experiment
        if experiment.checkpoint_interval and experiment.completed != experiment.timesteps:
            experiment.write_checkpoint(experiment.completed)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let the trainer go."""
        if self._position is not None:
            self._position.remove()
            self._position = None
            self._logger.is_driven = False

    def _complete(self) -> None:
        """Complete the steps that were taken since the last time; nothing of them is left to do."""
        experiment = self._logger.experiment
        taken = self._trainer.fit_loop.epoch_loop._batches_that_stepped  # noqa: SLF001  (the step of its loggers)
        if taken > experiment.completed:
            self._logger.write_waiting()
            experiment.step(taken - 1)


def _logger_of(trainer: Any) -> KeepfastLogger:
    found = [logger for logger in trainer.loggers if isinstance(logger, KeepfastLogger)]
    if not found:
        raise UsageError("`KeepfastCallback` needs a `KeepfastLogger`; give one as the trainer's `logger`")
    return found[0]


def _modules(trainer: Any, pl_module: Any) -> dict[str, Module]:
    """Return the module, its optimizers and their schedulers by the names that checkpoints have."""
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    return {
        "module": pl_module,
        **_numbered("optimizer", [getattr(each, "optimizer", each) for each in trainer.optimizers]),
        **_numbered("scheduler", schedulers),
    }


def _numbered(name: str, parts: list[Any]) -> dict[str, Any]:
    if len(parts) == 1:
        return {name: parts[0]}
    return {f"{name}_{number}": part for number, part in enumerate(parts)}


def _length(trainer: Any) -> int | None:
    """Return how many steps a fit takes in all, where it tells."""
    batches, epochs, most = trainer.num_training_batches, trainer.max_epochs, trainer.max_steps
    if most > 0 and not trainer.lightning_module.automatic_optimization:
        return None  # these are steps of optimizers, of which a batch may take several
    ends = [most] if most > 0 else []
    if epochs is not None and epochs > 0 and math.isfinite(batches):
        ends.append(math.ceil(batches / trainer.accumulate_grad_batches) * epochs)
    return min(ends, default=None)
