"""Event files, written through either library, as TensorBoard's own reader sees them."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.metrics.tfrecord import crc32c, frame, read_records
from keepfast_writers import _tensorboard_library
from keepfast_writers.tensorboard import TensorBoardWriter

PACKAGES = {"torch": ("torch", "tensorboard"), "tensorboardX": ("tensorboardX",), "tensorboard": ("tensorboard",)}
LIBRARIES = [pytest.param(name, marks=pytest.mark.needs(*packages)) for name, packages in PACKAGES.items()]
needs_tensorboard = pytest.mark.needs("tensorboard")
needs_pillow = pytest.mark.needs("PIL")
START = 1_700_000_000.0
Make = Callable[..., TensorBoardWriter]


@pytest.fixture(params=LIBRARIES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a maker of writers over one of the libraries: ``make(directory_name, resume_step)``."""

    def make(name: str = "run", resume_step: int | None = None) -> TensorBoardWriter:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        context = keepfast.WriterContext(directory, name, resume_step=resume_step)
        return TensorBoardWriter(context, library=request.param)

    return make


def accumulator(directory: Path) -> Any:
    """Return what TensorBoard itself, which knows nothing of us, reads of a directory."""
    from tensorboard.backend.event_processing.event_accumulator import DEFAULT_SIZE_GUIDANCE, EventAccumulator

    return EventAccumulator(str(directory), size_guidance=dict.fromkeys(DEFAULT_SIZE_GUIDANCE, 0)).Reload()


def records_of(writer: TensorBoardWriter) -> list[bytes]:
    """Return the records of a writer's file."""
    with writer.path.open("rb") as file:
        return list(read_records(file))


def test_all_values_of_a_step_make_one_event(make: Make) -> None:
    """20 values of one step make one record in the file."""
    with make() as writer:
        before = len(records_of(writer))
        writer.write_scalars({f"Loss / {number}": float(number) for number in range(20)}, 10, START)
        assert len(records_of(writer)) == before + 1


@needs_tensorboard
def test_tensorboard_shows_tags_as_typed(make: Make) -> None:
    """TensorBoard's own reader finds each tag as it was typed, with its steps, values and times."""
    with make() as writer:
        for step in (10, 20):
            writer.write_scalars({"Reward / Total reward (max)": step / 3, "a b[c]": -1.0}, step, START + step)
    read = accumulator(writer.path.parent)
    assert sorted(read.Tags()["scalars"]) == ["Reward / Total reward (max)", "a b[c]"]
    events = read.Scalars("Reward / Total reward (max)")
    assert [(event.step, event.wall_time) for event in events] == [(10, START + 10), (20, START + 20)]
    assert [event.value for event in events] == [np.float32(10 / 3), np.float32(20 / 3)]


@pytest.mark.needs("torch", "tensorboard", "tensorboardX", "PIL")
def test_both_libraries_leave_the_same_events(tmp_path: Path) -> None:
    """Through any of them, every event but the file's first records is the same, byte for byte."""
    left = []
    for library in PACKAGES:
        directory = tmp_path / library
        directory.mkdir()
        writer = TensorBoardWriter(keepfast.WriterContext(directory, library), library)
        begun = len(records_of(writer))
        writer.write_scalars({"Loss / Policy loss (mean)": 1 / 3, "Größe": float("nan")}, 7, START)
        writer.write_text("Notes / the run", "text", 8, START)
        writer.write_histogram("Weights / all", np.linspace(-1, 1, 50), 9, START)
        writer.write_image("Image / one", np.full((3, 4, 4), 128, np.uint8), 10, START)
        writer.write_video("Video / one", np.zeros((1, 2, 3, 4, 4), np.uint8), 11, START)
        writer.close()
        left.append(records_of(writer)[begun:])
    assert left[0] == left[1] == left[2]


