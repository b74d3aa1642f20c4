"""What TensorBoard has pages of its own for, as summaries; the layouts are those of its plugins."""

from __future__ import annotations

import importlib
import io
import math
import warnings
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast import MissingDependency, NotFound, commit
from keepfast._system.disk.directories import make_directory
from keepfast._system.disk.special import require_own
from keepfast_writers._gif import pillow
from keepfast_writers._tensorboard_library import EventLibrary

_TENSOR_DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10}
"""TensorFlow's numbers of dtypes (``types.proto``)."""


def summary_of(library: EventLibrary, kind: str, tag: str, content: Mapping[str, Any]) -> Any:
    """Return the summary of one of `keepfast.interfaces.summary.calls.KINDS`, but for graphs and embeddings."""
    return _MAKERS[kind](library, tag, content)


def _audio(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    samples = (content["samples"].clip(-1, 1) * (2**15 - 1)).astype("<i2")
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(content["sample_rate"])
        file.writeframes(samples.tobytes())
    audio = library.summary.Audio(
        sample_rate=content["sample_rate"],
        num_channels=1,
        length_frames=len(samples),
        encoded_audio_string=sound.getvalue(),
        content_type="audio/wav",
    )
    return library.summary(value=[library.summary.Value(tag=tag, audio=audio)])


def _pr_curve(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    given = content["labels"], content["predictions"], content["num_thresholds"], content["weights"]
    return library.summaries.pr_curve(tag, *given)


def _pr_curve_raw(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    counts = (content[name] for name in ("tp", "fp", "tn", "fn", "precision", "recall"))
    return library.summaries.pr_curve_raw(tag, *counts, content["num_thresholds"], content["weights"])


def _histogram_raw(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    numbers = (content[name] for name in ("min", "max", "num", "sum", "sum_squares"))
    return library.summaries.histogram_raw(
        tag, *numbers, content["bucket_limits"].tolist(), content["bucket_counts"].tolist()
    )


def _mesh(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    parts = (content[name] for name in ("vertices", "colors", "faces"))
    return library.summaries.mesh(tag, *parts, content["config_dict"])


def _boxes(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    pillow()
    image, boxes, labels = content["image"], content["boxes"], content["labels"]
    form = content["dataformats"]
    return library.summaries.image_boxes(tag, image, boxes, content["rescale"], form, labels)


def _layout(library: EventLibrary, _: str, content: Mapping[str, Any]) -> Any:
    return library.summaries.custom_scalars(content["layout"])


def _tensor(library: EventLibrary, tag: str, content: Mapping[str, Any]) -> Any:
    array: NDArray[Any] = content["array"]
    dtype = array.dtype.name if array.dtype.name in _TENSOR_DTYPES else "float64"
    made = library.summary(value=[library.summary.Value(tag=tag)])
    value = made.value[0]
    value.tensor.dtype = _TENSOR_DTYPES[dtype]
    for size in array.shape:
        value.tensor.tensor_shape.dim.add(size=size)
    value.tensor.tensor_content = array.astype(dtype).tobytes()
    value.metadata.plugin_data.plugin_name = "tensor"
    return made


_MAKERS: Mapping[str, Callable[[EventLibrary, str, Mapping[str, Any]], Any]] = {
    "audio": _audio,
    "pr_curve": _pr_curve,
    "pr_curve_raw": _pr_curve_raw,
    "histogram_raw": _histogram_raw,
    "mesh": _mesh,
    "boxes": _boxes,
    "layout": _layout,
    "tensor": _tensor,
}


def graph_events(library: EventLibrary, kind: str, content: Mapping[str, Any]) -> list[Any]:
    """Return the events of a graph: of a torch module, or of an ONNX file."""
    if kind == "onnx_graph":
        package = "torch.utils.tensorboard._" if library.name == "torch" else "tensorboardX."
        graph = _onnx_graph(f"{package}onnx_graph", content["path"])
        return [library.event(graph_def=graph.SerializeToString())]
    try:
        make = importlib.import_module("torch.utils.tensorboard._pytorch_graph").graph  # tensorboardX has no other
    except ImportError as error:
        raise MissingDependency(f"a graph needs torch and tensorboard ({error}); run: {_INSTALL}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of the tracing that this is
        graph, statistics = make(content["model"], content["input"], content["verbose"], content["strict"])
    about = library.event()
    about.tagged_run_metadata.tag = "step1"
    about.tagged_run_metadata.run_metadata = statistics.SerializeToString()
    return [library.event(graph_def=graph.SerializeToString()), about]


def _onnx_graph(module: str, path: str) -> Any:
    if not Path(path).is_file():
        raise NotFound(f"there is no ONNX file `{path}`")
    try:
        return importlib.import_module(module).load_onnx_graph(path)
    except ImportError as error:
        raise MissingDependency(f"a graph of ONNX needs that package ({error}); run: pip install onnx") from error


_INSTALL = 'pip install "keepfast[torch]"'

_PROJECTOR = "projector_config.pbtxt"


def write_embedding(directory: Path, tag: str, content: Mapping[str, Any], step: int) -> None:
    """Write the files that TensorBoard's projector reads, and name them in its list.

    ``projector_config.pbtxt`` names ``STEP/TAG/tensors.tsv``, and where they are given ``metadata.tsv`` and
    ``sprite.png``.
    """
    below = f"{step:05d}/{tag.strip('/').replace('..', '_') or 'default'}"
    folder = directory / below
    make_directory(folder)
    points = "".join("\t".join(map(str, point)) + "\n" for point in content["points"].tolist())
    commit(folder / "tensors.tsv", lambda file: file.write(points.encode()))
    lines = [f'tensor_name: "{_quoted(f"{tag}:{step:05d}")}"', f'tensor_path: "{_quoted(below)}/tensors.tsv"']
    if content["metadata"] is not None:
        text = _metadata(content["metadata"], content["header"])
        commit(folder / "metadata.tsv", lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        lines.append(f'metadata_path: "{_quoted(below)}/metadata.tsv"')
    if content["images"] is not None:
        sprite = _sprite(content["images"])
        commit(folder / "sprite.png", lambda file: file.write(sprite))
        height, width = content["images"].shape[2:]
        lines.append(
            f'sprite {{\n  image_path: "{_quoted(below)}/sprite.png"\n'
            f"  single_image_dim: {width}\n  single_image_dim: {height}\n}}"
        )
    entry = "embeddings {\n" + "\n".join(lines) + "\n}\n"
    path = directory / _PROJECTOR
    require_own(path)
    before = path.read_bytes() if path.exists() else b""
    commit(path, lambda file: file.write(before + entry.encode()))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _metadata(rows: list[Any], header: list[str] | None) -> str:
    cells = [row if isinstance(row, list | tuple) else [row] for row in rows]
    table = [*([header] if header else []), *cells]
    return "".join("\t".join(str(cell).replace("\t", " ").replace("\n", " ") for cell in row) + "\n" for row in table)


def _sprite(images: NDArray[Any]) -> bytes:
    """Return all images in a square of them, as a PNG."""
    count, _, height, width = images.shape
    side = math.ceil(math.sqrt(count))
    scaled = images if images.dtype == np.uint8 else (images * 255).clip(0, 255).astype(np.uint8)
    sheet = np.zeros((side * height, side * width, images.shape[1]), np.uint8)
    for place, image in enumerate(scaled):
        top, left = place // side * height, place % side * width
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    made = io.BytesIO()
    pillow().fromarray(sheet if sheet.shape[2] > 1 else sheet[:, :, 0]).save(made, "PNG")
    return made.getvalue()
