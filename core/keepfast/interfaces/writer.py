"""Writer: where values go."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from numpy.typing import NDArray

from keepfast._arrays import scalar
from keepfast._system.arguments.checks import table
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.finishing import finish
from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue, ShapeMismatch, as_given, did_you_mean
from keepfast.interfaces.summary.calls import KINDS, SummaryCalls
from keepfast.interfaces.summary.checks import bins_of, image, mapping, numbers, step_of, string, time_of


@final
@dataclass(frozen=True)
class WriterContext:
    """What a writer's factory is told.

    Attributes:
        directory: the experiment's directory, which exists.
        experiment_name: its name.
        config: the agent's whole configuration, with the level ``"experiment"``.
        resume_step: the timestep the run continues from, or None for a new run; what lies beyond it is void.
        resume_state: what this writer's `state_dict` returned when the checkpoint was taken that the run continues
            from, for a writer that needs it before it starts; every writer gets it by `load_state_dict` too.
    """

    directory: Path
    experiment_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    resume_step: int | None = None
    resume_state: Mapping[str, Any] = field(default_factory=dict)


@guarded_calls()
class Writer(SummaryCalls):
    """Writes scalars, and whatever else it can, to one place.

    The smallest complete writer::

        class PrintWriter(keepfast.Writer):
            def __init__(self, context, prefix=""):
                self.prefix = prefix

            def write_scalars(self, scalars, step, wall_time):
                for tag, value in scalars.items():
                    print(self.prefix, step, tag, value)

    Registered by a plugin: ``keepfast_writers`` returns ``{"print": PrintWriter}``. A user then writes
    ``"writers": ["tensorboard", {"name": "print", "prefix": "> "}]``. `keepfast.testing.WriterContract` proves it.

    Steps are completed timesteps, also those given to the `add_*` methods: a run that goes on from a checkpoint voids
    what was written at later ones, whatever the caller counted with them. Wall times are seconds since the epoch; tags
    arrive as the user typed them. Calls come from one thread at a time, and seldom from the one that made the writer. A
    writer that raises does not end the run: it is reported, and goes on being asked.
    """

    @abc.abstractmethod
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write the values of one step. Each value is a Python float and may be infinite or NaN."""

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Write the distribution of an array of any shape; `bins` as SummaryWriter takes it."""
        self._not_kept("histograms")

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Write an image: uint8 in 0 to 255 or floats in 0 to 1, its axes named by `dataformats`."""
        self._not_kept("images")

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Write a text."""
        self._not_kept("texts")

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Write a matplotlib figure, or several; `close` says whether to close them after."""
        self._not_kept("figures")

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Write videos of shape (N, T, C, H, W), uint8 in 0 to 255 or floats in 0 to 1."""
        self._not_kept("videos")

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Write hyperparameters and the metrics they led to."""
        self._not_kept("hyperparameters")

    def write_summary(self, kind: str, tag: str, content: Mapping[str, Any], step: int, wall_time: float) -> None:
        """Write what TensorBoard has a page of its own for.

        Args:
            kind: one of `keepfast.interfaces.summary.calls.KINDS`, each with an ``add_`` method of that name.
            tag: what it is.
            content: what that method was given, by name, checked, arrays on the host.
            step: the step.
            wall_time: the time.
        """
        self._not_kept(KINDS[kind])

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        """Write a reference to, or a copy of, a file that the run produced; `kind` is checkpoint, memory or another.

        For trackers that keep files. Whoever has one to keep calls this on `Experiment.writer`.
        """
        self._not_kept("artifacts")

    def flush(self) -> None:
        """Return when all that was written before is on disk, or wherever this writer keeps it."""
        return

    def close(self) -> None:
        """Flush and release everything; called at least once, and harmless after the first time."""
        return

    def undo(self) -> None:
        """Close, and take back what was begun: nothing was written, and the run goes on as another one.

        For what does not lie in the run's directory, which is removed then.
        """
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what this writer needs to continue the run elsewhere, a tree that travels with checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, where a run goes on from a checkpoint, before anything is written.

        What is needed earlier, when the writer is made, is in `WriterContext.resume_state`.
        """
        return

    @final
    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
        display_name: str = "",
        summary_description: str = "",
    ) -> None:
        """Write one value at once, as torch's SummaryWriter does: a number, or a tensor or array holding one.

        The last four arguments, which the libraries of TensorBoard have, make no difference.

        Raises:
            InvalidValue: if it is no single number, or the tag no string, as in every call that follows.
        """
        self.write_scalars({string(tag, "tag"): scalar(scalar_value, tag)}, step_of(global_step), time_of(walltime))

    @final
    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: str | Sequence[float] = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Write the distribution of an array or tensor of any shape; `max_bins` are so many bins of equal width."""
        array = numbers(values, "values")
        edges = bins_of(bins, max_bins, array)
        self.write_histogram(string(tag, "tag"), array, step_of(global_step), time_of(walltime), bins=edges)

    @final
    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Write an image; by default its shape is (channels, height, width)."""
        given = image(img_tensor, "img_tensor", dataformats)
        step = step_of(global_step)
        self.write_image(string(tag, "tag"), given, step, time_of(walltime), dataformats=dataformats.upper())

    @final
    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Write a text.

        Raises:
            InvalidValue: if it is no string.
        """
        self.write_text(string(tag, "tag"), string(text_string, "text_string"), step_of(global_step), time_of(walltime))

    @final
    def add_figure(
        self,
        tag: str,
        figure: Any,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """Write a matplotlib figure, or a list of them.

        Raises:
            InvalidValue: if it is anything else.
        """
        self.write_figure(string(tag, "tag"), _figures(figure), step_of(global_step), time_of(walltime), close=close)

    @final
    def add_video(
        self,
        tag: str,
        vid_tensor: Any,
        global_step: int | None = None,
        fps: float = 4,
        walltime: float | None = None,
    ) -> None:
        """Write videos of shape (N, T, C, H, W).

        Raises:
            ShapeMismatch: if they have another.
            InvalidValue: if they are no numbers, or `fps` is no positive one.
        """
        video = numbers(vid_tensor, "vid_tensor")
        if video.ndim != 5:
            raise ShapeMismatch(f"a video has the shape {video.shape}; allowed: (N, T, C, H, W)")
        if not scalar(fps, "fps") > 0:
            raise InvalidValue(f"`fps` is {as_given(fps)}; allowed: a number above 0")
        self.write_video(string(tag, "tag"), video, step_of(global_step), time_of(walltime), fps=fps)

    @final
    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Write hyperparameters and the metrics they led to; the discrete domains are not kept.

        Raises:
            InvalidValue: if these are no mappings, or both empty, or a domain is of no hyperparameter.
        """
        hparams = {string(name, "hparam_dict"): value for name, value in mapping(hparam_dict, "hparam_dict").items()}
        given = mapping(metric_dict, "metric_dict").items()
        metrics = {string(tag, "tag"): scalar(value, tag) for tag, value in given}
        if not hparams and not metrics:
            raise InvalidValue("`hparam_dict` and `metric_dict` are both empty; allowed: at least one with a value")
        for name in table("hparam_domain_discrete", hparam_domain_discrete):
            if name not in hparams:
                raise InvalidValue(f"`hparam_domain_discrete` names `{name}`{did_you_mean(name, hparams)}")
        self.write_hparams(hparams, metrics, step_of(global_step), time_of(None), run_name=run_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finish(self.close, after=error)

    def _not_kept(self, what: str) -> None:
        # Plugins need not call __init__ of this class, so the memory of what was told is made at the first need.
        told: set[str] = self.__dict__.setdefault("_told_not_kept", set())
        if what not in told:
            told.add(what)
            warn(f"{type(self).__name__} does not keep {what}; they are dropped (this is told once)")


def _figures(given: Any) -> Any:
    figures = given if isinstance(given, list) else [given]
    if figures and all(hasattr(figure, "canvas") for figure in figures):
        return given
    raise InvalidValue(
        f"`figure` is {as_given(given)} ({type(given).__name__}); allowed: a matplotlib figure, or a list of them"
    )
