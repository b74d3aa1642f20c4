"""TensorBoardWriter: event files for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

import keepfast
from keepfast._system.disk.directories import make_directory
from keepfast.codec import plain
from keepfast.metrics.tfrecord import frame
from keepfast_writers._append_file import AppendFile
from keepfast_writers._gif import encode_gif, pillow
from keepfast_writers._tensorboard_library import EventLibrary, event_library
from keepfast_writers._tensorboard_summaries import graph_events, summary_of, write_embedding


@final
class TensorBoardWriter(keepfast.Writer):
    """Writes TensorBoard's event files, with PyTorch's SummaryWriter, tensorboardX, or the tensorboard package alone.

    All values of one step make one event. The library begins the file and forms the events; we append them ourselves,
    because the libraries' own queues lose events to a kill even after a flush, and their checksums take ten times as
    long. All libraries leave the same tags, steps and values, tags exactly as the user typed them.

    Args:
        context: the experiment.
        library: ``"torch"``, ``"tensorboardX"``, ``"tensorboard"``, or ``"auto"`` for the first of them that is
            installed.

    Raises:
        MissingDependency: if no library is installed; names what to install.
        OSError: if the experiment's directory cannot be written in.
    """

    def __init__(self, context: keepfast.WriterContext, library: str = "auto") -> None:
        self._directory = context.directory
        self.log_dir = str(context.directory)
        self._library = event_library(library)
        # Step k is written once k timesteps are complete: a run that goes on from k keeps it.
        purge_step = None if context.resume_step is None else context.resume_step + 1
        path, self._default_bins = self._library.create_file(self._directory, purge_step)
        try:
            self._file = AppendFile(path, path.read_bytes())
        except OSError:
            path.unlink(missing_ok=True)  # whoever tries again makes another
            raise
        self._hparams = dict(_hyperparameters(context.config)) if purge_step is None else {}
        self._session: Any = None
        self._vain_size = path.stat().st_size if purge_step is None else None

    @property
    def path(self) -> Path:
        """Return the event file."""
        return self._file.path

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write all values of one step as one event."""
        self._begin_session(scalars, wall_time)
        value = self._library.summary.Value
        values = [value(tag=tag, simple_value=scalar) for tag, scalar in scalars.items()]
        self._append(self._library.summary(value=values), step, wall_time)

    def _begin_session(self, scalars: Mapping[str, float], wall_time: float) -> None:
        """Tell TensorBoard's HPARAMS page, once something is tracked, with what the run was started."""
        if not self._hparams:
            return
        hparams, self._hparams = self._hparams, {}
        summaries = self._library.summaries.hparams(hparams, dict.fromkeys(scalars, 0.0))
        for summary in summaries[:2]:  # the experiment and the session's start
            self._append(summary, 0, wall_time)
        self._session = summaries[2]

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Write the distribution of an array."""
        edges = self._default_bins if isinstance(bins, str) and bins == "tensorflow" else bins
        self._append(_tagged(self._library.summaries.histogram(tag, values, edges), tag), step, wall_time)

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Write an image, or a batch of images ("NCHW") as a grid."""
        pillow()  # the libraries' own error would not say what to install
        summary = self._library.summaries.image(tag, image, dataformats=dataformats)
        self._append(_tagged(summary, tag), step, wall_time)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Write a text, which TensorBoard shows as Markdown."""
        self._append(_tagged(self._library.summaries.text(tag, text), f"{tag}/text_summary"), step, wall_time)

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Draw a matplotlib figure, or a list of them, and write the image."""
        image = self._library.figure_to_image(figure, close)
        self.write_image(tag, image, step, wall_time, dataformats="NCHW" if isinstance(figure, list) else "CHW")

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Write videos as an animated GIF."""
        gif, (height, width, channels) = encode_gif(video, fps)
        kind = self._library.summary
        image = kind.Image(height=height, width=width, colorspace=channels, encoded_image_string=gif)
        self._append(kind(value=[kind.Value(tag=tag, image=image)]), step, wall_time)

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Write hyperparameters and metrics for TensorBoard's HPARAMS page.

        They describe this run; with a `run_name` they describe a run of that name below this one's directory.
        """
        flat = {name: _flat(value) for name, value in hparams.items()}
        if run_name is None:
            self._append_hparams(self._file, flat, metrics, step, wall_time)
            return
        directory = self._directory / run_name
        make_directory(directory)
        file = AppendFile(self._library.create_file(directory, None)[0])
        self._append_hparams(file, flat, metrics, step, wall_time)
        file.close()

    def _append_hparams(
        self, file: AppendFile, hparams: dict[str, Any], metrics: Mapping[str, float], step: int, wall_time: float
    ) -> None:
        value = self._library.summary.Value
        for summary in self._library.summaries.hparams(hparams, dict(metrics)):
            file.append(_record(self._library, summary, step, wall_time))
        values = [value(tag=tag, simple_value=scalar) for tag, scalar in metrics.items()]
        file.append(_record(self._library, self._library.summary(value=values), step, wall_time))

    def write_summary(self, kind: str, tag: str, content: Mapping[str, Any], step: int, wall_time: float) -> None:
        """Write what TensorBoard has a page of its own for; see `keepfast.interfaces.summary.calls.KINDS`."""
        if kind in ("graph", "onnx_graph"):
            for event in graph_events(self._library, kind, content):
                event.step, event.wall_time = step, wall_time
                self._file.append(frame(event.SerializeToString()))
        elif kind == "embedding":
            write_embedding(self._directory, tag, content, step)
        else:
            self._append(summary_of(self._library, kind, tag, content), step, wall_time)

    def flush(self) -> None:
        """Return when all events are on disk."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the event file; one that holds nothing, and voids nothing, is removed."""
        if self._session is not None:
            session, self._session = self._session, None
            self._append(session, 0, time.time())
        self._file.close()
        if self._vain_size is not None:
            self._file.remove_if_grown_no_further_than(self._vain_size)

    def _append(self, summary: Any, step: int, wall_time: float) -> None:
        self._file.append(_record(self._library, summary, step, wall_time))


_MOST_HPARAMS = 500
"""How many hyperparameters of a configuration TensorBoard is told of."""


def _hyperparameters(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of an agent, those within others by names that are joined; not those of the experiment."""
    own = {key: value for key, value in config.items() if above or key not in ("experiment", "models")}
    yield from islice(_leaves(own, above), _MOST_HPARAMS)


def _leaves(config: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _flat(value)


def _record(library: EventLibrary, summary: Any, step: int, wall_time: float) -> bytes:
    return frame(library.event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


def _tagged(summary: Any, tag: str) -> Any:
    # tensorboardX turns blanks and brackets of tags into underscores.
    for value in summary.value:
        value.tag = tag
    return summary


def _flat(value: Any) -> Any:
    """Return a hyperparameter as TensorBoard has them: a number or a text."""
    made = plain(value)
    return str(made) if isinstance(made, list | dict) else made
