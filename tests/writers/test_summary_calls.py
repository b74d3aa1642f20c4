"""The calls of torch's SummaryWriter beyond scalars: kept by TensorBoard, told once by who does not keep them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.interfaces.summary.calls import KINDS

GRAPHS = {"graph", "onnx_graph"}

Writer = keepfast.Writer
CALLS: dict[str, Callable[[Writer], None]] = {
    "audio": lambda writer: writer.add_audio("sound", np.sin(np.arange(800) / 9)[None], 3, sample_rate=8000),
    "pr_curve": lambda writer: writer.add_pr_curve("curve", [0, 1, 1, 0], [0.1, 0.9, 0.4, 0.6], 3),
    "pr_curve_raw": lambda writer: writer.add_pr_curve_raw("raw", *np.ones((6, 5)), global_step=3, num_thresholds=5),
    "histogram_raw": lambda writer: writer.add_histogram_raw("hist", 0.0, 1.0, 3, 1.5, 1.0, [0.5, 1.0], [1, 2], 3),
    "mesh": lambda writer: writer.add_mesh("mesh", np.zeros((1, 4, 3)), global_step=3),
    "boxes": lambda writer: writer.add_image_with_boxes("boxes", np.zeros((3, 8, 8)), [[1, 1, 5, 5]], 3, labels=["a"]),
    "layout": lambda writer: writer.add_custom_scalars({"all": {"losses": ["Multiline", ["a", "b"]]}}),
    "tensor": lambda writer: writer.add_tensor("tensor", np.arange(6.0).reshape(2, 3), 3),
    "embedding": lambda writer: writer.add_embedding(
        np.eye(4), ["a", "b", "c\td", "e"], np.zeros((4, 3, 2, 2)), 3, tag="points"
    ),
}


def context(directory: Path) -> keepfast.WriterContext:
    return keepfast.WriterContext(directory, directory.name)


class Scalars(keepfast.Writer):
    """The smallest writer."""

    def __init__(self) -> None:
        self.kept: list[Mapping[str, float]] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.kept.append(scalars)


def test_every_kind_but_graphs_is_called_here() -> None:
    """So that a new one has a test."""
    assert CALLS.keys() == KINDS.keys() - GRAPHS


@pytest.mark.parametrize("kind", CALLS)
def test_a_writer_that_does_not_keep_a_kind_tells_it_once(kind: str) -> None:
    """In the place of an AttributeError in the middle of a training; behind a MultiWriter too."""
    one = Scalars()
    with keepfast.MultiWriter([Scalars()]) as several:
        for writer in (one, several):
            with pytest.warns(keepfast.KeepfastWarning, match=f"does not keep {KINDS[kind]}") as told:
                CALLS[kind](writer)
                CALLS[kind](writer)
            assert len(told) == 1


def test_several_values_are_tags_below_one() -> None:
    """Each writer keeps them as it keeps any."""
    writer = Scalars()
    writer.add_scalars("loss", {"policy": 1, "value": np.float32(0.5)}, 3)
    assert writer.kept == [{"loss/policy": 1.0, "loss/value": 0.5}]


def test_the_run_s_directory_is_told(tmp_path: Path) -> None:
    """By the experiment's writer, as SummaryWriter tells it; one without a directory says so."""
    with keepfast.Experiment({"directory": tmp_path, "experiment_name": "run", "writers": []}) as experiment:
        assert experiment.writer.log_dir == experiment.writer.get_logdir() == str(tmp_path / "run")
    with pytest.raises(keepfast.UsageError, match="into no directory"):
        Scalars().get_logdir()


