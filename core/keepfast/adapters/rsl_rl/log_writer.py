"""KeepfastLogWriter: rsl_rl's own metrics in Keepfast's writers, by its configuration alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, final

from rsl_rl.utils.log_writer import LogWriter

from keepfast.errors import InvalidValue
from keepfast.experiment import Experiment
from keepfast.interfaces.writer import Writer

_OF_THE_CLOCK = "/time"
"""How the tags end that rsl_rl writes a second time, at the seconds that have passed."""


@final
class KeepfastLogWriter(LogWriter):  # type: ignore[misc]
    """Writes what rsl_rl logs, at its iterations, into a run in rsl_rl's own directory.

    Args:
        log_dir: the directory, which rsl_rl gives.
        **settings: those of `keepfast.ExperimentConfig`, as the configuration has them beside ``class_name``.

    Example::

        "logger": {
            "class_name": "keepfast.adapters.rsl_rl.log_writer:KeepfastLogWriter",
            "writers": ["tensorboard", "jsonl"],
        }
    """

    def __init__(self, log_dir: str, **settings: Any) -> None:
        wrong = {"directory", "experiment_name"} & settings.keys()
        if wrong:
            raise InvalidValue(f"`{wrong.pop()}` is set for this logger; rsl_rl gives its `log_dir`, so leave it away")
        self.experiment = Experiment(settings, directory=Path(log_dir), name=Path(log_dir).name)
        self._waiting: dict[str, Any] = {}
        self._iteration = 0

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Take a value; those of one iteration are written together."""
        if tag.endswith(_OF_THE_CLOCK):
            return
        if global_step != self._iteration:
            self._write()
        self._iteration = int(global_step)
        self._waiting[tag] = scalar_value

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self.experiment.log(waiting, step=self._iteration)

    def store_config(self, env_cfg: dict[str, Any] | object, train_cfg: dict[str, Any]) -> None:
        """Store both configurations in ``config.json``."""
        own: Any = env_cfg
        environment = own if isinstance(own, Mapping) else own.to_dict() if hasattr(own, "to_dict") else None
        if environment is None and is_dataclass(own) and not isinstance(own, type):
            environment = asdict(own)
        self.experiment.describe({"train_cfg": train_cfg, "env_cfg": environment or repr(own)})

    def save_model(self, model_path: str, it: int) -> None:
        """Hand a checkpoint of rsl_rl's to the writers that keep files."""
        self._hand(Path(model_path), it, "model")

    def save_file(self, path: str) -> None:
        """Hand a file to the writers that keep files."""
        self._hand(Path(path), self._iteration, "file")

    def _hand(self, path: Path, step: int, kind: str) -> None:
        writer = self.experiment.writer
        if any(type(each).write_artifact is not Writer.write_artifact for each in writer.writers.values()):
            writer.write_artifact(path, step, time.time(), name=path.stem, kind=kind)

    def stop(self) -> None:
        """Write the last iteration, and close the run."""
        self._write()
        self.experiment.close()