@pytest.mark.needs("tensorboard", "PIL")
def test_the_tensorboard_package_is_enough(tmp_path: Path) -> None:
    """With neither PyTorch nor tensorboardX nor TensorFlow, a run writes all it has, and TensorBoard reads it."""
    program = f"""
        import sys
        for name in ("torch", "tensorboardX", "tensorflow"):
            sys.modules[name] = None
        import importlib.util
        find = importlib.util.find_spec
        gone = ("torch", "tensorboardX", "tensorflow")
        importlib.util.find_spec = lambda name, *more: None if name in gone else find(name, *more)
        import numpy as np, keepfast
        cfg = {{"directory": {str(tmp_path)!r}, "experiment_name": "run", "write_interval": 1}}
        with keepfast.Experiment(cfg) as run:
            run.track_data("Loss / Loss", 0.5)
            run.step(0)
            run.writer.add_image("Image / grid", np.zeros((9, 3, 4, 4), np.float32), 1, dataformats="NCHW")
            run.writer.add_hparams({{"lr": 1e-3, "name": "PPO", "big": True}}, {{"score": 1.0}})
            run.writer.add_text("Notes", "text", 1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read = accumulator(tmp_path / "run")
    assert [event.value for event in read.Scalars("Loss / Loss")] == [0.5]
    assert [(image.width, image.height) for image in read.Images("Image / grid")] == [(32, 8)]
    assert "Notes/text_summary" in read.Tags()["tensors"]
    assert "_hparams_/session_start_info" in read.summary_metadata


@needs_tensorboard
def test_a_resumed_run_hides_what_lies_beyond_its_start(make: Make) -> None:
    """TensorBoard's reader shows nothing of the first run beyond the step where the second goes on."""
    with make() as first:
        for step in (10, 20, 30):
            first.write_scalars({"a": float(step)}, step, START + step)
    with make(resume_step=20) as second:
        second.write_scalars({"a": -30.0}, 30, START + 40)
    read = accumulator(first.path.parent)
    assert [(event.step, event.value) for event in read.Scalars("a")] == [(10, 10.0), (20, 20.0), (30, -30.0)]


def test_two_runs_of_one_second_have_files_of_their_own(make: Make) -> None:
    """Two writers made in one directory in the same second overwrite nothing of each other."""
    first, second = make(), make()
    assert first.path != second.path
    first.write_scalars({"first": 1.0}, 1, START)
    second.write_scalars({"second": 2.0}, 1, START)
    first.close()
    second.close()
    assert sorted(keepfast.read_metrics(first.path.parent)) == ["first", "second"]


@needs_tensorboard
def test_histograms_are_those_of_the_array(make: Make) -> None:
    """A histogram keeps the count, extremes and sum of an array of any shape."""
    values = np.random.default_rng(0).normal(size=(10, 20)).astype(np.float32)
    with make() as writer:
        writer.add_histogram("Weights / policy", values, 5)
        writer.add_histogram("own bins", values, 5, bins=[-10.0, 0.0, 10.0])
    read = accumulator(writer.path.parent)
    (event,) = read.Histograms("Weights / policy")
    assert event.step == 5
    histogram = event.histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (200, values.min(), values.max())
    assert sum(histogram.bucket) == 200
    (own,) = read.Histograms("own bins")
    counts = [count for count in own.histogram_value.bucket if count]
    assert counts == [np.sum(values < 0), np.sum(values >= 0)]


@needs_tensorboard
@needs_pillow
@pytest.mark.parametrize(
    ("shape", "dataformats", "size"),
    [((3, 4, 6), "CHW", (4, 6)), ((4, 6, 3), "HWC", (4, 6)), ((4, 6), "HW", (4, 6)), ((2, 3, 4, 6), "NCHW", None)],
)
def test_images_keep_their_size(
    make: Make, shape: tuple[int, ...], dataformats: str, size: tuple[int, int] | None
) -> None:
    """Images in every layout SummaryWriter takes keep their tag, height and width."""
    with make() as writer:
        writer.add_image("Camera / front (left)", np.zeros(shape, np.uint8), 3, dataformats=dataformats)
    (event,) = accumulator(writer.path.parent).Images("Camera / front (left)")
    if size is not None:
        assert (event.height, event.width) == size
    assert event.encoded_image_string.startswith(b"\x89PNG")


@needs_tensorboard
@needs_pillow
def test_floats_and_bytes_make_the_same_image(make: Make) -> None:
    """An image of floats in 0 to 1 shows what the one of bytes in 0 to 255 shows."""
    from PIL import Image

    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4) * 5
    with make() as writer:
        writer.add_image("bytes", pixels, 1)
        writer.add_image("floats", pixels / 255 + 1e-4, 1)
    read = accumulator(writer.path.parent)
    shown = [np.array(Image.open(io.BytesIO(read.Images(tag)[0].encoded_image_string))) for tag in ("bytes", "floats")]
    assert np.array_equal(shown[0], pixels.transpose(1, 2, 0))
    assert np.array_equal(*shown)


@needs_tensorboard
def test_texts_are_kept(make: Make) -> None:
    """A text is kept under its own tag, in the place where TensorBoard looks for texts."""
    with make() as writer:
        writer.add_text("Notes / run 1", "# Größe\n*text*", 4)
    (event,) = accumulator(writer.path.parent).Tensors("Notes / run 1/text_summary")
    assert event.step == 4
    assert event.tensor_proto.string_val[0].decode() == "# Größe\n*text*"