@pytest.mark.parametrize(
    ("call", "arguments", "named"),
    [
        ("add_hparams", ([], {}), "`hparam_dict`"),
        ("add_hparams", ({}, {}), "both empty"),
        ("add_hparams", ({"lr": 1}, {"a": "x"}), "`a`"),
        ("add_hparams", ({"lr": 1}, {}, {"lrr": [1]}), "did you mean|Did you mean `lr`"),
        ("add_image", ("t", [["a", "b"]]), "`img_tensor` holds"),
        ("add_image", ("t", np.zeros((3, 4))), "`dataformats`"),
        ("add_image", ("t", np.zeros((5, 4, 4))), "1, 3 or 4 channels"),
        ("add_images", ("t", np.zeros((3, 4, 4))), "`dataformats`"),
        ("add_video", ("t", np.zeros((3, 4, 4))), "\\(N, T, C, H, W\\)"),
        ("add_video", ("t", np.zeros((1, 1, 1, 4, 4)), 0, 0), "`fps`"),
        ("add_histogram", ("t", []), "`values` is empty"),
        ("add_histogram", ("t", ["a"]), "`values` holds"),
        ("add_histogram", ("t", [1.0], 0, "tensorflow", None, 0), "`max_bins`"),
        ("add_scalar", ("t", 1.0, 0, "noon"), "`walltime`"),
        ("add_scalar", ("t", 1.0, "x"), "`global_step`"),
        ("add_scalars", ("t", [1.0]), "`tag_scalar_dict`"),
        ("add_audio", ("t", np.zeros((2, 5))), "`snd_tensor`"),
        ("add_pr_curve", ("t", [0, 1], [0.5]), "`labels` has 2"),
        ("add_mesh", ("t", np.zeros((4, 3))), "`vertices`"),
        ("add_embedding", (np.eye(3), ["a"]), "`metadata` is of 1"),
        ("add_custom_scalars", (["a"],), "`layout`"),
        ("add_custom_scalars_marginchart", (["a"],), "`tags`"),
        ("add_graph", (3,), "`model` is a int"),
        ("add_text", ("t", 3), "`text_string`"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(call: str, arguments: tuple[Any, ...], named: str) -> None:
    """By an error that names the argument, and nothing reaches a writer."""
    writer = Scalars()
    with pytest.raises((keepfast.InvalidValue, keepfast.ShapeMismatch), match=named):
        getattr(writer, call)(*arguments)
    assert writer.kept == []


def test_the_argument_forms_of_the_libraries_are_taken() -> None:
    """Code that was written for either runs on."""
    writer = Scalars()
    writer.add_scalar("a", 1.0, 3, 1.0, new_style=True, double_precision=True)
    writer.add_scalar("a", 1.0, 3, display_name="A", summary_description="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer.add_histogram("h", [1.0, 2.0], 3, max_bins=5)
        writer.add_hparams({"lr": 1.0}, {}, {"lr": [1.0, 2.0]}, "name", 3)
    assert len(writer.kept) == 2


def accumulated(directory: Path) -> Any:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(directory), size_guidance={"tensors": 0})
    found.Reload()
    return found


LIBRARIES = [
    pytest.param("torch", marks=pytest.mark.needs("torch", "tensorboard")),
    pytest.param("tensorboardX", marks=pytest.mark.needs("tensorboardX", "tensorboard")),
    pytest.param("tensorboard", marks=pytest.mark.needs("tensorboard")),
]


@pytest.mark.needs("PIL")
@pytest.mark.parametrize("library", LIBRARIES)
def test_tensorboard_keeps_every_kind(library: str, tmp_path: Path) -> None:
    """As TensorBoard's own reader finds them, with either library."""
    from keepfast_writers.tensorboard import TensorBoardWriter

    with TensorBoardWriter(context(tmp_path), library=library) as writer:
        for call in CALLS.values():
            call(writer)
        writer.add_images("images", np.zeros((2, 3, 4, 4)), 3)
    found = accumulated(tmp_path)
    tags = found.Tags()
    assert tags["audio"] == ["sound"]
    assert found.Audio("sound")[0].sample_rate == 8000
    assert "hist" in tags["histograms"]
    assert {"boxes", "images"} <= set(tags["images"])
    assert {"curve", "raw", "tensor", "custom_scalars__config__"} <= {tag.split("/")[0] for tag in tags["tensors"]}
    assert any(tag.startswith("mesh") for tag in tags["tensors"])
    assert (tmp_path / "00003" / "points" / "tensors.tsv").read_text().splitlines()[1] == "0.0\t1.0\t0.0\t0.0"
    assert (tmp_path / "00003" / "points" / "metadata.tsv").read_text().splitlines()[2] == "c d"
    assert 'tensor_path: "00003/points/tensors.tsv"' in (tmp_path / "projector_config.pbtxt").read_text()


@pytest.mark.needs("torch", "tensorboard", "PIL")
def test_the_tensorboard_package_makes_the_summaries_that_torch_makes() -> None:
    """Of curves, counts, meshes and layouts the very same; of boxes an image of the same size."""
    from torch.utils.tensorboard import summary

    from keepfast_writers import _tensorboard_package as ours

    generator = np.random.default_rng(0)
    labels, guessed = generator.integers(0, 2, 50), generator.random(50)
    counts = np.arange(12.0).reshape(6, 2)
    points, faces = generator.random((1, 4, 3)), np.array([[[0, 1, 2]]])
    layout = {"a": {"b": ["Multiline", ["c", "d"]], "e": ["Margin", ["f", "g", "h"]]}}
    calls: dict[str, list[tuple[Any, ...]]] = {
        "pr_curve": [("t", labels, guessed, 31), ("t", labels, guessed, 500, guessed)],
        "pr_curve_raw": [("t", *counts, 2)],
        "histogram_raw": [("t", 0.0, 2.0, 3, 3.0, 5.0, [1.0, 2.0], [1, 2])],
        "mesh": [("t", points, None, None, None), ("t", points, points * 255, faces, {"camera": {"cls": "x"}})],
        "custom_scalars": [(layout,)],
    }
    for name, several in calls.items():
        for given in several:
            assert getattr(ours, name)(*given) == getattr(summary, name)(*given), name
    image, boxes = generator.random((3, 20, 30)), np.array([[2, 3, 20, 15]])
    made, theirs = (each.image_boxes("t", image, boxes, 2).value[0].image for each in (ours, summary))
    assert (made.height, made.width, made.colorspace) == (theirs.height, theirs.width, theirs.colorspace)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.needs("torch")
def test_tensorboard_keeps_the_graph_of_a_torch_module(library: str, tmp_path: Path) -> None:
    """Through a MultiWriter, which waits until it is traced."""
    import torch

    from keepfast_writers.tensorboard import TensorBoardWriter

    with keepfast.MultiWriter([TensorBoardWriter(context(tmp_path), library=library)]) as writer:
        writer.add_graph(torch.nn.Linear(3, 2), torch.zeros(1, 3))
    assert accumulated(tmp_path).Tags()["graph"] is True


def test_a_dict_is_logged_at_once(tmp_path: Path) -> None:
    """Its values are written past all intervals, at the completed timesteps or a step of one's own; keys are joined."""
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 100}
    agent = keepfast.Agent(cfg={"experiment": cfg})
    agent.init({"timesteps": 10})
    for timestep in range(10):
        agent.post_interaction(timestep, 10)
        if timestep == 4:
            agent.log({"eval": {"return": 1.0, "deep": {"er": np.float32(2)}}, "plain": 3})
    agent.experiment.log({"eval/return": 4.0}, step=7)
    for wrong in ({"a": "x"}, {"a": [1, 2]}, [1], {3: 1.0}):
        with pytest.raises(keepfast.InvalidValue):
            agent.log(wrong)  # type: ignore[arg-type]
    agent.close()
    found = keepfast.read_metrics(tmp_path / "run")
    assert {tag: series.steps.tolist() for tag, series in found.items()} == {
        "eval/return": [5, 7],
        "eval/deep/er": [5],
        "plain": [5],
    }
    with pytest.raises(keepfast.UsageError):
        agent.log({"a": 1.0})


def test_what_is_logged_is_judged(tmp_path: Path) -> None:
    """An evaluation's return can be what is best."""
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "best_metric": "eval/return"}
    with keepfast.Experiment({**cfg, "checkpoint_interval": 5, "write_interval": 100}, timesteps=20) as experiment:
        experiment.register(net=np.zeros(3))
        for timestep in range(20):
            experiment.step(timestep)
            if timestep % 5 == 2:
                experiment.log({"eval": {"return": float(timestep == 7)}})
        assert experiment.best_score == 1.0
    assert (tmp_path / "run" / "checkpoints" / "best_agent.safetensors").exists()
