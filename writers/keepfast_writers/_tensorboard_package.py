"""Summaries and event files made with the protocol buffers of the tensorboard package alone.

The functions are called, and what they return is named, as in ``torch.utils.tensorboard.summary``. The layouts are
TensorBoard's: ``summary.proto``, and the plugins ``text`` and ``hparams``.
"""

from __future__ import annotations

import importlib
import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast import InvalidValue
from keepfast._system.disk.directories import make_directory
from keepfast.metrics.tfrecord import frame
from keepfast_writers._gif import pillow
from keepfast_writers._tensorboard_plugins import custom_scalars, histogram_raw, mesh, pr_curve, pr_curve_raw

__all__ = [
    "SummaryWriter",
    "custom_scalars",
    "figure_to_image",
    "histogram",
    "histogram_raw",
    "hparams",
    "image",
    "image_boxes",
    "mesh",
    "pr_curve",
    "pr_curve_raw",
    "text",
]

_COLUMNS = 8
"""How many images of a batch stand beside one another."""


def _proto(name: str) -> Any:
    return importlib.import_module(f"tensorboard.compat.proto.{name}")


def _edges() -> NDArray[np.float64]:
    """Return the edges of TensorFlow's own histograms: each is a tenth larger than the one before."""
    positive, edge = [], 1e-12
    while edge < 1e20:
        positive.append(edge)
        edge *= 1.1  # as it is done there, to the last bit
    return np.array([*(-each for each in reversed(positive)), 0.0, *positive])


@final
class SummaryWriter:
    """Begins an event file, as the SummaryWriter of a library does.

    Args:
        log_dir: the directory.
        purge_step: TensorBoard hides what other files of the directory hold of this step and later ones.
        filename_suffix: the end of the file's name.
    """

    def __init__(self, log_dir: str, purge_step: int | None = None, filename_suffix: str = "") -> None:
        self.default_bins = _edges()
        event = _proto("event_pb2")
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.0{filename_suffix}"
        events = [event.Event(wall_time=now, file_version="brain.Event:2")]
        if purge_step is not None:
            start = event.SessionLog(status=event.SessionLog.START)
            events.append(event.Event(wall_time=now, step=purge_step, session_log=start))
        make_directory(Path(log_dir))
        (Path(log_dir) / name).write_bytes(b"".join(frame(each.SerializeToString()) for each in events))

    def close(self) -> None:
        """Do nothing: the file is complete."""


