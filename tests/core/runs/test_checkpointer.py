"""From modules to checkpoints behind training: what is promised, refused, found again and passed over."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import exclusive
from keepfast.modules.table import ModuleTable
from keepfast.runs.artifacts.promised import Durable
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.resuming import Found, find

TAG = "Reward / Total reward (mean)"
Make = Callable[..., Checkpointer]


@pytest.fixture
def modules(net: Callable[..., Any]) -> dict[str, Any]:
    return {"policy": net(0), "value": net(1)}


@pytest.fixture
def make(tmp_path: Path, modules: dict[str, Any]) -> Iterator[Make]:
    """Return a maker of checkpointers on one directory; each is closed at the end."""
    made: list[Checkpointer] = []

    def make(**settings: Any) -> Checkpointer:
        config = keepfast.ExperimentConfig(checkpoint_interval=10, **settings)
        table = ModuleTable(modules, config.backend)
        made.append(Checkpointer(config, tmp_path / "checkpoints", table, lambda _modules: {"kept": 1}))
        made[-1].set_length(None)
        return made[-1]

    yield make
    for checkpointer in made:
        checkpointer.close()


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def behind(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def found(checkpointer: Checkpointer, which: str = "latest") -> Found:
    """Return what a resume of the checkpointer's own directory finds."""
    there = find(which, checkpointer.directory)
    assert there is not None
    return there


def names(tmp_path: Path) -> list[str]:
    found = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    return sorted(found - {"index.json"})


def test_a_checkpoint_holds_the_modules_as_they_were(make: Make, modules: dict[str, Any], behind: bool) -> None:
    """What is changed after the call never reaches the file."""
    checkpointer = make(async_checkpoints=behind)
    weight = modules["policy"].arrays["body"]["weight"]
    before = weight.copy()
    checkpointer.checkpoint(10)
    weight[...] = -1.0
    checkpointer.wait()
    there = found(checkpointer)
    assert np.array_equal(there.checkpoint.modules["policy"]["body"]["weight"], before)
    assert (there.timestep, there.skipped) == (10, {})
    assert there.checkpoint.about.resume == {"kept": 1}
    assert there.checkpoint.about.backend == "numpy"


