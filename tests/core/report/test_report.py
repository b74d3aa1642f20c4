"""`keepfast report` writes one page on runs, and their figures."""

from __future__ import annotations

import html.parser
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import keepfast
from keepfast.metrics.spread import Curve
from keepfast.pictures.chart import smoothed, thinned
from keepfast.report.gathering import charts_of, gather, groups_of
from keepfast.report.page import MOST_BYTES
from keepfast.report.writing import write_report

EVIL = "<script>alert(1)</script>\x1b[2J\"' & \u202e"
TAG = "Loss / Policy loss"


def fail(path: Path, error: Exception) -> None:
    raise AssertionError(f"{path}: {error}")


def make_run(directory: Path, name: str, tags: dict[str, Any], **settings: Any) -> Path:
    """Write a run with what each tag's values are by timestep."""
    (run := directory / name).mkdir(parents=True)
    start = {"time": "2026-01-01T00:00:00+00:00", "ended": {"how": "finished", "seconds": 5}, "warnings": {EVIL: 3}}
    config = {"experiment": {"experiment_name": name}, **settings}
    document = {"agent": "PPO", "timesteps": 100, "config": config, "starts": [start]}
    (run / "config.json").write_text(json.dumps(document))
    lines = []
    for place in range(max(map(len, tags.values()))):
        scalars = {tag: float(values[place]) for tag, values in tags.items() if place < len(values)}
        lines.append(json.dumps({"step": place + 1, "wall_time": 1.0, "scalars": scalars}))
    (run / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    return run


class Page(html.parser.HTMLParser):
    """Takes a page apart, and fails at an element that is not closed, a script, or anything from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "link", "img", "object", "base", "form")
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload", "style"}
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(runs: list[Path], path: Path, **options: Any) -> tuple[str, Page]:
    write_report(runs, path, fail, **options)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_a_page_tells_all_there_is_of_a_run(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Curves, checkpoints with digests, memory, where it comes from, warnings, settings; and it is whole HTML."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "checkpoint_interval": 10}
    with keepfast.Experiment({"experiment": cfg, "lr": 0.25}, name="PPO", timesteps=20) as experiment:
        experiment.register(net=net())
        for timestep in range(20):
            experiment.track_data(TAG, float(timestep))
            experiment.step(timestep)
    text, page = page_of([tmp_path / "run"], tmp_path / "report.html")
    digest = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())["checkpoints"][0]["files"]
    for told in (TAG, "PPO", "finished", "20 of 20", digest["agent"]["digest"], "packages", "command", "lr", "0.25"):
        assert told in text
    assert page.tags.count("svg") == 1
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text


@pytest.mark.needs("matplotlib")
def test_text_of_files_is_text_on_the_page(tmp_path: Path) -> None:
    """Names, tags, settings and warnings of runs are shown, and no part of the page."""
    run = make_run(tmp_path, "run", {EVIL: [1.0, 2.0]}, **{EVIL: EVIL})
    text, page = page_of([run], tmp_path / "report.html")
    assert "<script" not in text
    assert "\x1b" not in text
    assert "<script>alert(1)</script>\\x1b[2J" in "".join(page.text)
    (svg,) = write_report([run], tmp_path / "other.html", fail, figures=tmp_path / "figures")[1:]
    ET.fromstring(svg.read_text(encoding="utf-8"))


def test_runs_that_differ_in_their_seeds_alone_are_one_line_with_a_band(tmp_path: Path) -> None:
    """Its mean and standard deviation; another learning rate is another line, and what differs is told."""
    for seed in range(3):
        for lr in (1, 2):
            make_run(tmp_path / "runs", f"{lr}-{seed}", {TAG: [seed, seed + lr]}, seed=seed, lr=lr)
    told = gather([tmp_path / "runs"], fail)
    assert [[each.label for each in group] for group in groups_of(told)] == [
        ["1-0", "1-1", "1-2"],
        ["2-0", "2-1", "2-2"],
    ]
    (chart,) = charts_of(told, 0)
    first, second = chart.lines
    assert list(first.smooth.values) == [1, 2]
    assert first.spread is not None
    assert list(first.spread.deviation) == [1, 1]
    assert list(second.smooth.values) == [1, 3]
    text, page = page_of([tmp_path / "runs"], tmp_path / "report.html")
    assert "1-0 and 2 more seeds" in text
    assert page.tags.count("polygon") == 2
    assert "<td>lr</td><td>1</td><td>1</td><td>1</td><td>2</td>" in text
    assert "<td>experiment.experiment_name</td><td>1-0</td><td>1-1</td>" not in text


@pytest.mark.parametrize(("tags", "runs", "steps"), [(400, 2, 30), (3, 40, 30), (1, 1, 20_000)])
def test_a_page_is_small_whatever_it_is_of(tmp_path: Path, tags: int, runs: int, steps: int) -> None:
    """Under 500 kB, and in two seconds; what has no place is named."""
    rng = np.random.default_rng(0)
    for number in range(runs):
        values = {f"Group {tag % 7} / tag {tag}": rng.normal(size=steps) for tag in range(tags)}
        settings = {f"setting {place}": "x" * 5000 for place in range(50)}
        make_run(tmp_path / "runs", f"run-{number}", values, lr=number, **settings)
    before = time.process_time()
    text, _ = page_of([tmp_path / "runs"], tmp_path / "report.html")
    assert time.process_time() - before < 2 + tags * runs * steps / 50_000
    assert len(text.encode()) < MOST_BYTES + 1000 < 500_000
    assert ("more tags have no place here" in text) == (tags == 400)
    assert ("No place was left for" in text) == (runs == 40)


def test_a_run_without_metrics_or_settings_has_a_page(tmp_path: Path) -> None:
    """It says what there is none of."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    text, _ = page_of([tmp_path / "run"], tmp_path / "report.html")
    assert "Nothing was tracked." in text


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [np.nan, 1.0, np.inf], [1e300, -1e300], [0.0] * 5])
def test_any_values_are_drawn(tmp_path: Path, values: list[float]) -> None:
    """One alone, the same again and again, and what is not finite beside others."""
    run = make_run(tmp_path, "run", {TAG: values})
    (svg,) = write_report([run], tmp_path / "report.html", fail, figures=tmp_path / "figures")[1:]
    root = ET.fromstring(svg.read_text(encoding="utf-8"))
    drawn = [each for each in root.iter() if each.tag.endswith(("polyline", "circle"))]
    assert drawn
    assert "nan" not in svg.read_text(encoding="utf-8")


