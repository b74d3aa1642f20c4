"""Symbolic links in the directory of a run: nothing that they lead to is written or removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.runs.listing.tagging import Label, write_label
from keepfast.runs.reading import find_runs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")

LENGTH = 4
MORE = ("run/.keepfast.lock", "run/.checkpoints.lock", ".keepfast.runs")


def train(directory: Path, net: Callable[..., Any]) -> None:
    """Resume the run, and go on for as long again: the best, retention, separate files, metrics and a tag."""
    cfg = {
        "directory": str(directory),
        "experiment_name": "run",
        "writers": ["jsonl", "csv"],
        "write_interval": 1,
        "checkpoint_interval": 2,
        "keep_last": 2,
        "store_separately": True,
        "best_metric": "Loss / Loss",
    }
    with keepfast.Experiment(cfg, timesteps=2 * LENGTH) as experiment:
        experiment.register(policy=net(1), value=net(2))
        start = experiment.resume()
        for timestep in range(start, start + LENGTH):
            experiment.track_data("Loss / Loss", float(timestep))
            experiment.step(timestep)
    find_runs(directory)
    write_label(directory / "run", Label(tags=("seen",)))


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, net: Callable[..., Any]) -> Path:
    """Return the directory of a run that ended once."""
    directory = tmp_path_factory.mktemp("made")
    train(directory, net)
    return directory


@contextlib.contextmanager
def told_of_a_link() -> Iterator[None]:
    """Let an error pass that says what is wrong."""
    try:
        yield
    except (keepfast.KeepfastError, OSError) as error:
        if "symbolic link" not in str(error):
            raise


def names_of(directory: Path) -> list[str]:
    return sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_what_a_link_leads_to_is_neither_written_nor_removed(
    tmp_path: Path, made: Path, net: Callable[..., Any], there: bool
) -> None:
    """Each file of a run in its turn lies elsewhere: it is read, replaced here, or refused by name."""
    names = [*names_of(made), *MORE]
    assert {"run/config.json", "run/checkpoints/index.json", "run/metrics.jsonl"} <= set(names)
    for number, name in enumerate(names):
        directory, outside = tmp_path / str(number), tmp_path / f"{number}.outside"
        shutil.copytree(made, directory)
        link = directory / name
        content = link.read_bytes() if link.exists() else b"of somebody else\n"
        link.unlink(missing_ok=True)
        if there:
            outside.write_bytes(content)
        link.symlink_to(outside)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with told_of_a_link():
                train(directory, net)
        assert outside.exists() == there, name
        assert not there or outside.read_bytes() == content, name