@needs_tensorboard
@pytest.mark.needs("matplotlib", "PIL")
def test_figures_are_drawn(make: Make) -> None:
    """A matplotlib figure becomes an image of its size, and is closed unless that is declined."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with make() as writer:
        kept, closed = plt.figure(figsize=(2, 1), dpi=50), plt.figure(figsize=(2, 1), dpi=50)
        writer.add_figure("Plots / kept", kept, 1, close=False)
        writer.add_figure("Plots / closed", closed, 1)
        assert plt.fignum_exists(kept.number)
        assert not plt.fignum_exists(closed.number)
        plt.close(kept)
    (event,) = accumulator(writer.path.parent).Images("Plots / kept")
    assert (event.height, event.width) == (50, 100)


@needs_tensorboard
@needs_pillow
def test_videos_move(make: Make) -> None:
    """Videos become one animated GIF with their frames, side by side in a grid, without moviepy."""
    from PIL import Image

    video = np.zeros((3, 5, 3, 8, 6), np.uint8)
    video[1] = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
    with make() as writer:
        writer.add_video("Rollouts / best", video, 2, fps=10)
        writer.add_video("floats", video / 255, 2, fps=10)
    read = accumulator(writer.path.parent)
    (event,) = read.Images("Rollouts / best")
    gif = Image.open(io.BytesIO(event.encoded_image_string))
    assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (12, 16), 100)
    gif.seek(4)
    frame = np.array(gif.convert("RGB"))
    assert frame[0, 6].tolist() == [200, 200, 200]
    assert frame[0, 0].tolist() == [0, 0, 0]
    (event,) = read.Images("floats")
    gif = Image.open(io.BytesIO(event.encoded_image_string))
    gif.seek(4)
    assert abs(int(np.array(gif.convert("RGB"))[0, 6, 0]) - 200) <= 1


def test_a_video_of_another_shape_is_refused(make: Make) -> None:
    """A video without its five axes is refused, with its shape and the allowed one."""
    with make() as writer, pytest.raises(keepfast.ShapeMismatch, match=r"\(3, 8, 8\).*\(N, T, C, H, W\)"):
        writer.add_video("video", np.zeros((3, 8, 8)), 1)


@needs_tensorboard
@pytest.mark.parametrize("run_name", [None, "trial 1"])
def test_hyperparameters_are_kept(make: Make, run_name: str | None) -> None:
    """Hyperparameters and metrics lie where TensorBoard's HPARAMS page looks, of this run or of a named one below."""
    with make() as writer:
        writer.add_hparams(
            {"lr": 1e-3, "name": "PPO", "flag": True, "layers": [64, 64], "none": None},
            {"Reward / best": 7.5},
            run_name=run_name,
        )
    read = accumulator(writer.path.parent / (run_name or ""))
    plugin = read.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert plugin.plugin_name == "hparams"
    assert b"lr" in plugin.content
    assert b"[64, 64]" in plugin.content
    assert [event.value for event in read.Scalars("Reward / best")] == [7.5]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_normal_exit_without_close_loses_nothing(tmp_path: Path, library: str) -> None:
    """A program that neither flushes nor closes leaves every event behind."""
    script = f"""
        import keepfast, pathlib
        from keepfast_writers.tensorboard import TensorBoardWriter
        context = keepfast.WriterContext(pathlib.Path({str(tmp_path)!r}), "run")
        writer = keepfast.MultiWriter({{"tensorboard": TensorBoardWriter(context, {library!r})}})
        for step in range(500):
            writer.add_scalar("a", step, step)
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script)], check=True, timeout=120)
    assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == list(range(500))


def test_a_full_disk_leaves_no_half_event(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up in the middle of an event, what was there stays readable, and so does what follows."""
    import os

    write = os.write

    def refuse_half(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            return write(descriptor, data[:50])
        raise OSError(28, "No space left on device")

    writer = make()
    writer.write_scalars({"a": 1.0}, 1, START)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse_half)
        with pytest.raises(OSError, match="No space left"):
            writer.write_scalars({"long tag " * 10: 2.0}, 2, START)
    writer.write_scalars({"a": 3.0}, 3, START)
    writer.close()
    assert keepfast.read_metrics(writer.path)["a"].values.tolist() == [1.0, 3.0]


def test_writing_to_a_closed_writer_is_refused(make: Make) -> None:
    """A value written after close is refused, and does not go anywhere unnoticed."""
    writer = make()
    writer.close()
    with pytest.raises(keepfast.UsageError, match="was closed"):
        writer.write_scalars({"a": 1.0}, 1, START)