@pytest.mark.needs("matplotlib")
def test_figures_have_a_name_each(tmp_path: Path) -> None:
    """Tags whose names have no place in a file's name get numbers."""
    run = make_run(tmp_path, "run", {"a/b": [1.0, 2.0], "a b": [1.0, 2.0], "../../x": [1.0], "": [1.0]})
    written = write_report([run], tmp_path / "report.html", fail, figures=tmp_path / "figures")[1:]
    assert sorted(path.name for path in written) == ["a-b-2.svg", "a-b.svg", "figure.svg", "x.svg"]
    assert {path.parent for path in written} == {tmp_path / "figures"}


@pytest.mark.needs("matplotlib")
def test_figures_are_pictures_too(tmp_path: Path) -> None:
    """PNG, for who has Matplotlib."""
    for seed in range(2):
        make_run(tmp_path / "runs", f"run-{seed}", {TAG: [seed, seed + 1.0]}, seed=seed)
    (png,) = write_report([tmp_path / "runs"], tmp_path / "r.html", fail, figures=tmp_path, form="png")[1:]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_written_is_told_before_anything_is_read(tmp_path: Path) -> None:
    """A page of another name, a smoothing out of range, no runs; and a page is not replaced unasked."""
    with pytest.raises(keepfast.InvalidValue, match=r"report.pdf`; allowed: a name that ends with .html"):
        write_report([], tmp_path / "report.pdf", fail)
    with pytest.raises(keepfast.InvalidValue, match="`smoothing` is 1; allowed: from 0, not at all, to below 1"):
        write_report([], tmp_path / "report.html", fail, smoothing=1)
    with pytest.raises(keepfast.NotFound, match="there is no run at"):
        write_report([tmp_path / "none"], tmp_path / "report.html", fail)


def test_smoothing_is_tensorboard_s() -> None:
    """An exponential average that is not drawn to zero; the first value stays, and 0 changes nothing."""
    curve = Curve(np.arange(4.0), np.array([4.0, 0.0, 0.0, 8.0]))
    assert list(smoothed(curve, 0).values) == [4, 0, 0, 8]
    weights = [[0.5**age for age in range(count, -1, -1)] for count in range(4)]
    expected = [np.average(curve.values[: len(each)], weights=each) for each in weights]
    np.testing.assert_allclose(smoothed(curve, 0.5).values, expected)


def test_thinning_keeps_the_extremes() -> None:
    """The least and the largest value of each part, and both ends."""
    values = np.random.default_rng(0).normal(size=10_000)
    values[5000], values[7000] = 99, -99
    curve = thinned(Curve(np.arange(10_000.0), values), 100)
    assert len(curve.steps) <= 102
    assert (curve.values.max(), curve.values.min()) == (99, -99)
    assert (curve.steps[0], curve.steps[-1]) == (0, 9999)
