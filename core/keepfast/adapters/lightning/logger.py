"""KeepfastLogger: Lightning's metrics in Keepfast's writers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, final

from lightning.pytorch.loggers.logger import Logger

from keepfast.config import Source
from keepfast.experiment import Experiment


@final
class KeepfastLogger(Logger):  # type: ignore[misc]
    """Writes what a Lightning module logs, and has the experiment that `KeepfastCallback` checkpoints with.

    A timestep is what Lightning counts for its loggers, a batch after which an optimizer steps: what it logs at
    the step t stands at t + 1, the number of those that are complete then.

    Args:
        cfg: the experiment's settings, in any form that `ExperimentConfig` takes.
        name: the run's name, which its directory ends with where the settings give none.

    Example::

        logger = KeepfastLogger({"directory": "runs", "experiment_name": "first", "best_metric": "val_loss"})
        trainer = Trainer(max_epochs=10, logger=logger, callbacks=[KeepfastCallback()], enable_checkpointing=False)
        trainer.fit(module)
        logger.close()
    """

    def __init__(self, cfg: Source = None, name: str = "lightning") -> None:
        super().__init__()
        self._cfg, self._name = cfg, name
        self._experiment: Experiment | None = None
        self._waiting: dict[int, dict[str, float]] = {}
        self.is_driven = False
        """Whether a callback says when what waits is to be written."""

    @property
    def experiment(self) -> Experiment:
        """Return the experiment, which is started when it is first asked for."""
        if self._experiment is None:
            self._experiment = Experiment(self._cfg, name=self._name)
        return self._experiment

    @property
    def name(self) -> str:
        """Return the run's name."""
        return self.experiment.directory.name

    @property
    def version(self) -> str:
        """Return nothing: a run has its name alone."""
        return ""

    @property
    def save_dir(self) -> str:
        """Return where runs are."""
        return str(self.experiment.directory.parent)

    @property
    def log_dir(self) -> str:
        """Return the run's directory."""
        return str(self.experiment.directory)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Store hyperparameters in ``config.json``."""
        own = vars(params) if isinstance(params, Namespace) else params
        if own:
            self.experiment.describe({"hparams": dict(own)})

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take values; those of one step are written together, when it is complete."""
        completed = self.experiment.completed if step is None else step + 1
        if not self.is_driven and completed not in self._waiting:
            self.write_waiting()
        self._waiting.setdefault(completed, {}).update({str(tag): float(value) for tag, value in metrics.items()})

    def write_waiting(self) -> None:
        """Write the values that wait."""
        waiting, self._waiting = self._waiting, {}
        for completed, values in waiting.items():
            self.experiment.log(values, completed)

    def save(self) -> None:
        """Write the values that wait, unless the callback will."""
        if not self.is_driven:
            self.write_waiting()

    def finalize(self, status: str) -> None:
        """Write the values that wait, and return when all is on disk."""
        if self._experiment is not None:
            self.write_waiting()
            self._experiment.wait()

    def close(self) -> None:
        """Close the experiment; the next fit starts another."""
        experiment, self._experiment = self._experiment, None
        if experiment is not None:
            for completed, values in self._waiting.items():
                experiment.log(values, completed)
            self._waiting = {}
            experiment.close()
