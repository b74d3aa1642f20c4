"""The cases of PyTorch's own tests of its SummaryWriter, written anew: torch ships none; both write, and one reads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

import keepfast
from keepfast_writers.tensorboard import TensorBoardWriter

mpl.use("agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.filterwarnings("ignore")

NET = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
BOXES = np.array([[1, 1, 5, 5]])
COUNTS = ([75, 64, 21, 5, 0], [150, 105, 18, 0, 0], [0, 45, 132, 150, 150], [0, 11, 54, 70, 75])
RATES = ([0.3333333, 0.3786982, 0.5384616, 1.0, 0.0], [1.0, 0.8533334, 0.28, 0.0666667, 0.0])


def figure() -> Any:
    drawn = plt.figure()
    plt.gca().add_patch(plt.Circle((0.2, 0.5), 0.2, color="r"))
    return drawn


CALLS: dict[str, Callable[[Any], object]] = {
    "a scalar": lambda writer: writer.add_scalar("a", 1.5, 3),
    "a scalar of torch": lambda writer: writer.add_scalar("a", torch.tensor(1.5), 3),
    "a scalar of one element": lambda writer: writer.add_scalar("a", torch.tensor([1.5]), 3),
    "a scalar of numpy": lambda writer: writer.add_scalar("a", np.float32(1.5), 3),
    "a scalar with a time": lambda writer: writer.add_scalar("a", 1.5, 3, walltime=17.0),
    "a scalar without a step": lambda writer: writer.add_scalar("a", 1.5),
    "a tag with spaces and brackets": lambda writer: writer.add_scalar("Loss / policy (max)", 1.5, 3),
    "many scalars": lambda writer: [writer.add_scalar(f"a/{step % 3}", step * 0.5, step) for step in range(100)],
    "a number that is none": lambda writer: writer.add_scalar("a", float("nan"), 3),
    "infinity": lambda writer: writer.add_scalar("a", float("inf"), 3),
    "a histogram": lambda writer: writer.add_histogram("h", np.random.default_rng(0).normal(size=1000), 3),
    "a histogram of torch": lambda writer: writer.add_histogram("h", torch.arange(100.0), 3),
    "a histogram of whole numbers": lambda writer: writer.add_histogram("h", torch.arange(100), 3),
    "a histogram by auto": lambda writer: writer.add_histogram("h", np.arange(100.0), 3, bins="auto"),
    "a raw histogram": lambda writer: writer.add_histogram_raw("h", 0.0, 1.0, 3, 1.5, 1.0, [0.5, 1.0], [1, 2], 3),
    "an image": lambda writer: writer.add_image("i", np.zeros((3, 8, 8), np.uint8), 3),
    "an image of floats": lambda writer: writer.add_image("i", torch.rand(3, 8, 8), 3),
    "an image of another order": lambda writer: writer.add_image("i", np.zeros((8, 8, 3)), 3, dataformats="HWC"),
    "a grey image": lambda writer: writer.add_image("i", np.zeros((8, 8)), 3, dataformats="HW"),
    "several images": lambda writer: writer.add_images("i", np.zeros((4, 3, 8, 8)), 3),
    "an image with boxes": lambda writer: writer.add_image_with_boxes(
        "i", np.zeros((3, 8, 8)), np.array([[1, 1, 5, 5]]), 3
    ),
    "a figure": lambda writer: writer.add_figure("f", figure(), 3),
    "figures": lambda writer: writer.add_figure("f", [figure(), figure()], 3),
    "a text": lambda writer: writer.add_text("t", "a|b\n-|-\nc|d", 3),
    "a sound": lambda writer: writer.add_audio("s", torch.sin(torch.arange(800.0) / 9)[None], 3, sample_rate=8000),
    "a curve": lambda writer: writer.add_pr_curve("c", np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.6]), 3),
    "a raw curve": lambda writer: writer.add_pr_curve_raw("c", *map(np.array, COUNTS + RATES), 3, num_thresholds=5),
    "a mesh": lambda writer: writer.add_mesh("m", torch.zeros(1, 4, 3), global_step=3),
    "a mesh with colours": lambda writer: writer.add_mesh(
        "m", torch.zeros(1, 4, 3), torch.zeros(1, 4, 3, dtype=torch.int), torch.zeros(1, 2, 3, dtype=torch.int), None, 3
    ),
    "a tensor": lambda writer: writer.add_tensor("x", torch.arange(6.0).reshape(2, 3), 3),
    "a graph": lambda writer: writer.add_graph(NET, torch.zeros(1, 3)),
    "a layout": lambda writer: writer.add_custom_scalars({"all": {"losses": ["Multiline", ["a", "b"]]}}),
    "several lines": lambda writer: writer.add_custom_scalars_multilinechart(["a", "b"]),
    "a margin": lambda writer: writer.add_custom_scalars_marginchart(["a", "b", "c"]),
    "the graph of functions": lambda writer: writer.add_graph(torch.nn.Tanh(), torch.zeros(1, 3)),
}

ELSEWHERE = {
    "several values below a tag": "torch makes a run of each value; ours are tags below one, in the same run: "
    "tests/writers/test_summary_calls.py::test_several_values_are_tags_below_one",
    "hyperparameters": "torch makes a run of them; ours are the run's own: "
    "tests/writers/test_tensorboard.py::test_hyperparameters_are_on_their_page_by_default",
    "an embedding": "is of files beside the events: tests/writers/test_summary_calls.py",
    "a video": "torch's GIF depends on the version of moviepy; tests/writers/test_tensorboard.py has ours",
    "caffe2 blobs by name": "PyTorch itself has none any more",
    "expected protocol buffers": "are of torch's own functions for summaries, which the product has not",
}


def events(folder: Path) -> list[tuple[int, str, str, Any]]:
    """Return what TensorBoard reads of each value: step, tag, plugin and number."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            if event.graph_def:
                found.append((event.step, "graph", "", len(event.graph_def) > 10))
            for value in event.summary.value:
                number = value.tensor.float_val[0] if len(value.tensor.float_val) == 1 else None
                found.append((event.step, value.tag, value.metadata.plugin_data.plugin_name, repr(number)))
    return sorted(found)