def test_without_a_library_the_error_says_what_to_install(
    context: keepfast.WriterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no library is installed, the error names the packages that bring one."""
    monkeypatch.setattr(_tensorboard_library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(keepfast.MissingDependency, match=r'"keepfast\[torch\]".*"keepfast\[jax\]".*tensorboardX'):
        TensorBoardWriter(context)


def test_an_unknown_library_is_refused(context: keepfast.WriterContext) -> None:
    """The error about an unknown library lists the known ones."""
    with pytest.raises(keepfast.InvalidValue, match=r"allowed: auto, torch, tensorboardX, tensorboard$"):
        TensorBoardWriter(context, library="tensorbord")


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 9, 1023, 1024, 1025, 1027, 1028, 5000])
def test_checksums_are_crc32c(size: int) -> None:
    """Our checksum is CRC-32C for data of any length, also across the borders of its chunks."""

    def bit_by_bit(data: bytes) -> int:
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    data = np.random.default_rng(size).bytes(size)
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the standard
    assert crc32c(data) == bit_by_bit(data)


def test_a_torn_record_ends_the_reading_and_a_damaged_one_costs_itself() -> None:
    """Records around a damaged one are read, those before a torn one too, and nothing is made up."""
    records = [b"first", b"second" * 300, b"third"]
    whole = b"".join(map(frame, records))
    assert list(read_records(io.BytesIO(whole))) == records
    for length in range(len(whole)):
        read = list(read_records(io.BytesIO(whole[:length])))
        assert read == records[: len(read)]
        assert len(b"".join(map(frame, records[: len(read) + 1]))) > length
    damaged = bytearray(whole)
    damaged[len(frame(records[0])) + 100] ^= 1
    assert list(read_records(io.BytesIO(bytes(damaged)))) == [records[0], None, records[2]]


def test_without_pillow_images_say_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow is missing, an image and a video are refused with what to install; scalars need none."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with make() as writer:
        writer.add_scalar("a", 1.0)
        with pytest.raises(keepfast.MissingDependency, match="pip install pillow"):
            writer.add_image("image", np.zeros((3, 4, 4)), 1)
        with pytest.raises(keepfast.MissingDependency, match="pip install pillow"):
            writer.add_video("video", np.zeros((1, 2, 3, 4, 4)), 1)


def test_a_file_that_holds_nothing_is_removed(make: Make) -> None:
    """A writer that was never written to leaves no file; one that voids what lies beyond a checkpoint does."""
    unused, voiding, used = make(), make(resume_step=10), make()
    used.write_scalars({"a": 1.0}, 1, START)
    for writer in (unused, voiding, used):
        writer.close()
        writer.close()
    assert [writer.path.exists() for writer in (unused, voiding, used)] == [False, True, True]


@needs_tensorboard
def test_hyperparameters_are_on_their_page_by_default(tmp_path: Path) -> None:
    """Those of the agent and the trainer, with what is tracked as their metrics; where nothing is, there are none."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    cfg = {"experiment": {"directory": tmp_path, "experiment_name": "run", "write_interval": 5}, "lr": 0.5}
    agent = keepfast.Agent(cfg={**cfg, "nested": {"sizes": [1, 2], "api_key": "secret"}})
    agent.init({"timesteps": 10})
    for timestep in range(10):
        agent.track_data("Loss / Loss", 1.0)
        agent.post_interaction(timestep, 10)
    agent.close()
    found = accumulator(tmp_path / "run")
    content = {
        name: HParamsPluginData.FromString(data) for name, data in found._plugin_to_tag_to_content["hparams"].items()
    }
    started = content["_hparams_/session_start_info"].session_start_info.hparams
    assert started["lr"].number_value == 0.5
    assert started["trainer.timesteps"].number_value == 10
    assert started["nested.sizes"].string_value == "[1, 2]"
    assert started["nested.api_key"].string_value == "***"
    assert not any(name.startswith("experiment") for name in started)
    infos = content["_hparams_/experiment"].experiment.metric_infos
    assert [info.name.tag for info in infos] == ["Loss / Loss"]
    assert "_hparams_/session_end_info" in content
    keepfast.Experiment({**cfg["experiment"], "experiment_name": "empty"}).close()
    assert not list((tmp_path / "empty").glob("*tfevents*"))


@needs_tensorboard
@pytest.mark.parametrize("ahead", [0, 3600])
def test_what_a_resumed_run_writes_is_read_last(make: Make, ahead: int) -> None:
    """Twelve starts within a second, and one after a start whose clock was ahead, are read in their order."""
    for start in range(12):
        with make(resume_step=10 * start) as writer:
            writer.write_scalars({"a": float(start)}, 10 * start + 10, START + start)
        if start == 5:
            second = writer.path.name.split(".")[3]
            writer.path.rename(writer.path.with_name(writer.path.name.replace(second, str(int(second) + ahead), 1)))
    read = accumulator(writer.path.parent)
    assert [(event.step, event.value) for event in read.Scalars("a")] == [(10 * k + 10, float(k)) for k in range(12)]
