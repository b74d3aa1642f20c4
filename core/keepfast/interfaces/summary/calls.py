"""The calls of torch's SummaryWriter that few writers have something for."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import scalar
from keepfast._system.arguments.checks import listed, names
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.disk.directories import path_of
from keepfast.errors import InvalidValue, UsageError, as_given
from keepfast.interfaces.summary.checks import image, mapping, numbers, step_of, string, time_of, whole

KINDS: Mapping[str, str] = {
    "audio": "audio",
    "pr_curve": "precision-recall curves",
    "pr_curve_raw": "precision-recall curves",
    "mesh": "meshes",
    "embedding": "embeddings",
    "graph": "graphs",
    "onnx_graph": "graphs",
    "layout": "layouts of charts",
    "histogram_raw": "histograms that were counted elsewhere",
    "boxes": "images with boxes",
    "tensor": "tensors",
}
"""What `write_summary` may be given, and what a writer that does not keep it says that is."""


@guarded_calls()
class SummaryCalls(abc.ABC):
    """Offers what torch's SummaryWriter does beyond scalars, and checks what it is given.

    Attributes:
        log_dir: the run's directory, "" where the writer knows none.
    """

    log_dir: str = ""

    @abc.abstractmethod
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write the values of one step."""

    @abc.abstractmethod
    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Write an image."""

    @abc.abstractmethod
    def write_summary(self, kind: str, tag: str, content: Mapping[str, Any], step: int, wall_time: float) -> None:
        """Write what TensorBoard has a page of its own for: one of `KINDS`."""

    @final
    def get_logdir(self) -> str:
        """Return the run's directory.

        Raises:
            UsageError: if the writer knows none.
        """
        if not self.log_dir:
            raise UsageError(f"{type(self).__name__} writes into no directory of a run")
        return self.log_dir

    @final
    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Write several values at once, each under ``main_tag/its tag``.

        They are tags of this run. torch's SummaryWriter makes a run of its own of each, in a directory below this one.
        """
        main = string(main_tag, "main_tag")
        given = mapping(tag_scalar_dict, "tag_scalar_dict").items()
        values = {f"{main}/{string(tag, 'tag')}": scalar(value, tag) for tag, value in given}
        self.write_scalars(values, step_of(global_step), time_of(walltime))

    @final
    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Write a batch of images; by default its shape is (N, channels, height, width)."""
        images = image(img_tensor, "img_tensor", dataformats)
        step = step_of(global_step)
        self.write_image(string(tag, "tag"), images, step, time_of(walltime), dataformats=dataformats.upper())

    @final
    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Any,
        box_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        rescale: float = 1,
        dataformats: str = "CHW",
        labels: Sequence[str] | None = None,
    ) -> None:
        """Write an image with boxes drawn into it, each as (left, top, right, bottom)."""
        content = {
            "image": image(img_tensor, "img_tensor", dataformats),
            "boxes": numbers(box_tensor, "box_tensor", dimensions=(2,)),
            "rescale": rescale,
            "dataformats": dataformats.upper(),
            "labels": None if labels is None else names("labels", labels),
        }
        self._summary("boxes", tag, content, global_step, walltime)

    @final
    def add_audio(
        self,
        tag: str,
        snd_tensor: Any,
        global_step: Any = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Write a sound: samples between -1 and 1, of shape (n,) or (1, n)."""
        samples = numbers(snd_tensor, "snd_tensor", dimensions=(1, 2)).astype(np.float64)
        if samples.ndim > 1 and samples.shape[0] != 1:
            raise InvalidValue(f"`snd_tensor` has the shape {samples.shape}; allowed: (n,) or (1, n)")
        content = {"samples": samples.reshape(-1), "sample_rate": whole(sample_rate, "sample_rate")}
        self._summary("audio", tag, content, global_step, walltime)

    @final
    def add_pr_curve(
        self,
        tag: str,
        labels: Any,
        predictions: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Write a precision-recall curve of labels (0 or 1) and predictions (0 to 1)."""
        truth, guessed = numbers(labels, "labels"), numbers(predictions, "predictions")
        if truth.size != guessed.size:
            raise InvalidValue(f"`labels` has {truth.size} elements, and `predictions` {guessed.size}; allowed: like")
        content = {
            "labels": truth,
            "predictions": guessed,
            "num_thresholds": whole(num_thresholds, "num_thresholds"),
            "weights": None if weights is None else numbers(weights, "weights"),
        }
        self._summary("pr_curve", tag, content, global_step, walltime)

    @final
    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: Any,
        false_positive_counts: Any,
        true_negative_counts: Any,
        false_negative_counts: Any,
        precision: Any,
        recall: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Write a precision-recall curve that was counted elsewhere."""
        parts = {
            "tp": true_positive_counts,
            "fp": false_positive_counts,
            "tn": true_negative_counts,
            "fn": false_negative_counts,
            "precision": precision,
            "recall": recall,
        }
        content: dict[str, Any] = {name: numbers(part, name) for name, part in parts.items()}
        content["num_thresholds"] = whole(num_thresholds, "num_thresholds")
        content["weights"] = None if weights is None else numbers(weights, "weights")
        self._summary("pr_curve_raw", tag, content, global_step, walltime)

    @final
    def add_histogram_raw(
        self,
        tag: str,
        min: float,  # noqa: A002  (torch's name)
        max: float,  # noqa: A002  (torch's name)
        num: float,
        sum: float,  # noqa: A002  (torch's name)
        sum_squares: float,
        bucket_limits: Any,
        bucket_counts: Any,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Write a histogram that was counted elsewhere."""
        limits, counts = numbers(bucket_limits, "bucket_limits"), numbers(bucket_counts, "bucket_counts")
        if limits.size != counts.size:
            raise InvalidValue(f"there are {limits.size} `bucket_limits` and {counts.size} `bucket_counts`")
        told = {"min": min, "max": max, "num": num, "sum": sum, "sum_squares": sum_squares}
        content: dict[str, Any] = {name: scalar(value, name) for name, value in told.items()}
        content.update(bucket_limits=limits.astype(np.float64), bucket_counts=counts.astype(np.float64))
        self._summary("histogram_raw", tag, content, global_step, walltime)

    @final
    def add_mesh(
        self,
        tag: str,
        vertices: Any,
        colors: Any = None,
        faces: Any = None,
        config_dict: Mapping[str, Any] | None = None,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Write a mesh or a cloud of points: vertices, colors and faces of shape (batch, n, 3)."""
        content = {
            "vertices": numbers(vertices, "vertices", dimensions=(3,)),
            "colors": None if colors is None else numbers(colors, "colors", dimensions=(3,)),
            "faces": None if faces is None else numbers(faces, "faces", dimensions=(3,)),
            "config_dict": None if config_dict is None else dict(mapping(config_dict, "config_dict")),
        }
        self._summary("mesh", tag, content, global_step, walltime)

    @final
    def add_embedding(
        self,
        mat: Any,
        metadata: Sequence[Any] | None = None,
        label_img: Any = None,
        global_step: Any = None,
        tag: str = "default",
        metadata_header: Sequence[str] | None = None,
    ) -> None:
        """Write points of shape (n, dimensions) for TensorBoard's projector, with a label or image of each."""
        points = numbers(mat, "mat", dimensions=(2,))
        images = None if label_img is None else image(label_img, "label_img", "NCHW")
        rows = None if metadata is None else listed("metadata", metadata, "a label for each point")
        for name, part in (("metadata", rows), ("label_img", images)):
            if part is not None and len(part) != len(points):
                raise InvalidValue(f"`{name}` is of {len(part)} points, and `mat` of {len(points)}")
        header = None if metadata_header is None else names("metadata_header", metadata_header)
        content = {"points": points, "metadata": rows, "images": images, "header": header}
        self._summary("embedding", tag, content, global_step, None)

    @final
    def add_graph(
        self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Write the graph of a torch module, which is traced with an input."""
        if not callable(getattr(model, "forward", None)):
            raise InvalidValue(f"`model` is a {type(model).__qualname__}; allowed: a torch module")
        content = {"model": model, "input": input_to_model, "verbose": verbose, "strict": use_strict_trace}
        self._summary("graph", "graph", content, None, None)

    @final
    def add_onnx_graph(self, prototxt: Any) -> None:
        """Write the graph of an ONNX file."""
        self._summary("onnx_graph", "graph", {"path": str(path_of(prototxt))}, None, None)

    @final
    def add_tensor(self, tag: str, tensor: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """Write an array as it is."""
        self._summary("tensor", tag, {"array": numbers(tensor, "tensor")}, global_step, walltime)

    @final
    def add_custom_scalars(self, layout: Mapping[str, Any]) -> None:
        """Write which charts TensorBoard draws of several tags, by category and chart."""
        self._summary("layout", "layout", {"layout": mapping(layout, "layout")}, None, None)

    @final
    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Write that several tags are drawn in one chart."""
        self._chart(category, title, "Multiline", names("tags", tags))

    @final
    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Write that a tag is drawn between two others, its lower and upper margin."""
        drawn = names("tags", tags)
        if len(drawn) != 3:
            raise InvalidValue(f"`tags` is {as_given(tags)}; allowed: three, the value and its lower and upper margin")
        self._chart(category, title, "Margin", drawn)

    def _chart(self, category: str, title: str, kind: str, tags: list[str]) -> None:
        self.add_custom_scalars({string(category, "category"): {string(title, "title"): [kind, tags]}})

    def _summary(self, kind: str, tag: str, content: Mapping[str, Any], step: Any, walltime: float | None) -> None:
        self.write_summary(kind, string(tag, "tag"), content, step_of(step), time_of(walltime))