@pytest.mark.parametrize("name", CALLS)
def test_ours_leaves_what_torchs_leaves(name: str, tmp_path: Path) -> None:
    """The same tags at the same steps for the same pages of TensorBoard, and the same numbers."""
    torchs, ours = tmp_path / "torchs", tmp_path / "ours"
    ours.mkdir()
    with SummaryWriter(torchs) as writer:
        CALLS[name](writer)
    with TensorBoardWriter(keepfast.WriterContext(ours, "ours"), "torch") as writer:
        CALLS[name](writer)
    assert [(tag, plugin) for _, tag, plugin, _ in events(ours)] == [
        (tag, plugin) for _, tag, plugin, _ in events(torchs)
    ]
    if name != "a scalar without a step":
        assert events(ours) == events(torchs)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_kept_otherwise(name: str) -> None:
    """Where the product keeps a kind in its own way."""
    pytest.skip(ELSEWHERE[name])


def test_a_writer_is_closed_by_its_block(tmp_path: Path) -> None:
    """And says so afterwards; closing twice does no harm, and a thousand writers leave no file open."""
    with TensorBoardWriter(keepfast.WriterContext(tmp_path, "x")) as writer:
        writer.add_scalar("a", 1.0, 1)
    writer.close()
    with pytest.raises(keepfast.KeepfastError, match="closed"):
        writer.add_scalar("a", 2.0, 2)
    for number in range(1000):
        folder = tmp_path / str(number)
        folder.mkdir()
        TensorBoardWriter(keepfast.WriterContext(folder, "x")).close()


@pytest.mark.parametrize("wrong", ["a text", None, [1, 2], torch.zeros(2), object()], ids=str)
def test_what_is_no_number_is_refused(wrong: Any, tmp_path: Path) -> None:
    """At the call, as torch does."""
    with TensorBoardWriter(keepfast.WriterContext(tmp_path, "x")) as writer, pytest.raises(keepfast.KeepfastError):
        writer.add_scalar("a", wrong, 1)
    with SummaryWriter(tmp_path / "torchs") as theirs, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((AssertionError, TypeError, ValueError, NotImplementedError, RuntimeError)):
            theirs.add_scalar("a", wrong, 1)


def test_a_picture_is_one_that_opens(tmp_path: Path) -> None:
    """The bytes of an image are a PNG of its size."""
    from PIL import Image

    with TensorBoardWriter(keepfast.WriterContext(tmp_path, "x")) as writer:
        writer.add_image("i", np.full((3, 8, 9), 7, np.uint8), 3)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    values = [value for event in EventFileLoader(str(path)).Load() for value in event.summary.value]
    _, _, content = values[0].tensor.string_val
    picture = Image.open(io.BytesIO(content))
    assert (picture.size, picture.getpixel((0, 0))) == ((9, 8), (7, 7, 7))
