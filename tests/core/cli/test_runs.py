"""`keepfast runs`, `show` and `plot`: what they print of runs, without a framework."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.cli.runs.listing import ago
from keepfast.metrics import Series
from keepfast.metrics.spread import Curve, curve_of, spread_of
from keepfast.pictures.braille import Canvas

TAG = "Loss / Policy loss"
ODD_NAME = os.fsdecode("größe".encode() + b"\xff " + "🎯".encode())

needs_matplotlib = pytest.mark.needs("matplotlib")

Called = tuple[int, str, str]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that makes a file one that may not be read, also by root."""
    refused: set[Path] = set()
    opened = Path.open

    def open_if_allowed(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_if_allowed)
    return refused.add


def write_run(run: Path, tags: Mapping[str, Mapping[int, float]]) -> Path:
    run.mkdir(parents=True)
    lines = [
        json.dumps({"step": step, "wall_time": 1.0, "scalars": {tag: value}})
        for tag, points in tags.items()
        for step, value in points.items()
    ]
    (run / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return run


def curve(steps: list[float], values: list[float]) -> Curve:
    return Curve(np.array(steps, np.float64), np.array(values, np.float64))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def picture(printed: str) -> list[str]:
    """Return the lines of a printed picture that hold braille characters."""
    return [line for line in printed.splitlines() if any("\u2800" < character <= "\u28ff" for character in line)]


def test_runs_lists_each_run_with_agent_steps_score_age_and_size(call: Callable[..., Called], tmp_path: Path) -> None:
    """A line for each run, and nothing in the cells of what is not known."""
    cfg = {"directory": str(tmp_path), "experiment_name": "first", "writers": ["jsonl"], "write_interval": 5}
    with keepfast.Experiment(cfg, name="PPO", timesteps=20) as experiment:
        for timestep in range(20):
            experiment.track_data("Reward / Total reward (mean)", 1.5)
            experiment.step(timestep)
    size = len((write_run(tmp_path / "second", {TAG: {7: 1.0}}) / "metrics.jsonl").read_bytes())
    code, out, err = call("runs", tmp_path)
    assert (code, err) == (0, "")
    heads, first, second = map(cells, out.splitlines())
    assert heads == ["run", "agent", "steps", "best score", "age", "size"]
    assert first[:4] == ["first", "PPO", "20/20", "1.5"]
    assert re.fullmatch(r"\d+ s", first[4])
    assert second[:2] == ["second", "7"]
    assert second[-1] == f"{size} bytes"


def test_runs_looks_in_runs_by_default(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a directory those of ./runs are listed, which is where experiments are stored by default."""
    write_run(tmp_path / "runs" / "mine", {TAG: {1: 1.0}})
    monkeypatch.chdir(tmp_path)
    assert "mine" in call("runs")[1]
    monkeypatch.chdir(tmp_path / "runs")
    code, out, err = call("runs")
    assert (code, out) == (1, "")
    assert err == "error: there is no directory `runs`; give the one that your runs lie in\n"


def test_a_run_that_cannot_be_read_hides_no_other(
    call: Callable[..., Called], refuse: Callable[[Path], None], tmp_path: Path
) -> None:
    """`runs` and `plot` warn of a run that may not be read and show the others; `show` of it is one line of error."""
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, {TAG: {1: 1.0}})
    file = tmp_path / "b" / "metrics.jsonl"
    refuse(file)
    code, out, err = call("runs", tmp_path)
    told = f"the run at `{tmp_path / 'b'}` cannot be read and was passed over: Permission denied: `{file}`\n"
    assert (code, err) == (0, f"warning: {told}")
    assert [cells(line)[0] for line in out.splitlines()] == ["run", "a", "c"]
    for runs in ([tmp_path], [tmp_path / "a", tmp_path / "b", tmp_path / "c"]):
        code, out, err = call("plot", *runs, "--tag", TAG)
        assert (code, err) == (0, f"warning: {told}")
        assert [line.split()[0] for line in out.splitlines()[-3:]] == ["a", "c", "mean"]
    code, out, err = call("plot", tmp_path / "b", "--tag", TAG)
    assert (code, out, err) == (1, "", f"warning: {told}error: none of the runs can be read\n")
    assert call("show", tmp_path / "b") == (1, "", f"error: Permission denied: `{file}`\n")


@pytest.mark.filterwarnings("default::keepfast.KeepfastWarning")  # which the command line prints
def test_odd_lines_hide_no_run(call: Callable[..., Called], tmp_path: Path) -> None:
    """A line whose step is infinite is passed over with a warning for its file, and everything else is shown."""
    for name in ("a", "b"):
        write_run(tmp_path / name, {TAG: {1: 1.0}})
    file = tmp_path / "a" / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": Infinity, "wall_time": 1, "scalars": {"a": 1}}\n' * 2)
    code, out, err = call("runs", tmp_path)
    assert (code, err) == (0, f"warning: lines of `{file}` that are no metrics were passed over: 2\n")
    assert [cells(line)[:2] for line in out.splitlines()[1:]] == [["a", "1"], ["b", "1"]]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"gr\xf6\xdfe\udcff \U0001f3af"), ("utf-8", "größe\\udcff 🎯")]
)
def test_a_name_that_the_output_cannot_hold_is_spelled_out(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    """Names of runs may hold any character and any byte; what the output's encoding lacks is written as an escape."""
    write_run(tmp_path / "runs" / ODD_NAME, {TAG: {1: 1.0}})
    for arguments in (["runs"], ["plot", "--tag", TAG]):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert call(*arguments, tmp_path / "runs") == (0, "", "")
        stdout.flush()
        assert shown in stdout.buffer.getvalue().decode(encoding)


def test_a_name_that_a_pipe_cannot_hold_is_spelled_out(tmp_path: Path) -> None:
    """So it is in a process of its own, whose encoding the environment chose."""
    write_run(tmp_path / "runs" / ODD_NAME, {TAG: {1: 1.0}})
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "keepfast.cli", "runs", "runs"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe\udcff \U0001f3af" in finished.stdout


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    """Nobody counts the minutes of a run of last week."""
    assert ago(seconds) == text


def test_show_tells_the_latest_values_and_the_checkpoints(
    call: Callable[..., Called], tmp_path: Path, net: Callable[..., Any]
) -> None:
    """Facts, then a line for each tag with its latest value and timestep, then a line for each checkpoint."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 5}
    cfg |= {"checkpoint_interval": 10, "best_metric": TAG, "best_mode": "min", "best_min_episodes": 0}
    with keepfast.Experiment(cfg, name="PPO", timesteps=20) as experiment:
        experiment.register(net=net())
        for timestep in range(20):
            experiment.track_data(TAG, float(timestep))
            experiment.step(timestep)
    code, out, _ = call("show", tmp_path / "run")
    assert code == 0
    facts, _, latest, checkpoints = ([cells(line) for line in part.splitlines()] for part in out.split("\n\n"))
    told = ["agent: PPO", "steps: 20/20", "status: finished", f"best score: 2 ({TAG})"]
    assert [fact[0] for fact in facts[1:]] == told
    assert latest == [["tag", "latest value", "timestep"], [TAG, "17", "20"]]
    assert [row[:2] for row in checkpoints] == [
        ["timestep", "files"],
        ["10", "agent_10.safetensors"],
        ["20", "agent_20.safetensors"],
        ["5", "best_agent.safetensors"],
    ]


def test_show_says_what_there_is_none_of(call: Callable[..., Called], tmp_path: Path) -> None:
    """A run that has just begun is shown as well; one that is not there is an error with the nearest."""
    keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "begun", "writers": ["jsonl"]}).close()
    code, out, _ = call("show", tmp_path / "begun")
    assert code == 0
    assert out.partition("\n\n")[0].splitlines()[1:] == [
        "agent: run",
        "steps: none",
        "status: finished",
        "best score: none",
        "metrics: none",
        "checkpoints: none",
    ]
    code, out, err = call("show", tmp_path / "begum")
    assert (code, out) == (1, "")
    assert err.endswith("begum`; known: begun. Did you mean `begun`?\n")


def test_plot_draws_a_rising_curve_from_the_lower_left_to_the_upper_right(
    call: Callable[..., Called], tmp_path: Path
) -> None:
    """Values stand at the left border, steps below, and the last value in the line of the run."""
    run = write_run(tmp_path / "run", {TAG: {step: step / 10 for step in range(0, 101, 5)}})
    code, out, err = call("plot", run, "--tag", TAG)
    assert (code, err) == (0, "")
    title, *_, steps, last = out.splitlines()
    assert title == TAG
    assert (steps.split(), last.split()) == (["0", "100"], ["run", "10", "at", "100"])
    rows = picture(out)
    assert (rows[0].split()[0], rows[8].split()[0], rows[-1].split()[0]) == ("10", "5", "0")
    starts = [len(row[3:]) - len(row[3:].lstrip()) for row in rows]
    assert starts == sorted(starts, reverse=True)
    assert max(map(len, out.splitlines())) <= 120


def test_plot_shows_mean_and_spread_of_several_runs(call: Callable[..., Called], tmp_path: Path) -> None:
    """Each run has a line with its last value, and one more tells mean and standard deviation."""
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_run(tmp_path / name, {TAG: {1: 0.0, 10: value}})
    code, out, _ = call("plot", tmp_path, "--tag", TAG)
    assert code == 0
    assert out.splitlines()[-3:] == ["a  1 at 10", "b  3 at 10", "mean of 2  2 +/- 1.41 at 10"]
    assert out == call("plot", tmp_path / "a", tmp_path / "b", tmp_path / "a", "--tag", TAG)[1]


def test_plot_shows_the_band_of_a_run_of_many_seeds(call: Callable[..., Called], tmp_path: Path) -> None:
    """It is the standard error of the mean, at the steps that have both."""
    written = {TAG: {1: 1.0, 5: 2.0, 10: 3.0}, f"{TAG} [standard error]": {1: 0.5, 10: 0.25, 11: 9.0}}
    code, out, _ = call("plot", write_run(tmp_path / "run", written), "--tag", TAG)
    assert code == 0
    assert out.splitlines()[-2:] == ["run  3 at 10", "mean of seeds  3 +/- 0.25 at 10 (standard error)"]
    rows = picture(out)
    assert (rows[0].split()[0], rows[-1].split()[0]) == ("3.25", "0.5")
    plain = call("plot", write_run(tmp_path / "plain", {TAG: written[TAG]}), "--tag", TAG)[1]
    assert len("".join("".join(rows).split())) > 2 * len("".join("".join(picture(plain)).split()))


def test_plot_shows_the_seeds_of_a_run_that_writes_each(call: Callable[..., Called], tmp_path: Path) -> None:
    """Each seed as a run, with the spread of all of them."""
    with keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "run", "writers": []}):
        pass
    for seed in range(2):
        write_run(tmp_path / "run" / "seeds" / str(seed), {TAG: {1: 0.0, 10: 1.0 + 2 * seed}})
    code, out, _ = call("plot", tmp_path / "run", "--tag", TAG)
    assert code == 0
    assert out.splitlines()[-3:] == ["0  1 at 10", "1  3 at 10", "mean of 2  2 +/- 1.41 at 10"]
    assert out == call("plot", tmp_path, "--tag", TAG)[1]


def test_runs_of_one_name_are_told_apart_by_their_paths(call: Callable[..., Called], tmp_path: Path) -> None:
    """Two groups may each have a run of that name."""
    for group in ("x", "y"):
        write_run(tmp_path / group / "run", {TAG: {1: 1.0, 2: 2.0}})
    lines = call("plot", tmp_path, "--tag", TAG)[1].splitlines()
    assert [line.split()[0] for line in lines[-3:-1]] == [str(tmp_path / group / "run") for group in ("x", "y")]


@pytest.mark.parametrize("points", [{5: 2.0}, {1: 3.0, 2: 3.0}, {1: 1.0, 2: math.nan}, {0: 0.0}, {1: -1e300, 2: 1e300}])
def test_curves_without_extent_are_drawn(call: Callable[..., Called], tmp_path: Path, points: dict[int, float]) -> None:
    """A single point, a constant and an enormous range have a picture too."""
    code, out, err = call("plot", write_run(tmp_path / "run", {TAG: points}), "--tag", TAG)
    assert (code, err) == (0, "")
    assert picture(out)


def test_an_unknown_tag_is_answered_with_the_nearest(call: Callable[..., Called], tmp_path: Path) -> None:
    """The known tags are listed, and the exit code is that of something typed wrong."""
    run = write_run(tmp_path / "run", {TAG: {1: 1.0}, "Other": {1: 1.0}})
    code, out, err = call("plot", run, "--tag", "Loss / Polcy loss")
    assert (code, out) == (2, "")
    assert err == f"error: unknown tag `Loss / Polcy loss`; known: {TAG}, Other. Did you mean `{TAG}`?\n"


def test_a_run_without_the_tag_is_passed_over_with_a_warning(call: Callable[..., Called], tmp_path: Path) -> None:
    """The others are drawn; where all values are NaN there is nothing to draw."""
    has, lacks = write_run(tmp_path / "a", {TAG: {1: 1.0}}), write_run(tmp_path / "b", {"x": {1: math.nan}})
    code, out, err = call("plot", has, lacks, "--tag", TAG)
    assert (code, err) == (0, f"warning: no value of `{TAG}` in {lacks}\n")
    assert out.splitlines()[-1] == "a  1 at 1"
    code, _, err = call("plot", lacks, "--tag", "x")
    assert (code, err) == (2, "error: every value of `x` is NaN or infinite; there is nothing to draw\n")


def test_plot_of_nothing_says_so(call: Callable[..., Called], tmp_path: Path) -> None:
    """A path that is not there, an empty directory and a run without metrics are errors."""
    keepfast.Experiment({"directory": str(tmp_path / "b"), "experiment_name": "run", "writers": ["jsonl"]}).close()
    (tmp_path / "empty").mkdir()
    for path, message in (("a", "no run at"), ("empty", "no runs in"), ("b", "no metrics in")):
        code, out, err = call("plot", tmp_path / path, "--tag", TAG)
        assert (code, out) == (1, "")
        assert f"{message} `{tmp_path / path}`" in err


@needs_matplotlib
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG\r\n"), ("new/a.SVG", b"<?xml")])
def test_plot_writes_pictures(call: Callable[..., Called], tmp_path: Path, name: str, start: bytes) -> None:
    """The format is that of the extension, directories are made, and names may hold what would be a formula."""
    for run in ("_a $x", os.fsdecode(b"b\xff")):
        write_run(tmp_path / "runs" / run, {TAG: {1: 1.0, 10: 2.0}})
    output = tmp_path / name
    code, out, err = call("plot", tmp_path / "runs", "--tag", TAG, "--output", output)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == str(output)
    assert not picture(out)
    assert output.read_bytes().startswith(start)


@needs_matplotlib
def test_a_picture_of_several_runs_holds_each_of_them_the_mean_and_the_spread(tmp_path: Path) -> None:
    """Curves, mean and band are all in the file, and the legend names them."""
    from keepfast.pictures.figure import write_figure
    from keepfast.pictures.picture import Picture

    curves = {"a": curve([1, 2], [1, 2]), "b": curve([1, 2], [3, 4])}
    write_figure(Picture(TAG, curves, spread_of(list(curves.values()))), tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    for text in (TAG, "timesteps", "a", "b", "mean of 2 ± standard deviation"):
        assert f"<!-- {text} -->" in drawn
    assert "PolyCollection" in drawn


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_read(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension that is not allowed, and Matplotlib that is not there, are told whatever the runs are."""
    code, _, err = call("plot", tmp_path / "absent", "--tag", TAG, "--output", "a.jpg")
    assert (code, err) == (2, "error: cannot draw `a.jpg`; allowed: a name that ends with .png or .svg\n")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    code, _, err = call("plot", tmp_path / "absent", "--tag", TAG, "--output", "a.png")
    assert code == 1
    assert err.endswith('`matplotlib`, which is not installed; run: pip install "keepfast[plot]"\n')


def test_a_line_is_drawn_through_every_column_and_keeps_its_spikes() -> None:
    """Between two points the columns are joined; of many points in one column the highest and the lowest show."""
    canvas = Canvas(2, 1, (0, 3), (0, 3))
    canvas.draw(curve([0, 1, 2, 3], [0, 0, 3, 3]), "")
    assert [line.plain for line in canvas.lines()] == ["⣰⠋"]
    canvas = Canvas(50, 1, (0, 1000), (0, 1))
    canvas.draw(curve(list(range(1001)), [float(step == 501) for step in range(1001)]), "")
    (line,) = canvas.lines()
    assert set(line.plain[:25] + line.plain[26:]) == {"⣀"}
    assert line.plain[25] in "⣇⣸"


def test_a_band_is_lighter_than_a_line_and_the_last_drawn_has_its_style() -> None:
    """Every other dot of the band is set; a line over it keeps its own style."""
    canvas = Canvas(2, 2, (0, 3), (0, 7))
    canvas.shade(curve([0, 3], [0, 0]), curve([0, 3], [7, 7]), "dim")
    assert [line.plain for line in canvas.lines()] == ["⡪⡪", "⡪⡪"]
    canvas.draw(curve([0, 3], [0, 0]), "bold")
    upper, lower = canvas.lines()
    assert [str(span.style) for span in upper.spans + lower.spans] == ["dim", "bold"]
    assert [line.plain for line in canvas.lines(ascii_only=True)] == ["**", "**"]


def test_what_is_drawn_of_a_series_is_its_finite_values() -> None:
    """Of several values at one step the last counts, if it is finite."""
    steps, values = np.array([1, 1, 2, 3, 3]), np.array([5.0, 6.0, np.inf, 7.0, np.nan])
    found = curve_of(Series(steps, values, np.zeros(5)))
    assert (found.steps.tolist(), found.values.tolist()) == ([1, 3], [6, 7])
    assert curve_of(Series(steps[:0], values[:0], np.zeros(0))).steps.tolist() == []


def test_mean_and_spread_are_those_of_the_runs_that_reach_a_step() -> None:
    """A run counts between its first and its last step, along straight lines; a step of one run has no spread."""
    found = spread_of([curve([0, 10], [0, 10]), curve([0, 5, 10], [2, 7, 12]), curve([4, 20], [4, 4])])
    assert found.steps.tolist() == [0, 4, 5, 10]
    assert found.mean.tolist() == [1, 14 / 3, 16 / 3, 26 / 3]
    expected = [np.std(values, ddof=1) for values in ([0, 2], [4, 6, 4], [5, 7, 4], [10, 12, 4])]
    np.testing.assert_allclose(found.deviation, expected)
    np.testing.assert_allclose(found.upper.values - found.lower.values, 2 * found.deviation)
    assert spread_of([curve([1], [1]), curve([2], [2])]).steps.tolist() == []
    assert spread_of([curve([1, 2], [1, 2])]).steps.tolist() == []


def commands(page: str) -> Iterator[str]:
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL):
        yield from block.splitlines()


@needs_matplotlib
def test_the_page_on_the_command_line_runs(
    call: Callable[..., Called], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that the page shows runs on what its Python block leaves, one after the other."""
    page = (project / "docs" / "command-line.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, timeout=120)
    monkeypatch.chdir(tmp_path)
    printed = []
    for command in commands(page):
        program, *arguments = shlex.split(command)
        code, out, err = call(*arguments)
        assert (program, code, err) == ("keepfast", 0, ""), command
        printed.append(out)
    assert len(printed) >= 7
    assert "3 of 3 files are good" in "".join(printed)
    assert (tmp_path / "loss.svg").exists()
