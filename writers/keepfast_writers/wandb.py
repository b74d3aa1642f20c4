"""WandbWriter: Weights & Biases."""

from __future__ import annotations

import dataclasses
import html
import importlib
import importlib.util
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

import keepfast
from keepfast._system.warnings import warn
from keepfast.codec import plain
from keepfast_writers._gif import encode_gif
from keepfast_writers._pictures import channels_last

_ODD = re.compile(r"[^A-Za-z0-9_.-]")

STEP = "timestep"
"""The axis that values are drawn over. Being our own, it may go back, where wandb's step would drop values."""


@final
class WandbWriter(keepfast.Writer):
    """Tracks a run with Weights & Biases, online or offline.

    With ``sync_tensorboard``, the default where the tensorboard package is installed, wandb follows the event files
    that the tensorboard writer makes, and this writer starts and ends the run. Without, or where that writer is not
    among the run's, this writer logs every value itself. A run that goes on from a checkpoint
    goes on under the same id.

    Args:
        context: the experiment.
        wandb_kwargs: arguments of ``wandb.init``. Where they are not given, ``name`` is the name of the experiment's
            directory and ``sync_tensorboard`` is True; ``config`` (a mapping, a namespace, a dataclass, a pydantic
            model or the path of a YAML file) is updated with the configurations of the agent, its trainer and its
            models, on one level, also where it is given.

    Raises:
        MissingDependency: if ``sync_tensorboard`` is given as True and the tensorboard package is not installed.
        Exception: what `wandb.init` raises: not logged in, service gone.
    """

    def __init__(self, context: keepfast.WriterContext, **wandb_kwargs: Any) -> None:
        arguments = {"name": context.experiment_name, **wandb_kwargs, **_continued(context)}
        arguments["sync_tensorboard"], self._synced = _follows_event_files(context, wandb_kwargs)
        self._directory = context.directory
        self._begun = "resume" not in arguments
        self._run: Any = None
        arguments["config"] = {**_config_of(wandb_kwargs.get("config")), **plain(_flat(context.config))}
        self._start(arguments)

    def _start(self, arguments: dict[str, Any]) -> None:
        import wandb

        self._ours = wandb.run is None  # a run of the user's own is the user's to end
        self._patched = self._synced and not wandb.patched["tensorboard"]
        if self._patched:  # told where the event files will lie, wandb does not search for ten seconds
            _tensorboard_hooks().patch(root_logdir=str(self._directory))
        try:
            self._run = wandb.init(**arguments)
        except BaseException:
            self._unpatch()
            raise
        self._state = {"id": self._run.id}
        if not self._synced:
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP)

    @property
    def run(self) -> Any:
        """Return wandb's run.

        Raises:
            UsageError: if it was ended.
        """
        if self._run is None:
            raise keepfast.UsageError("the Weights & Biases run has ended; make another writer")
        return self._run

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Log the values of one step, or leave them to the event files."""
        self._log(scalars, step)

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Log the distribution of an array."""
        edges = 64 if isinstance(bins, str) and bins == "tensorflow" else bins
        self._log_lazily(
            tag,
            lambda wandb: wandb.Histogram(np_histogram=np.histogram(values, bins=edges)),
            step,
        )

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Log an image, or each of a batch."""
        self._log_lazily(tag, lambda wandb: [wandb.Image(one) for one in channels_last(image, dataformats)], step)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Log a text."""
        self._log_lazily(tag, lambda wandb: wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False), step)

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Log a matplotlib figure, or each of a list, as an image."""
        figures = figure if isinstance(figure, list) else [figure]
        self._log_lazily(tag, lambda wandb: [wandb.Image(one) for one in figures], step)
        if close:
            from matplotlib import pyplot as plt

            for one in figures:
                plt.close(one)

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Log videos as an animated GIF."""
        gif = io.BytesIO(encode_gif(video, fps)[0])
        self._log_lazily(tag, lambda wandb: wandb.Video(gif, format="gif"), step)

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Add hyperparameters to the run's configuration, and metrics to its summary."""
        self.run.config.update(plain(hparams), allow_val_change=True)
        self.run.summary.update(dict(metrics))

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        """Log a file, or a directory, as an artifact, as it is now; those of one name are versions of one artifact.

        Characters of the name that wandb refuses become ``-``.
        """
        run = self.run
        import wandb

        artifact = wandb.Artifact(_ODD.sub("-", name), type=kind, metadata={STEP: step})
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        run.log_artifact(artifact)

    def _log_lazily(self, tag: str, make: Any, step: int) -> None:
        run = self.run
        if self._synced:
            return
        import wandb

        run.log({tag: make(wandb), STEP: step})

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        run = self.run
        if not self._synced:
            run.log({**values, STEP: step})

    def close(self) -> None:
        """End the run and wait until wandb has taken over everything."""
        run, self._run = self._run, None
        if run is None:
            return
        if self._ours:
            run.finish()
        self._unpatch()

    def _unpatch(self) -> None:
        if self._patched:
            _tensorboard_hooks().unpatch()

    def undo(self) -> None:
        """End the run and remove it, unless it is the user's own, was there before, or holds anything."""
        run = self._run
        vain = self._begun and self._ours and run is not None and not run.step and not dict(run.summary)
        self.close()
        if not vain:
            return
        if run.offline:
            shutil.rmtree(run.settings.sync_dir)
        else:
            import wandb

            wandb.Api().run(run.path).delete()

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id."""
        return dict(self._state)


def _follows_event_files(context: keepfast.WriterContext, given: Mapping[str, Any]) -> tuple[bool, bool]:
    """Say whether wandb is to follow event files, as told or where it can, and whether there will be some of ours."""
    asked = given.get("sync_tensorboard")
    if asked is not None and not asked:
        return False, False
    if importlib.util.find_spec("tensorboard") is None:
        message = "wandb needs the tensorboard package to follow event files; run: pip install tensorboard"
        if asked:
            raise keepfast.MissingDependency(message)
        warn(f"{message}; until then the values are logged one by one")
        return False, False
    writers = context.config.get("experiment", {}).get("writers", ["tensorboard"])
    names = {entry if isinstance(entry, str) else entry.get("name") for entry in writers}
    return True, bool(asked) or "tensorboard" in names


def _tensorboard_hooks() -> Any:
    return importlib.import_module("wandb.integration.tensorboard")


def _continued(context: keepfast.WriterContext) -> dict[str, Any]:
    run = context.resume_state.get("id")
    return {} if run is None else {"id": run, "resume": "allow"}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an agent, its trainer and its models on one level, where they are an agent's."""
    trainer, models = config.get("trainer"), config.get("models")
    if not isinstance(trainer, Mapping) or not isinstance(models, Mapping):
        return dict(config)
    own = {key: value for key, value in config.items() if key not in ("trainer", "models")}
    return {**own, **trainer, **models}


def _config_of(given: Any) -> dict[str, Any]:
    """Return a configuration in any of the forms that `wandb.init` takes, or of a dataclass or a pydantic model."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return dataclasses.asdict(given)
    if hasattr(given, "model_dump"):
        return dict(given.model_dump())
    helper = importlib.import_module("wandb").helper
    try:
        return dict(helper.parse_config(given))  # a namespace, flags, the path of a YAML file
    except TypeError:
        warn(
            f'the "config" of `wandb_kwargs` is {given!r:.80}, a {type(given).__name__}, and was left out; allowed: '
            "a mapping, a namespace, a dataclass, a pydantic model, or the path of a YAML file"
        )
        return {}