def test_a_modules_backend_is_looked_up_once_for_a_checkpoint(
    make: Make, numpy_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the best goes with it, whatever files come of it."""
    checkpointer = make(store_separately=True)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    asked: list[object] = []
    known = type(numpy_backend).recognizes
    monkeypatch.setattr(
        type(numpy_backend), "recognizes", lambda backend, module: asked.append(module) or known(backend, module)
    )
    checkpointer.checkpoint(10)
    checkpointer.wait()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [({}, "safetensors"), ({"checkpoint_format": "pt"}, "pt"), ({"store_separately": True}, "safetensors")],
    ids=str,
)
def test_the_format_is_the_configured_or_the_backends_own(
    make: Make, tmp_path: Path, settings: dict[str, Any], suffix: str
) -> None:
    """ "auto" takes what the backend of the modules prefers."""
    checkpointer = make(**settings)
    checkpointer.checkpoint(10)
    checkpointer.wait()
    keys = ["policy", "value"] if settings.get("store_separately") else ["agent"]
    assert names(tmp_path) == [f"{key}_10.{suffix}" for key in keys]


def test_the_best_is_stored_at_the_next_checkpoint_and_at_close(
    make: Make, modules: dict[str, Any], tmp_path: Path
) -> None:
    """It holds the modules of the moment they scored, not those of the moment it is stored."""
    checkpointer = make()
    bias = modules["policy"].arrays["body"]["bias"]
    bias[...] = 5.0
    checkpointer.judge({TAG: 1.0}, 1, 5)
    bias[...] = 10.0
    checkpointer.checkpoint(10)
    checkpointer.judge({TAG: float("nan")}, 1, 15)
    bias[...] = 17.0
    checkpointer.judge({TAG: 2.0}, 1, 17)
    checkpointer.wait()
    assert names(tmp_path) == ["agent_10.safetensors", "best_agent.safetensors"]
    best = found(checkpointer, "best")
    assert (best.timestep, best.checkpoint.metadata["metric"]["value"]) == (5, 1.0)
    assert set(best.checkpoint.modules["policy"]["body"]["bias"].tolist()) == {5.0}
    checkpointer.close()
    best = found(checkpointer, "best")
    assert (best.timestep, best.checkpoint.metadata["metric"]["value"]) == (17, 2.0)
    assert set(best.checkpoint.modules["policy"]["body"]["bias"].tolist()) == {17.0}
    assert checkpointer.directory.best_scores(TAG) == [2.0]


@pytest.mark.filterwarnings("ignore:`best_metric` is `another tag`")  # told at close
@pytest.mark.parametrize(
    "settings", [{"keep_best": 0}, {"best_metric": "another tag"}, {"best_min_episodes": 2}], ids=str
)
def test_no_best_is_stored_where_none_is_asked_for(make: Make, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Neither with `keep_best` 0, nor for another tag, nor with too few episodes."""
    checkpointer = make(**settings)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    checkpointer.checkpoint(10)
    checkpointer.wait()
    assert names(tmp_path) == ["agent_10.safetensors"]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "flip":
        content[middle] ^= 1
    elif how == "truncate":
        del content[middle:]
    elif how == "zero":
        content[middle : middle + 64] = bytes(64)
    path.write_bytes(b"" if how == "empty" else content)


@pytest.mark.parametrize("how", ["flip", "truncate", "zero", "empty"])
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_a_damaged_newest_is_passed_over_with_its_reason(make: Make, tmp_path: Path, how: str, form: str) -> None:
    """The newest good one is found; the warning and the table of the skipped name the file and what is wrong."""
    checkpointer = make(checkpoint_format=form)
    for timestep in (10, 20, 30):
        checkpointer.checkpoint(timestep)
    checkpointer.wait()
    damaged = [tmp_path / "checkpoints" / f"agent_{timestep}.{form}" for timestep in (20, 30)]
    for path in damaged:
        damage(path, how)
    with pytest.warns(keepfast.KeepfastWarning, match=f"going on with agent_10.{form}") as warned:
        there = found(checkpointer)
    assert there.timestep == 10
    assert list(there.skipped) == damaged[::-1]
    for path in damaged:
        assert str(path) in there.skipped[path]
        assert there.skipped[path] in str(warned[0].message)


def test_where_all_are_damaged_each_is_told(make: Make, tmp_path: Path) -> None:
    """The error lists every file with its reason."""
    checkpointer = make()
    for timestep in (10, 20):
        checkpointer.checkpoint(timestep)
    checkpointer.wait()
    paths = [tmp_path / "checkpoints" / f"agent_{timestep}.safetensors" for timestep in (10, 20)]
    for path in paths:
        damage(path, "flip")
    with pytest.raises(keepfast.NotFound, match="there is no checkpoint to resume from") as raised:
        find("latest", checkpointer.directory)
    assert len(str(raised.value).splitlines()) == 3
    assert all(str(path) in str(raised.value) for path in paths)


def test_a_set_that_was_never_whole_is_no_reason_not_to_begin(make: Make, tmp_path: Path) -> None:
    """A kill before all its files had their names, and the index, leaves what was never told to be there."""
    checkpointer = make(store_separately=True, async_checkpoints=False)
    checkpointer.checkpoint(10)
    (tmp_path / "checkpoints" / "index.json").unlink()
    (tmp_path / "checkpoints" / "policy_10.safetensors").unlink()
    with pytest.warns(keepfast.KeepfastWarning, match="belongs with files of policy, .* starting anew"):
        assert find("latest", checkpointer.directory) is None


def test_a_file_of_a_listed_set_that_is_gone_is_told(make: Make, tmp_path: Path) -> None:
    """What was durable once is not taken for what never was."""
    checkpointer = make(store_separately=True, async_checkpoints=False)
    checkpointer.checkpoint(10)
    (tmp_path / "checkpoints" / "policy_10.safetensors").unlink()
    with pytest.raises(keepfast.NotFound, match=r"policy_10\.safetensors` is listed in the index but is not there"):
        find("latest", checkpointer.directory)


def test_an_empty_directory_has_nothing_to_resume_from(make: Make, tmp_path: Path) -> None:
    """The error names the directory; in the run's own there is just nothing yet."""
    (tmp_path / "empty").mkdir()
    own = make().directory
    with pytest.raises(keepfast.NotFound, match=r"there is no checkpoint to resume from in `.*empty`"):
        find(tmp_path / "empty", own)
    assert find("latest", own) is None


def test_a_refused_checkpoint_is_told_once_and_counted(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """Training goes on, what was durable stays, and the tally comes at close."""
    checkpointer = make(async_checkpoints=behind)
    checkpointer.checkpoint(10)
    checkpointer.wait()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with warnings.catch_warnings(record=True, action="always") as warned:
            checkpointer.checkpoint(20)
            checkpointer.wait()
        (told,) = [str(warning.message) for warning in warned]
        assert "agent_20.safetensors`: No space left on device" in told
        checkpointer.checkpoint(30)
        checkpointer.wait()
    assert names(tmp_path) == ["agent_10.safetensors"]
    checkpointer.checkpoint(40)
    with pytest.warns(keepfast.KeepfastWarning, match="2 checkpoints could not be stored; the last reason: .*agent_30"):
        checkpointer.close()
    assert names(tmp_path) == ["agent_10.safetensors", "agent_40.safetensors"]


def test_a_best_is_durable_though_the_periodic_one_is_refused(
    make: Make, modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And told as stored only where it is."""
    durable, synced = list[Durable](), list[Path]()
    checkpointer = make(async_checkpoints=False)
    checkpointer.when_durable(durable.append)
    write, make_durable = CheckpointDirectory.write, CheckpointDirectory.make_durable

    def refused(self: CheckpointDirectory, *args: Any, **options: Any) -> Any:
        if not options["best"]:
            raise OSError(errno.ENOSPC, "full")
        return write(self, *args, **options)

    def sync(self: CheckpointDirectory) -> None:
        make_durable(self)
        synced.append(self.path)

    monkeypatch.setattr(CheckpointDirectory, "write", refused)
    monkeypatch.setattr(CheckpointDirectory, "make_durable", sync)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    with pytest.warns(keepfast.KeepfastWarning, match="full"):
        checkpointer.checkpoint(10)
    assert (names(tmp_path), synced) == (["best_agent.safetensors"], [tmp_path / "checkpoints"])
    assert [(each.timestep, each.is_best) for each in durable] == [(5, True)]


def test_a_checkpoint_that_hangs_costs_itself_and_those_due_meanwhile(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training waits for it once, is told so, and goes on; what was due is counted, and what comes after is stored."""
    answers = threading.Event()
    checkpointer = make()
    with monkeypatch.context() as patched:
        patched.setattr("keepfast._system.background._TELL_SECONDS", 0.05)
        patched.setattr("keepfast._system.background._GIVE_UP_SECONDS", 0.2)
        patched.setattr(os, "fsync", lambda _descriptor: answers.wait(60))
        checkpointer.checkpoint(10)
        with pytest.warns(keepfast.KeepfastWarning) as told:
            checkpointer.checkpoint(20)
            checkpointer.checkpoint(30)
        with pytest.raises(keepfast.WaitedInVain, match="in vain for a checkpoint to be written"):
            checkpointer.wait()
        answers.set()
        assert eventually(lambda: names(tmp_path) == ["agent_10.safetensors"])
    assert ["waiting for a checkpoint" in str(each.message) for each in told] == [True, False]
    assert "could not be stored: waited in vain" in str(told[1].message)
    assert eventually(lambda: not checkpointer._background._hangs)
    checkpointer.checkpoint(40)
    with pytest.warns(keepfast.KeepfastWarning, match="2 checkpoints could not be stored; the last reason: waited in"):
        checkpointer.close()
    assert names(tmp_path) == ["agent_10.safetensors", "agent_40.safetensors"]


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_an_index_that_another_holds_costs_one_checkpoint(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it says for whom, and gives up; the checkpoint is counted and told, and the next is stored."""
    monkeypatch.setattr("keepfast._system.lock._TELL_SECONDS", 0.05)
    monkeypatch.setattr("keepfast._system.lock._GIVE_UP_SECONDS", 0.2)
    checkpointer = make()
    checkpointer.checkpoint(10)
    checkpointer.wait()
    with pytest.warns(keepfast.KeepfastWarning) as told, exclusive(checkpointer.directory.path):
        checkpointer.checkpoint(20)
        checkpointer.wait()
    waiting, lost = sorted((str(each.message) for each in told), key=lambda text: "could not" in text)
    assert "waiting for" in waiting
    assert ".lock` is locked by" in lost
    checkpointer.checkpoint(30)
    checkpointer.close()
    assert names(tmp_path) == ["agent_10.safetensors", "agent_30.safetensors"]


def test_any_other_failure_is_raised_at_the_next_call(make: Make, modules: dict[str, Any]) -> None:
    """What no disk is to blame for is the user's to know: a leaf that no file can hold, say."""
    checkpointer = make()
    modules["policy"].arrays["odd"] = threading.Lock()
    checkpointer.checkpoint(10)
    with pytest.raises(TypeError, match="odd"):
        checkpointer.wait()
    del modules["policy"].arrays["odd"]
    checkpointer.checkpoint(20)
    checkpointer.wait()


def test_without_modules_nothing_is_written(make: Make, modules: dict[str, Any], tmp_path: Path) -> None:
    """An experiment that only tracks has no checkpoints and no error; where they were asked for, it is told once."""
    modules.clear()
    checkpointer = make()
    checkpointer.judge({TAG: 1.0}, 1, 5)
    with pytest.warns(keepfast.KeepfastWarning, match="a checkpoint is due and no module is registered") as told:
        checkpointer.checkpoint(10)
        checkpointer.checkpoint(20)
    assert len(told) == 1
    checkpointer.close()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "torhc"}, "unknown backend `torhc`; known: .* Did you mean `torch`"),
        ({"checkpoint_format": "safetensor"}, "unknown checkpoint format `safetensor`; .* Did you mean `safetensors`"),
    ],
)
def test_a_wrong_name_is_told_at_the_start(make: Make, settings: dict[str, Any], message: str) -> None:
    """Not at the first checkpoint, hours later."""
    with pytest.raises(keepfast.UnknownPlugin, match=message):
        make(**settings)
