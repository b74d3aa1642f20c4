"""The best of `x` at timestep 5 and the very best of `x_5` would have one name; each file says what it is."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedCheckpoint
from keepfast.checkpoints.retention import Retention
from keepfast.interfaces.checkpoint_store import CheckpointMetadata
from keepfast.plugins.formats import stores

NAMES = ("x", "x_5", "x_6", "x_5_6", "x_05", "x_previous", "x_5_previous", "best_x", "agent")


def write(
    directory: CheckpointDirectory,
    timestep: int,
    content: float,
    score: float | None = None,
    *,
    modules: Sequence[str] = ("x", "x_5"),
    keep_best: int = 1,
) -> IndexedCheckpoint:
    """Write each module to a file of its own; with a score, as one of the best."""
    told = CheckpointMetadata(
        format_version=1,
        timestep=timestep,
        modules=tuple(modules),
        metric=None if score is None else {"tag": "a", "value": score},
        resume={},
        time=content,
    )
    state = {name: {"w": np.array([content, NAMES.index(name)])} for name in modules}
    keep = Retention(None, None, keep_best, "max")
    return directory.write(state, told, stores()[".pt"], separately=True, best=score is not None, retention=keep)


def found(
    directory: CheckpointDirectory, modules: Sequence[str] = ("x", "x_5")
) -> list[tuple[bool, int | None, float]]:
    """Return whether each checkpoint is one of the best, its timestep and its content, which all its modules have."""
    told = []
    for checkpoint in directory.checkpoints():
        read = directory.read(checkpoint).modules
        contents = {name: tree["w"].tolist() for name, tree in read.items()}
        content = next(iter(contents.values()))[0]
        assert contents == {name: [content, NAMES.index(name)] for name in modules}
        told.append((checkpoint.best, checkpoint.timestep, content))
    return told


@pytest.fixture(params=[False, True], ids=["listed", "the index lost"])
def lost(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "checkpoints")


def test_the_best_of_a_module_and_the_very_best_of_another_stay_apart(
    directory: CheckpointDirectory, lost: bool
) -> None:
    """Of three that are kept, each comes back with all its modules."""
    for timestep, score in ((4, 3.0), (5, 1.0), (6, 2.0)):
        write(directory, timestep, timestep, score, keep_best=3)
    if lost:
        (directory.path / "index.json").unlink()
    assert found(directory) == [(True, 4, 4.0), (True, 5, 5.0), (True, 6, 6.0)]
    assert [each.timestep for each in directory.newest_first(best=True)] == [4, 6, 5]


@pytest.mark.parametrize("modules", [("x", "x_5"), ("x_5", "x"), ("x", "x_5", "x_05"), ("policy", "x")])
def test_one_of_the_best_is_written_again_at_its_timestep(
    directory: CheckpointDirectory, modules: Sequence[str], lost: bool
) -> None:
    """As after a resume from before it: the later one is there, and nothing of the earlier."""
    modules = [name for name in modules if name in NAMES]
    for content, score in ((1.0, 3.0), (2.0, 1.0), (3.0, 2.0)):
        write(directory, 4 if score == 3.0 else 5, content, score, modules=modules, keep_best=3)
        if lost:
            (directory.path / "index.json").unlink()
    assert found(directory, modules) == [(True, 4, 1.0), (True, 5, 3.0)]
    assert len([*directory.path.glob("*.pt")]) == 2 * len(modules)


@pytest.mark.parametrize("renames", range(5))
@pytest.mark.parametrize(("timestep", "score"), [(6, 9.0), (5, 9.0), (5, 0.5)])
def test_a_kill_between_the_renames_leaves_a_best(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch, renames: int, timestep: int, score: float
) -> None:
    """What is set aside takes the name of no other module's file."""
    for content, earlier in ((4.0, 3.0), (5.0, 1.0)):
        write(directory, int(content), content, earlier, keep_best=2)
    replace, left = os.replace, [renames]

    def dying(source: str, target: str) -> None:
        left[0] -= not str(target).endswith("index.json")
        if left[0] < 0:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        with contextlib.suppress(KeyboardInterrupt):
            write(directory, timestep, 7.0, score, keep_best=2)
    directory.sweep()
    whole = []
    for each in directory.newest_first(best=True):
        with contextlib.suppress(OSError):
            whole.append(directory.read(each).modules)
    contents = [{name: tree["w"].tolist() for name, tree in modules.items()} for modules in whole]
    assert {"x": [4.0, 0.0], "x_5": [4.0, 1.0]} in contents
    assert all(each in ({"x": [c, 0.0], "x_5": [c, 1.0]} for c in (4.0, 5.0, 7.0)) for each in contents)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_in_whatever_order_is_told_from_all_else(
    directory: CheckpointDirectory, seed: int, lost: bool
) -> None:
    """Names that end like ours, several writes of one timestep, and ever again no index."""
    draw = random.Random(seed)
    modules, keep_best = draw.sample(NAMES, draw.randint(2, 4)), draw.choice([1, 2, 3])
    written = set()
    for content in range(draw.randint(2, 6)):
        timestep, score = draw.choice([5, 6, 7]), draw.choice([None, *map(float, range(6))])
        write(directory, timestep, float(content), score, modules=modules, keep_best=keep_best)
        written.add((score is not None, timestep, float(content)))
        if lost and draw.random() < 0.5:
            (directory.path / "index.json").unlink()
        told = found(directory, modules)
        assert set(told) <= written
        assert (score is not None, timestep) in [(best, at) for best, at, _ in told]