def histogram(tag: str, values: NDArray[Any], bins: Any) -> Any:
    """Return the distribution of an array."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if not flat.size:
        raise InvalidValue(f"the values of `{tag}` are none; a histogram needs at least one")
    counts, edges = np.histogram(flat, bins=bins)
    used = np.flatnonzero(counts)
    first, last = (used[0], used[-1]) if len(used) else (0, len(counts) - 1)
    summary = _proto("summary_pb2")
    made = summary.HistogramProto(
        min=flat.min(),
        max=flat.max(),
        num=len(flat),
        sum=flat.sum(),
        sum_squares=flat.dot(flat),
        bucket_limit=[edges[first], *edges[first + 1 : last + 2]],
        bucket=[0.0, *counts[first : last + 1]],
    )
    return summary.Summary(value=[summary.Summary.Value(tag=tag, histo=made)])


def image(tag: str, tensor: NDArray[Any], dataformats: str = "CHW") -> Any:
    """Return an image, or a batch of images as a grid."""
    pixels = _bytes(_grid(_channels_last(np.asarray(tensor), dataformats)))
    return _image(tag, pixels.shape, _drawn(pixels))


def image_boxes(
    tag: str,
    tensor: NDArray[Any],
    boxes: NDArray[Any],
    rescale: float = 1,
    dataformats: str = "CHW",
    labels: Sequence[str] | None = None,
) -> Any:
    """Return an image with boxes in red, each by its left, upper, right and lower edge, and with its label."""
    pixels = _bytes(_grid(_channels_last(np.asarray(tensor), dataformats)))
    drawn = _drawn(pixels)
    draw = importlib.import_module("PIL.ImageDraw").Draw(drawn)
    for number, (left, upper, right, lower) in enumerate(np.asarray(boxes).tolist()):
        corners = [(left, upper), (left, lower), (right, lower), (right, upper), (left, upper)]
        draw.line(corners, width=2, fill="Red")
        if labels is not None and labels[number]:
            draw.text((left + 1, lower - 11), labels[number], fill="black")
    size = tuple(max(1, int(length * rescale)) for length in (pixels.shape[1], pixels.shape[0]))
    return _image(tag, pixels.shape, drawn.resize(size, pillow().Resampling.LANCZOS))


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels if pixels.dtype == np.uint8 else (pixels * 255).clip(0, 255).astype(np.uint8)


def _drawn(pixels: NDArray[np.uint8]) -> Any:
    return pillow().fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _image(tag: str, shape: tuple[int, ...], drawn: Any) -> Any:
    height, width, channels = shape
    file = io.BytesIO()
    drawn.save(file, format="PNG")
    kind = _proto("summary_pb2").Summary
    made = kind.Image(height=height, width=width, colorspace=channels, encoded_image_string=file.getvalue())
    return kind(value=[kind.Value(tag=tag, image=made)])


def _channels_last(pixels: NDArray[Any], dataformats: str) -> NDArray[Any]:
    """Return images of shape (N, H, W, C)."""
    if len(dataformats) != pixels.ndim or not set(dataformats.upper()) <= set("NHWC"):
        raise InvalidValue(f"`dataformats` is {dataformats!r} for an image of {pixels.ndim} dimensions")
    missing = [axis for axis in "NHWC" if axis not in dataformats.upper()]
    expanded = pixels.reshape(*pixels.shape, *(1 for _ in missing))
    axes = dataformats.upper() + "".join(missing)
    return expanded.transpose([axes.index(axis) for axis in "NHWC"])


def _grid(images: NDArray[Any]) -> NDArray[Any]:
    count, height, width, channels = images.shape
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    grid = np.zeros((rows * height, columns * width, channels), images.dtype)
    for number, each in enumerate(images):
        row, column = divmod(number, columns)
        grid[row * height : (row + 1) * height, column * width : (column + 1) * width] = each
    return grid


def text(tag: str, content: str) -> Any:
    """Return a text."""
    plugin = importlib.import_module("tensorboard.plugins.text.plugin_data_pb2").TextPluginData(version=0)
    kind, tensor = _proto("summary_pb2"), _proto("tensor_pb2").TensorProto
    shape = _proto("tensor_shape_pb2").TensorShapeProto
    made = tensor(dtype="DT_STRING", string_val=[content.encode()], tensor_shape=shape(dim=[shape.Dim(size=1)]))
    data = kind.SummaryMetadata.PluginData(plugin_name="text", content=plugin.SerializeToString())
    metadata = kind.SummaryMetadata(plugin_data=data)
    return kind.Summary(value=[kind.Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=made)])


def hparams(settings: Mapping[str, Any], metrics: Mapping[str, float]) -> tuple[Any, Any, Any]:
    """Return hyperparameters and the names of their metrics: the experiment, its start and its end."""
    plugin = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    api = importlib.import_module("tensorboard.plugins.hparams.api_pb2")
    start = plugin.SessionStartInfo()
    infos = []
    for name, value in settings.items():
        if value is None:  # there is no kind for it
            continue
        kind, field = _kind_of(value)
        setattr(start.hparams[name], field, value)
        infos.append(api.HParamInfo(name=name, type=api.DataType.Value(kind)))
    told = [api.MetricInfo(name=api.MetricName(tag=tag)) for tag in metrics]
    experiment = plugin.HParamsPluginData(experiment=api.Experiment(hparam_infos=infos, metric_infos=told))
    end = plugin.SessionEndInfo(status=api.Status.Value("STATUS_SUCCESS"))
    return (
        _of_hparams("_hparams_/experiment", experiment),
        _of_hparams("_hparams_/session_start_info", plugin.HParamsPluginData(session_start_info=start)),
        _of_hparams("_hparams_/session_end_info", plugin.HParamsPluginData(session_end_info=end)),
    )


def _kind_of(value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return "DATA_TYPE_BOOL", "bool_value"
    if isinstance(value, int | float):
        return "DATA_TYPE_FLOAT64", "number_value"
    return "DATA_TYPE_STRING", "string_value"


def _of_hparams(tag: str, data: Any) -> Any:
    kind = _proto("summary_pb2")
    content = kind.SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    return kind.Summary(value=[kind.Summary.Value(tag=tag, metadata=kind.SummaryMetadata(plugin_data=content))])


def figure_to_image(figures: Any, close: bool = True) -> NDArray[Any]:
    """Return the pixels of a figure of matplotlib, as (C, H, W), or of a list of them, as (N, C, H, W)."""
    if isinstance(figures, Sequence):
        return np.stack([figure_to_image(each, close) for each in figures])
    agg = importlib.import_module("matplotlib.backends.backend_agg")
    canvas = agg.FigureCanvasAgg(figures)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1)
    if close:
        importlib.import_module("matplotlib.pyplot").close(figures)
    return pixels
