"""Records what is done to a directory, and makes of it what power losses may leave."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.powerloss.disk import Disk
from tests.powerloss.recorder import Recorder, Told

EVERYTHING = "KEEPFAST_POWERLOSS"
"""The variable of the environment that asks for so many losses at every point, in place of a sample."""

Work = Callable[[Path, Recorder], object]
"""Does something to an empty directory, and tells what is durable."""

Check = Callable[[Path, list[Any]], object]
"""Looks at what a loss left, and at what was told before it; raises what is wrong."""


def recorded(work: Work, directory: Path) -> Recorder:
    """Do something to an empty directory, and return what it did."""
    directory.mkdir()
    with Recorder(directory) as recorder:
        work(directory, recorder)
    return recorder


def content(directory: Path) -> dict[str, bytes | None]:
    """Return the content of every file in and below a directory, by path; None for a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")
    }


def lost(recorder: Recorder, directory: Path, seed: str, states: int) -> Iterator[list[Any]]:
    """Put into a directory, one after the other, what losses at some points leave; yield what was told before each.

    The points are spread evenly, those right after somebody was told something among them.
    """
    at_each = int(os.environ.get(EVERYTHING, "0"))
    generator = random.Random(seed)
    points = range(len(recorder.events))
    told = [point for point in points if isinstance(recorder.events[point], Told)]
    chosen = Counter([*points] * at_each if at_each else [*told, *generator.choices(points, k=states - len(told))])
    disk = Disk()
    for point, event in enumerate(recorder.events):
        disk.apply(event)
        for _ in range(chosen[point]):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            disk.write_lost(directory, generator)
            yield disk.told


def play(work: Work, check: Check, tmp_path: Path, seed: str, states: int) -> str:
    """Do something once, and look at what losses at many points of it leave.

    Returns:
        How many there were.
    """
    recorder = recorded(work, tmp_path / "whole")
    count = 0
    with mock.patch("os.fsync", return_value=None):  # the losses are over, and disks are slow
        for told in lost(recorder, tmp_path / "lost", seed, states):
            before = content(tmp_path / "lost")
            try:
                check(tmp_path / "lost", told)
            except Exception as error:
                error.add_note(
                    f"loss {count} among {len(recorder.events)} calls, seed {seed}, told {told}: {[*before]}"
                )
                raise
            count += 1
    return f"{count} losses among {len(recorder.events)} calls"
