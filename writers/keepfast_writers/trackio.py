"""TrackioWriter: trackio."""

from __future__ import annotations

import contextvars
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

import keepfast
from keepfast.codec import plain
from keepfast_writers._gif import encode_gif
from keepfast_writers._pictures import channels_last, close_figures, picture_of, picture_of_figure

_ODD = re.compile(r"[^A-Za-z0-9_.-]")

VOID = "keepfast.void"
"""The setting of a run that tells what a resume made void: [step, time] of each, beyond the step and until then."""


@final
class TrackioWriter(keepfast.Writer):
    """Tracks a run with trackio, in its files on this machine or in a Space of Hugging Face.

    Scalars, histograms, images, texts, figures and videos are kept under their tags, and checkpoints as artifacts. The
    configuration is the run's. A run that goes on from a checkpoint goes on as the same run; trackio takes nothing
    back, so the setting ``keepfast.void`` of the run tells what is void. trackio itself raises nothing where it cannot
    keep a value, and warns of it.

    Args:
        context: the experiment.
        project: the project.
        **arguments: others of ``trackio.init``. Where they are not given, ``name`` is the name of the experiment's
            directory, nothing is tracked of the processor and the GPU, and no page opens in a notebook.

    Raises:
        Exception: what ``trackio.init`` raises: no such Space, not logged in.
    """

    def __init__(self, context: keepfast.WriterContext, project: str = "keepfast", **arguments: Any) -> None:
        self._void = list(context.resume_state.get("void", []))
        goes_on = context.resume_step is not None
        if goes_on:
            self._void.append([context.resume_step, datetime.now(UTC).isoformat()])
        given = {
            "name": context.resume_state.get("name", context.experiment_name),
            "resume": "allow" if goes_on else "never",
            "auto_log_cpu": False,
            "auto_log_gpu": False,
            "embed": False,
            **arguments,
        }
        own = {**plain(dict(context.config)), **arguments.get("config", {}), **({VOID: self._void} if goes_on else {})}
        given["config"] = {key: value for key, value in own.items() if not key.startswith("_")}
        self._run: Any = _started(project, given)
        self._state = {"name": self._run.name, "id": self._run.id}

    @property
    def run(self) -> Any:
        """Return trackio's run.

        Raises:
            UsageError: if it was ended.
        """
        if self._run is None:
            raise keepfast.UsageError("the trackio run has ended; make another writer")
        return self._run

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Log the values of one step; trackio notes when it got them."""
        if scalars:
            self.run.log(dict(scalars), step=step)

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Log the distribution of an array."""
        import trackio

        edges = 64 if isinstance(bins, str) and bins == "tensorflow" else bins
        self.run.log({tag: trackio.Histogram(np_histogram=np.histogram(values, bins=edges))}, step=step)

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Log an image; those of a batch under tags with numbers."""
        self._log_pictures(tag, step, [picture_of(one) for one in channels_last(image, dataformats)])

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Log a text."""
        import trackio

        self.run.log({tag: trackio.Markdown(text)}, step=step)

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Log a matplotlib figure as an image; those of a list under tags with numbers."""
        figures = figure if isinstance(figure, list) else [figure]
        self._log_pictures(tag, step, [picture_of_figure(one) for one in figures])
        if close:
            close_figures(figures)

    def _log_pictures(self, tag: str, step: int, pictures: Sequence[Any]) -> None:
        import trackio

        tags = [tag] if len(pictures) == 1 else [f"{tag}/{number}" for number in range(len(pictures))]
        self.run.log({each: trackio.Image(one) for each, one in zip(tags, pictures, strict=True)}, step=step)

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Log videos as an animated GIF."""
        import trackio

        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "video.gif")
            path.write_bytes(encode_gif(video, fps)[0])
            self.run.log({tag: trackio.Video(path)}, step=step)

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Add hyperparameters to the run's configuration, and log the metrics."""
        run = self.run
        self.flush()  # of values that are sent together, trackio takes the configuration of the first
        run.config.update({str(key): value for key, value in plain(dict(hparams)).items()})
        run._config_logged = False  # noqa: SLF001  (so that it goes along with the next values)
        run.log(dict(metrics), step=step)

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        """Log a file, or a directory, as an artifact; those of one name are versions of one artifact."""
        import trackio

        artifact = trackio.Artifact(name=_ODD.sub("-", name), type=kind, metadata={"timestep": step})
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def flush(self) -> None:
        """Return when trackio's files on this machine hold all values; a Space gets them in its own time."""
        run = self._run
        if run is None or not run._is_local:  # noqa: SLF001
            return
        with run._client_lock:  # noqa: SLF001  (as its own thread does twice a second, for which it has no public call)
            run._flush_queues_inline()  # noqa: SLF001

    def close(self) -> None:
        """End the run, and wait until trackio has taken over everything."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the run's name and id, and what is void of it."""
        return {**self._state, "void": list(self._void)}


def _started(project: str, arguments: Mapping[str, Any]) -> Any:
    """Return a run that is nobody's current one: that of the user, if there is one, stays it."""
    import trackio

    config = trackio.config
    try:
        return contextvars.Context().run(partial(trackio.init, project, **arguments))
    finally:
        trackio.config = config
