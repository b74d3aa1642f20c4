"""MlflowWriter: MLflow."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

import keepfast
from keepfast._system.warnings import warn
from keepfast_writers._gif import encode_gif
from keepfast_writers._pictures import channels_last, close_figures, picture_of, picture_of_figure
from keepfast_writers._settings import settings_of

_BRACKETS = re.compile(r"[()\[\]{}]")
_ODD = re.compile(r"[^\w.\- /]")
_LONGEST, _LONGEST_VALUE = 250, 6000

TAG_OF = "keepfast.tag."
"""How the tags of a run begin that tell a metric's own tag, where MLflow allows no such name."""

VOID = "keepfast.void"
"""The tag of a run that tells what a resume made void: [step, time in ms] of each, beyond the step and until then."""

_DIRECTORY = "keepfast.directory"
"""The tag of a run that tells its directory."""

_WAIT_SECONDS = 2.0
_WAITING_METRICS = 500
"""Values are sent together: once so many wait, or the first of them has for so long."""

_MOST_WAITING = 100_000
"""How many values wait for a server that takes none; beyond that the oldest are given up."""

_MOST_AT_ONCE, _MOST_PARAMS = 1000, 100


@final
class MlflowWriter(keepfast.Writer):
    """Tracks a run with MLflow, on a server or in a database.

    MLflow allows letters, digits, ``_-. /`` in the name of a metric: brackets are left away, so that it has
    ``Reward / Total reward (mean)`` as ``Reward / Total reward mean``, and other signs become ``_``. A tag of the run
    tells what such a metric was called. The configuration is the run's parameters. Images, texts, figures, videos and
    histograms are files of the run, in folders of these names, as are checkpoints. A run that goes on from a checkpoint
    goes on as the same run; MLflow takes nothing back, so the tag ``keepfast.void`` tells what is void.

    Args:
        context: the experiment.
        tracking_uri: where MLflow keeps runs, ``"sqlite:///mlflow.db"`` or the address of a server; as MLflow is set up
            if None.
        experiment: the name of MLflow's experiment, which is made where there is none; as MLflow is set up if None.
        run_name: the run's name; that of the experiment's directory if None.
        tags: tags of the run.
        artifact_location: where a new experiment keeps its files; as MLflow is set up if None.

    Raises:
        Exception: what MLflow raises: no server there, not allowed.
    """

    def __init__(
        self,
        context: keepfast.WriterContext,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        artifact_location: str | None = None,
    ) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._client, self._metric = MlflowClient(tracking_uri), Metric
        self._state: dict[str, Any] = {"void": list(context.resume_state.get("void", []))}
        self._waiting: list[Any] = []
        self._waiting_since, self._is_closed, self._wrote = 0.0, False, False
        made_of = {**(tags or {}), _DIRECTORY: str(context.directory)}
        name = context.experiment_name if run_name is None else run_name
        self._run = self._start(context, _experiment(self._client, experiment, artifact_location), name, made_of)
        self._names = _Names(self._run.data.tags)
        self._state["run_id"] = self._id = self._run.info.run_id
        if context.resume_step is not None:
            self._void(context.resume_step)
        self._set_parameters(dict(settings_of(context.config)))

    def _start(self, context: keepfast.WriterContext, experiment: str, name: str, tags: Mapping[str, Any]) -> Any:
        """Return the run that goes on, or a new one."""
        known = context.resume_state.get("run_id")
        if known is None and context.resume_step is not None:
            where = f"tags.`{_DIRECTORY}` = '{tags[_DIRECTORY]}'"
            found = self._client.search_runs([experiment], where, max_results=1)
            known = found[0].info.run_id if found else None
        self._begun = known is None
        if known is None:
            return self._client.create_run(experiment, tags={key: str(tag) for key, tag in tags.items()}, run_name=name)
        self._client.update_run(known, status="RUNNING")
        return self._client.get_run(known)

    def _void(self, step: int) -> None:
        """Tell which values are void now: those at later steps, until the latest of them all."""
        last = [metric.timestamp for metric in self._run.data._metric_objs if metric.step > step]  # noqa: SLF001
        if last:
            self._state["void"] = [*self._state["void"], [step, max(last)]]
        self._client.set_tag(self._id, VOID, json.dumps(self._state["void"]))

    def _set_parameters(self, given: Mapping[str, Any]) -> None:
        """Set parameters; those that have another value already keep it, which is told."""
        from mlflow.entities import Param

        own = {_allowed(key): str(value)[:_LONGEST_VALUE] for key, value in given.items()}
        there = self._client.get_run(self._id).data.params
        other = sorted(key for key in own if there.get(key, own[key]) != own[key])
        if other:
            warn(f"MLflow keeps the first value of a parameter, and these have another one now: {', '.join(other)}")
        new = [Param(key, value) for key, value in own.items() if key not in there]
        for first in range(0, len(new), _MOST_PARAMS):
            self._client.log_batch(self._id, params=new[first : first + _MOST_PARAMS])

    @property
    def run_id(self) -> str:
        """Return the id that MLflow has for the run."""
        return str(self._id)

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Take the values of one step, and send those that wait once they are many, or have waited."""
        self._check_open()
        if not self._waiting:
            self._waiting_since = time.monotonic()
        named = [(self._named(tag), value) for tag, value in scalars.items()]
        self._waiting += [self._metric(name, value, int(wall_time * 1000), step) for name, value in named]
        if len(self._waiting) >= _WAITING_METRICS or time.monotonic() - self._waiting_since > _WAIT_SECONDS:
            self.flush()

    def _named(self, tag: str) -> str:
        name, is_new = self._names.of(tag)
        if is_new:
            self._client.set_tag(self._id, f"{TAG_OF}{name}"[:_LONGEST], tag)
        return name

    def _check_open(self) -> None:
        if self._is_closed:
            raise keepfast.UsageError("the MLflow run has ended; make another writer")

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Keep the distribution of an array as a file: counts, and the edges of the bins."""
        counts, edges = np.histogram(values, bins=64 if isinstance(bins, str) and bins == "tensorflow" else bins)
        kept = {"counts": counts.tolist(), "edges": edges.tolist()}
        self._client.log_dict(self._id, kept, self._file("histograms", tag, step, ".json"))

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Keep an image, or each of a batch, as a file."""
        self._keep_pictures("images", tag, step, [picture_of(one) for one in channels_last(image, dataformats)])

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Keep a text as a file."""
        self._client.log_text(self._id, text, self._file("texts", tag, step, ".md"))

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Keep a matplotlib figure, or each of a list, as an image."""
        figures = figure if isinstance(figure, list) else [figure]
        self._keep_pictures("figures", tag, step, [picture_of_figure(one) for one in figures])
        if close:
            close_figures(figures)

    def _keep_pictures(self, folder: str, tag: str, step: int, pictures: Sequence[Any]) -> None:
        for number, picture in enumerate(pictures):
            ending = f"-{number}.png" if len(pictures) > 1 else ".png"
            self._client.log_image(self._id, picture, self._file(folder, tag, step, ending))

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Keep videos as an animated GIF."""
        *folder, name = self._file("videos", tag, step, ".gif").split("/")
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, name)
            path.write_bytes(encode_gif(video, fps)[0])
            self._client.log_artifact(self._id, str(path), "/".join(folder))

    def _file(self, folder: str, tag: str, step: int, ending: str) -> str:
        self._check_open()
        self._wrote = True
        return f"{folder}/{_allowed(tag)}/{step}{ending}"

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Add hyperparameters to the run's parameters, and metrics to its own."""
        self._check_open()
        self._set_parameters(dict(settings_of(hparams)))
        self.write_scalars(metrics, step, wall_time)

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        """Keep a file, or a directory, of the run; one of the same kind, name and file name takes its place."""
        self._check_open()
        self._wrote = True
        folder = f"{_allowed(kind)}/{_allowed(name)}"
        if path.is_dir():
            self._client.log_artifacts(self._id, str(path), f"{folder}/{path.name}")
        else:
            self._client.log_artifact(self._id, str(path), folder)

    def flush(self) -> None:
        """Return when MLflow has taken all values; those that it did not take wait for the next time."""
        while self._waiting:
            self._waiting_since = time.monotonic()
            del self._waiting[:-_MOST_WAITING]
            self._client.log_batch(self._id, metrics=self._waiting[:_MOST_AT_ONCE])
            del self._waiting[:_MOST_AT_ONCE]
            self._wrote = True

    def close(self) -> None:
        """Send what waits, and end the run."""
        if not self._is_closed:
            self.flush()
            self._is_closed = True
            self._client.set_terminated(self._id)

    def undo(self) -> None:
        """End the run, and delete it, unless it was there before or holds anything."""
        self.close()
        if self._begun and not self._wrote:
            self._client.delete_run(self._id)

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id, and what is void of it."""
        return dict(self._state)


@final
class _Names:
    """The names that MLflow has for tags, no two of them the same.

    Args:
        tags: the tags of the run, in which a run before told some.
    """

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._names = {tag: key.removeprefix(TAG_OF) for key, tag in tags.items() if key.startswith(TAG_OF)}
        self._taken = {name: tag for tag, name in self._names.items()}

    def of(self, tag: str) -> tuple[str, bool]:
        """Return the name of a tag, and whether that is another one which nobody was told yet."""
        if tag in self._names:
            return self._names[tag], False
        name = _allowed(tag)
        if self._taken.get(name, tag) != tag:
            name = f"{name[: _LONGEST - 9]} {_digest(tag)}"
        self._names[tag], self._taken[name] = name, tag
        return name, name != tag


def _allowed(tag: str) -> str:
    """Return a name as MLflow allows it: some signs, no empty part of a path, not too long."""
    cleaned = _ODD.sub("_", _BRACKETS.sub("", tag))
    parts = [part if part.strip(" .") else "_" for part in cleaned.split("/")]
    name = "/".join(parts).strip() or "_"
    longest = _LONGEST - len(TAG_OF)
    return name if len(name) <= longest else f"{name[: longest - 9]} {_digest(tag)}"


def _digest(tag: str) -> str:
    return hashlib.sha256(tag.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _experiment(client: Any, name: str | None, artifact_location: str | None) -> str:
    """Return the id of MLflow's experiment of a name, which is made where there is none."""
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name, artifact_location) if found is None else found.experiment_id)


def void_spans(tags: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Yield what the tags of a run tell to be void: values beyond a step, written until a time in ms."""
    yield from ((int(step), int(until)) for step, until in json.loads(tags.get(VOID, "[]")))
