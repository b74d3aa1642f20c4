"""Summaries that plugins of TensorBoard show, made with the protocol buffers of the tensorboard package alone.

The functions are called as in ``torch.utils.tensorboard.summary``. The layouts are those of the plugins ``pr_curve``,
``mesh`` and ``custom_scalar``, of which the package has the protocol buffers.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_THRESHOLDS = 127
"""How many thresholds the plugin of precision-recall curves reads."""

_TINY = 1e-7
"""What a count is at least where it is divided by, as the plugin's own summaries have it."""


def _proto(name: str) -> Any:
    return importlib.import_module(f"tensorboard.compat.proto.{name}")


def _plugin(name: str) -> Any:
    return importlib.import_module(f"tensorboard.plugins.{name}")


def _tensor(values: NDArray[Any]) -> Any:
    shape = _proto("tensor_shape_pb2").TensorShapeProto
    dims = shape(dim=[shape.Dim(size=size) for size in values.shape])
    return _proto("tensor_pb2").TensorProto(dtype="DT_FLOAT", float_val=values.reshape(-1).tolist(), tensor_shape=dims)


def _shown_by(tag: str, plugin: str, content: bytes, tensor: Any) -> Any:
    kind = _proto("summary_pb2")
    data = kind.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    value = kind.Summary.Value(tag=tag, metadata=kind.SummaryMetadata(plugin_data=data), tensor=tensor)
    return kind.Summary(value=[value])


def pr_curve(
    tag: str, labels: NDArray[Any], predictions: NDArray[Any], num_thresholds: int = 127, weights: Any = None
) -> Any:
    """Return a precision-recall curve of labels and the predictions for them."""
    count = min(num_thresholds, _MOST_THRESHOLDS)
    buckets = np.floor(predictions * (count - 1)).astype(np.int32)
    truth, weight = labels.astype(np.float64), 1.0 if weights is None else weights
    found = [
        np.histogram(buckets, bins=count, range=(0, count - 1), weights=each * weight)[0]
        for each in (truth, 1.0 - truth)
    ]
    tp, fp = (np.cumsum(each[::-1])[::-1] for each in found)
    tn, fn = fp[0] - fp, tp[0] - tp
    precision, recall = tp / np.maximum(_TINY, tp + fp), tp / np.maximum(_TINY, tp + fn)
    return pr_curve_raw(tag, tp, fp, tn, fn, precision, recall, count)


def pr_curve_raw(
    tag: str, tp: Any, fp: Any, tn: Any, fn: Any, precision: Any, recall: Any, num_thresholds: int = 127, _: Any = None
) -> Any:
    """Return a precision-recall curve of its counts."""
    about = _plugin("pr_curve.plugin_data_pb2").PrCurvePluginData
    content = about(version=0, num_thresholds=min(num_thresholds, _MOST_THRESHOLDS)).SerializeToString()
    return _shown_by(tag, "pr_curves", content, _tensor(np.stack((tp, fp, tn, fn, precision, recall))))


def histogram_raw(
    tag: str,
    min: float,  # noqa: A002  (torch's names)
    max: float,  # noqa: A002
    num: int,
    sum: float,  # noqa: A002
    sum_squares: float,
    bucket_limits: Sequence[float],
    bucket_counts: Sequence[float],
) -> Any:
    """Return a histogram of its counts."""
    kind = _proto("summary_pb2")
    numbers = {"min": min, "max": max, "num": num, "sum": sum, "sum_squares": sum_squares}
    made = kind.HistogramProto(**numbers, bucket_limit=bucket_limits, bucket=bucket_counts)
    return kind.Summary(value=[kind.Summary.Value(tag=tag, histo=made)])


def mesh(tag: str, vertices: Any, colors: Any, faces: Any, config_dict: Mapping[str, Any] | None) -> Any:
    """Return a mesh, or a cloud of points, in three dimensions: a summary for each of its parts."""
    metadata, part = _plugin("mesh.metadata"), _plugin("mesh.plugin_data_pb2").MeshPluginData
    config = "{}" if config_dict is None else json.dumps(config_dict, sort_keys=True)
    given = [(vertices, part.VERTEX), (faces, part.FACE), (colors, part.COLOR)]
    parts = [(np.asarray(values), number) for values, number in given if values is not None]
    components = metadata.get_components_bitmask([number for _, number in parts])
    kind = _proto("summary_pb2").Summary
    return kind(
        value=[
            kind.Value(
                tag=metadata.get_instance_name(tag, number),
                tensor=_tensor(values),
                metadata=metadata.create_summary_metadata(
                    tag, None, number, components, values.shape, None, json_config=config
                ),
            )
            for values, number in parts
        ]
    )


def custom_scalars(layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> Any:
    """Return a layout of charts: of lines, or of a line with its margins."""
    kinds = _plugin("custom_scalar.layout_pb2")
    margin = kinds.MarginChartContent

    def chart(title: str, kind: str, tags: Sequence[str]) -> Any:
        if kind != "Margin":
            return kinds.Chart(title=title, multiline=kinds.MultilineChartContent(tag=tags))
        value, lower, upper = tags
        return kinds.Chart(title=title, margin=margin(series=[margin.Series(value=value, lower=lower, upper=upper)]))

    categories = [
        kinds.Category(title=name, chart=[chart(title, *about[:2]) for title, about in charts.items()])
        for name, charts in layout.items()
    ]
    text = kinds.Layout(category=categories).SerializeToString()
    shape = _proto("tensor_shape_pb2").TensorShapeProto()
    tensor = _proto("tensor_pb2").TensorProto(dtype="DT_STRING", string_val=[text], tensor_shape=shape)
    return _shown_by("custom_scalars__config__", "custom_scalars", b"", tensor)
