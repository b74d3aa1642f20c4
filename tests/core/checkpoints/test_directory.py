"""A run's checkpoint directory: names, index, retention, and what is found when things are damaged or gone."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedCheckpoint, IndexedFile, read_index, write_index
from keepfast.checkpoints.placing import file_name, key_of
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.verification import verify
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.plugins.formats import stores

MODULES = ("policy", "critic_1", "critic_2")
TAG = "Reward / Total reward (mean)"


def retention(
    keep_last: int | None = None,
    keep_every: int | None = None,
    keep_best: int = 1,
    mode: Literal["max", "min"] = "max",
) -> Retention:
    return Retention(keep_last, keep_every, keep_best, mode)


def write(
    directory: CheckpointDirectory,
    timestep: int,
    *,
    score: float | None = None,
    separately: bool = False,
    keep: Retention | None = None,
    suffix: str = ".pt",
    content: float | None = None,
    time: float = 1.0,
    last: bool = True,
) -> IndexedCheckpoint:
    """Write a checkpoint whose arrays hold its timestep or other content; with a score it is a best one."""
    state = {name: {"w": np.full(8, float(timestep if content is None else content))} for name in MODULES}
    metadata: dict[str, Any] = {"format_version": 1, "timestep": timestep, "modules": list(MODULES), "time": time}
    metadata["resume"] = {}
    if score is not None:
        metadata["metric"] = {"tag": TAG, "value": score}
    store: CheckpointStore = stores()[suffix]
    best = score is not None
    told = CheckpointMetadata.of(metadata)
    kept = keep or retention()
    return directory.write(state, told, store, separately=separately, best=best, retention=kept, last=last)


def names(directory: CheckpointDirectory) -> list[str]:
    return sorted(path.name for path in directory.path.iterdir() if path.name != "index.json")


def latest(directory: CheckpointDirectory, *, best: bool = False) -> list[int | None]:
    return [checkpoint.timestep for checkpoint in directory.newest_first(best=best)]


def value(checkpoint: Checkpoint) -> set[float]:
    return {float(x) for name in MODULES for x in checkpoint.modules[name]["w"]}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "checkpoints")


@pytest.fixture(params=[False, True], ids=["together", "separately"])
def separately(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def files(timestep: int | str, *, separately: bool, best: bool = False) -> list[str]:
    keys = MODULES if separately else ("agent",)
    tail = "" if timestep == "" else f"_{timestep}"
    return sorted(f"{'best_' if best else ''}{key}{tail}.pt" for key in keys)


def test_files_have_the_documented_names(directory: CheckpointDirectory, separately: bool) -> None:
    """`agent_2500.pt` and `best_agent.pt`, or one for each module where they are stored separately."""
    write(directory, 2500, separately=separately)
    write(directory, 2000, separately=separately, score=1.0)
    assert names(directory) == sorted(files(2500, separately=separately) + files("", separately=separately, best=True))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_written_is_read_back(directory: CheckpointDirectory, separately: bool, suffix: str) -> None:
    """One file or several make the same checkpoint."""
    written = write(directory, 7, separately=separately, suffix=suffix)
    read = directory.read(written)
    assert value(read) == {7.0}
    assert set(read.modules) == set(MODULES)
    assert read.about.timestep == 7
    assert read.about.module is None
    assert "module" not in read.metadata


def test_numbers_sort_as_numbers(directory: CheckpointDirectory, separately: bool) -> None:
    """900 comes before 10000, with the index and without it."""
    for timestep in (10_000, 900, 1_000, 90):
        write(directory, timestep, separately=separately)
    assert latest(directory) == [10_000, 1_000, 900, 90]
    (directory.path / "index.json").unlink()
    assert latest(directory) == [10_000, 1_000, 900, 90]


def test_the_index_says_what_is_there(directory: CheckpointDirectory) -> None:
    """Step, modules, metric, file sizes, digests and versions stand in it, as plain JSON."""
    write(directory, 100)
    write(directory, 50, score=2.5)
    document = json.loads((directory.path / "index.json").read_text())
    assert document["version"] == 1
    periodic, best = document["checkpoints"]
    assert (periodic["timestep"], periodic["best"], periodic["metric"]) == (100, False, None)
    assert (best["timestep"], best["best"], best["metric"]) == (50, True, {"tag": TAG, "value": 2.5})
    assert periodic["modules"] == list(MODULES)
    assert periodic["versions"]["format"] == 1
    file = periodic["files"]["agent"]
    assert (file["name"], file["size"]) == ("agent_100.pt", (directory.path / "agent_100.pt").stat().st_size)
    assert file["digest"].startswith("crc32:")


@pytest.mark.parametrize("left", ["nothing", "a link that leads nowhere"])
def test_what_somebody_removed_is_listed_no_longer(directory: CheckpointDirectory, left: str) -> None:
    for timestep in (100, 200):
        write(directory, timestep)
    (directory.path / "agent_100.pt").unlink()
    if left != "nothing":
        (directory.path / "agent_100.pt").symlink_to("elsewhere")
    write(directory, 300)
    rows = json.loads((directory.path / "index.json").read_text())["checkpoints"]
    assert [row["timestep"] for row in rows] == [200, 300]


def test_a_deleted_index_loses_nothing(directory: CheckpointDirectory, separately: bool) -> None:
    """Without it every checkpoint is still found and read; modules named `critic_1` are no timesteps."""
    for timestep in (100, 200):
        write(directory, timestep, separately=separately)
    write(directory, 150, separately=separately, score=1.0)
    (directory.path / "index.json").unlink()
    assert latest(directory)[:2] == [200, 100]
    (best,) = directory.newest_first(best=True)
    assert value(directory.read(best)) == {150.0}
    assert good(directory) == {200.0}


def test_a_rebuilt_index_equals_the_lost_one(directory: CheckpointDirectory, separately: bool) -> None:
    """Everything the index knew stands in the files themselves."""
    keep = retention(keep_best=2)
    for timestep in (100, 200):
        write(directory, timestep, separately=separately, keep=keep)
        write(directory, timestep, separately=separately, keep=keep, score=float(timestep))
    index = directory.path / "index.json"
    before = json.loads(index.read_text())
    index.unlink()
    found, damaged = rebuild(directory.path)
    assert damaged == {}
    assert json.loads(index.read_text()) == before
    assert len(found) == 4


def test_rebuilding_leaves_damaged_files_out_and_says_so(directory: CheckpointDirectory) -> None:
    """The reason is given for each; the others are indexed."""
    write(directory, 100)
    write(directory, 200)
    flip_a_byte(directory.path / "agent_200.pt")
    found, damaged = rebuild(directory.path)
    assert [checkpoint.timestep for checkpoint in found] == [100]
    assert list(damaged) == [directory.path / "agent_200.pt"]
    assert "agent_200.pt" in damaged[directory.path / "agent_200.pt"]


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_index_is_no_obstacle(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    """Whatever byte of it is flipped, the checkpoints are found."""
    directory = CheckpointDirectory(tmp_path_factory.mktemp("run"))
    content = bytearray(INDEX.encode())
    content[position % len(content)] ^= flip
    for name in ("agent_100.pt", "agent_200.pt"):
        (directory.path / name).write_bytes(b"x")
    (directory.path / "index.json").write_bytes(content)
    listed = {name for checkpoint in directory.checkpoints() for name in checkpoint.names}
    assert {"agent_100.pt", "agent_200.pt"} <= listed


def _index() -> str:
    rows = [
        {
            "timestep": timestep,
            "best": False,
            "files": {"agent": {"name": f"agent_{timestep}.pt", "size": 1, "digest": "crc32:00000000"}},
            "modules": ["policy"],
            "metric": None,
            "time": 1.0,
            "versions": {},
            "own": True,
        }
        for timestep in (100, 200)
    ]
    return json.dumps({"version": 1, "checkpoints": rows})


INDEX = _index()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkpoints": [1]}', '{"checkpoints": [{"files": []}]}', "\0"])
def test_an_index_that_makes_no_sense_counts_as_none(directory: CheckpointDirectory, content: str) -> None:
    """The files are what counts."""
    write(directory, 100)
    (directory.path / "index.json").write_text(content)
    assert read_index(directory.path) == []
    assert latest(directory) == [100]


def test_keep_last_removes_the_oldest(directory: CheckpointDirectory, separately: bool) -> None:
    """After each write only the newest stay, and the index lists what is on disk."""
    for timestep in (100, 200, 900, 10_000):
        write(directory, timestep, separately=separately, keep=retention(keep_last=2))
    assert names(directory) == sorted(files(900, separately=separately) + files(10_000, separately=separately))
    assert [checkpoint.timestep for checkpoint in read_index(directory.path)] == [900, 10_000]


def test_keep_every_saves_milestones_from_keep_last(directory: CheckpointDirectory) -> None:
    """Multiples of `keep_every` stay whatever their age."""
    for timestep in range(100, 1100, 100):
        write(directory, timestep, keep=retention(keep_last=1, keep_every=400))
    assert [checkpoint.timestep for checkpoint in read_index(directory.path)] == [400, 800, 1000]


def test_without_limits_nothing_is_removed(directory: CheckpointDirectory) -> None:
    """`keep_last` None keeps them all."""
    for timestep in range(1, 13):
        write(directory, timestep)
    assert len(names(directory)) == 12


def test_retention_never_removes_the_best_or_what_it_did_not_write(directory: CheckpointDirectory) -> None:
    """Files of other people stay, also those that look like ours; so does the best, however old."""
    directory.path.mkdir()
    foreign = ["agent_1.pt", "best_agent_old.pt", "notes.txt", "policy_final.pt", ".hidden"]
    for name in foreign:
        (directory.path / name).write_bytes(b"somebody's own")
    write(directory, 10, score=1.0)
    for timestep in (100, 200, 300):
        write(directory, timestep, keep=retention(keep_last=1))
    assert names(directory) == sorted([*foreign, "best_agent.pt", "agent_300.pt"])


def test_retention_never_removes_what_was_just_written(directory: CheckpointDirectory) -> None:
    """After a resume from further back, later checkpoints of the old branch do not push out the new ones."""
    write(directory, 900)
    write(directory, 500, keep=retention(keep_last=1))
    assert names(directory) == ["agent_500.pt", "agent_900.pt"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_keep_best_keeps_so_many_of_the_best(
    directory: CheckpointDirectory, separately: bool, mode: Literal["max", "min"]
) -> None:
    """The very best has the plain name, those before it carry their timestep, and worse ones go."""
    sign = 1 if mode == "max" else -1
    for timestep in (10, 20, 30, 40):
        keep = retention(keep_best=3, mode=mode)
        write(directory, timestep, separately=separately, score=float(sign * timestep), keep=keep)
    expected = [files(t, separately=separately, best=True) for t in ("", 20, 30)]
    assert names(directory) == sorted(name for group in expected for name in group)
    assert [value(directory.read(found)) for found in directory.newest_first(best=True)] == [{40.0}, {30.0}, {20.0}]
    assert directory.best_score(mode, TAG) == 40.0 * sign
    assert directory.best_score(mode, "another tag") is None


def test_the_very_best_is_tried_first_whatever_came_after_it(directory: CheckpointDirectory, separately: bool) -> None:
    """Later ones that are among the best few, but no better, keep their timestep in their names and come behind."""
    for timestep, score in ((10, 9.0), (20, 7.0), (30, 8.0)):
        write(directory, timestep, separately=separately, score=score, keep=retention(keep_best=3))
    assert names(directory) == sorted(name for t in ("", 20, 30) for name in files(t, separately=separately, best=True))
    assert latest(directory, best=True) == [10, 30, 20]


def test_one_that_is_as_good_as_the_very_best_does_not_take_its_name(
    directory: CheckpointDirectory, separately: bool
) -> None:
    """Of two equal scores the earlier is the very best, and the later comes behind."""
    for timestep, score in ((10, 9.0), (20, 9.0)):
        write(directory, timestep, separately=separately, score=score, keep=retention(keep_best=3))
    assert names(directory) == sorted(name for t in ("", 20) for name in files(t, separately=separately, best=True))
    assert latest(directory, best=True) == [10, 20]


def test_of_two_formats_of_one_timestep_the_one_written_last_is_the_latest(directory: CheckpointDirectory) -> None:
    """Whichever way round: a run that was resumed in another format goes on from what it wrote itself."""
    for first, second in ((".pt", ".safetensors"), (".safetensors", ".pt")):
        write(directory, 100, suffix=first, time=1.0)
        write(directory, 100, suffix=second, time=2.0)
        assert next(directory.newest_first(best=False)).names == {f"agent_100{second}"}


def test_a_score_that_is_not_finite_is_no_score(directory: CheckpointDirectory) -> None:
    """A best checkpoint that somebody judged by one is found, and is nothing that others are measured by."""
    write(directory, 10, score=float("nan"))
    assert latest(directory, best=True) == [10]
    assert directory.best_score("max", TAG) is None


def test_one_best_replaces_the_one_before(directory: CheckpointDirectory, separately: bool) -> None:
    """With `keep_best` 1 there is one best, under its plain name."""
    for timestep in (10, 20):
        write(directory, timestep, separately=separately, score=float(timestep))
    assert names(directory) == files("", separately=separately, best=True)
    (best,) = directory.newest_first(best=True)
    assert value(directory.read(best)) == {20.0}


def test_a_nan_is_ranked_below_every_score() -> None:
    """Of the best, one without a finite score goes first."""

    def best(timestep: int, score: float) -> IndexedCheckpoint:
        file = IndexedFile(f"best_agent_{timestep}.pt", 1)
        return IndexedCheckpoint(timestep, True, {"agent": file}, metric={"tag": TAG, "value": score})

    kept, nan, worse = best(1, 5.0), best(2, float("nan")), best(3, 1.0)
    assert retention(keep_best=2).removable([nan, worse, kept]) == [nan]
    assert retention(keep_best=2, mode="min").removable([nan, worse, kept]) == [nan]


@pytest.mark.parametrize("lost", ["the index", "the files"])
@pytest.mark.parametrize("separately", [False, True], ids=["together", "separately"])
def test_an_index_and_files_of_different_times_agree_from_the_next_start_on(
    directory: CheckpointDirectory, lost: str, separately: bool
) -> None:
    """A loss of power may keep either of them; what the best is, and was judged by, is what its file says."""
    write(directory, 10, score=1.0, separately=separately)
    write(directory, 10, separately=separately)
    before = {path: path.read_bytes() for path in directory.path.iterdir()}
    write(directory, 20, score=2.0, separately=separately, last=False)
    write(directory, 20, separately=separately)
    for path, content in before.items():
        if (path.name == "index.json") == (lost == "the index"):
            path.unlink()  # it may have other names
            path.write_bytes(content)
    directory.adopt()
    expected, wanted = (20, 2.0) if lost == "the index" else (10, 1.0), []
    (best,) = (found for found in read_index(directory.path) if found.best)
    assert (best.timestep, best.score) == expected
    assert directory.best_scores(TAG) == [expected[1]]
    assert [verdict.problem for verdict in verify(directory.path) if verdict.problem] == wanted
    assert value(directory.read(best)) == {float(expected[0])}


def test_a_damaged_best_stays_listed_for_what_it_was(directory: CheckpointDirectory) -> None:
    """Damage is told where it is met, and is no reason to forget the row."""
    (best,) = [write(directory, 10, score=1.0)]
    write(directory, 20)
    write_index(directory.path, [best])  # so that there is something to take in beside it
    path = directory.path / "best_agent.pt"
    path.write_bytes(path.read_bytes()[:-7])
    directory.adopt()
    assert [(found.timestep, found == best) for found in read_index(directory.path)] == [(20, False), (10, True)]


class Watch:
    """Notes links, renames, removals and fsyncs, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        replace, unlink, fsync, link = os.replace, os.unlink, os.fsync, os.link

        def spy_replace(source: Any, target: Any) -> None:
            replace(source, target)
            self.calls.append(f"rename {Path(target).name}")

        def spy_unlink(path: Any, **options: Any) -> None:
            unlink(path, **options)
            self.calls.append(f"remove {Path(path).name}")

        def spy_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.calls.append("fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync")

        def spy_link(source: Any, target: Any) -> None:
            link(source, target)
            self.calls.append(f"link {Path(target).name}")

        monkeypatch.setattr(os, "replace", spy_replace)
        monkeypatch.setattr(os, "unlink", spy_unlink)
        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(os, "link", spy_link)


def test_the_old_goes_only_once_the_new_is_durable(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and index, their names, their directory, and only then the removal."""
    write(directory, 100)
    watch = Watch(monkeypatch)
    write(directory, 200, keep=retention(keep_last=1))
    written = ["fsync", "fsync", "rename agent_200.pt", "rename index.json", "fsync directory"]
    assert watch.calls == [*written, "remove agent_100.pt"]


def test_what_is_written_last_makes_durable_what_was_written_before(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a checkpoint takes three fsyncs, and with a best one five; what one replaces stays until then."""
    keep = retention(keep_last=1, keep_best=2)
    for step in (100, 200):
        write(directory, step, score=step, keep=keep)
    write(directory, 200, keep=keep)
    watch = Watch(monkeypatch)
    write(directory, 300, score=150.0, keep=keep, last=False)
    best = ["fsync", "fsync", "rename best_agent_300.pt", "rename index.json"]
    assert watch.calls == best
    assert latest(directory, best=True) == [200, 300, 100]
    write(directory, 300, keep=keep)
    periodic = ["fsync", "fsync", "rename agent_300.pt", "rename index.json", "fsync directory"]
    assert watch.calls[: len(best + periodic)] == best + periodic
    assert sorted(watch.calls[len(best + periodic) :]) == ["remove agent_200.pt", "remove best_agent_100.pt"]
    assert names(directory) == ["agent_300.pt", "best_agent.pt", "best_agent_300.pt"]
    watch.calls.clear()
    directory.make_durable()
    assert watch.calls == ["fsync directory"]


def write_and_die_before_a_removal(directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write two checkpoints, killed when the second is durable and before the first, which is to go, is removed."""
    write(directory, 100)
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointDirectory, "_remove", lambda *_: None)
        write(directory, 200, keep=retention(keep_last=1))


def test_the_index_lists_what_is_there_also_after_a_kill_before_a_removal(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was about to go is known for what it is while it is there, and is gone from the next index."""
    write_and_die_before_a_removal(directory, monkeypatch)
    assert [found.timestep for found in read_index(directory.path)] == [200, 100]
    (directory.path / "agent_100.pt").unlink()
    assert [found.timestep for found in read_index(directory.path)] == [200]
    for step in (300, 400):
        write(directory, step)
    document = json.loads((directory.path / "index.json").read_text())
    assert [row["timestep"] for row in document["checkpoints"]] == [200, 300, 400]
    assert "leaving" not in document


def test_a_removal_that_a_kill_cut_short_is_finished(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next resume, unless what was to stay is not there."""
    write_and_die_before_a_removal(directory, monkeypatch)
    newest = directory.path / "agent_200.pt"
    newest.rename(directory.path / "elsewhere")
    directory.adopt()
    assert names(directory) == ["agent_100.pt", "elsewhere"]
    (directory.path / "elsewhere").rename(newest)
    directory.adopt()
    assert names(directory) == ["agent_200.pt"]
    assert [found.timestep for found in read_index(directory.path)] == [200]


@pytest.mark.parametrize("last", [False, True])
def test_what_a_loss_of_power_brings_back_goes_again(directory: CheckpointDirectory, last: bool) -> None:
    """A removal is known until the directory was fsynced behind it, also where more is written meanwhile."""
    keep = retention(keep_last=1)
    write(directory, 100)
    removed = (directory.path / "agent_100.pt").read_bytes()
    write(directory, 200, keep=keep)
    write(directory, 300, score=1.0, keep=keep, last=last)
    (directory.path / "agent_100.pt").write_bytes(removed)
    CheckpointDirectory(directory.path).adopt()
    assert names(directory) == ["agent_200.pt", "best_agent.pt"]
    write(directory, 400, keep=keep)
    write(directory, 500, keep=keep)
    document = json.loads((directory.path / "index.json").read_text())
    assert [row["timestep"] for row in document["leaving"]] == [200, 400]


def test_a_name_that_goes_twice_is_listed_once(directory: CheckpointDirectory) -> None:
    """As where a timestep is written again right behind its removal, and goes with the next checkpoint."""
    keep = retention(keep_last=1)
    write(directory, 100)
    write(directory, 200, keep=keep)
    write(directory, 100, keep=keep, last=False)
    write(directory, 300, keep=keep)
    document = json.loads((directory.path / "index.json").read_text())
    assert [row["timestep"] for row in document["leaving"]] == [100, 200]


def test_a_name_set_aside_is_durable_before_the_index_says_so(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss never leaves an index that lists a name which the disk does not have yet."""
    write(directory, 100, separately=True)
    watch = Watch(monkeypatch)
    write(directory, 100, separately=True)
    before = watch.calls[: watch.calls.index("rename index.json")]
    aside = [f"link {name}_100_previous.pt" for name in MODULES]
    assert before == [*aside, "fsync directory", "fsync"]


@contextlib.contextmanager
def killed_after(monkeypatch: pytest.MonkeyPatch, renames: int) -> Iterator[None]:
    """Have what is within end after so many renames, as a kill would."""
    replace, done = os.replace, 0

    def dying(source: Any, target: Any) -> None:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        with contextlib.suppress(KeyboardInterrupt):
            yield


def write_and_die(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch, renames: int, timestep: int, **options: Any
) -> None:
    """Write a checkpoint, killed after so many renames."""
    with killed_after(monkeypatch, renames):
        write(directory, timestep, **options)


@pytest.mark.parametrize("renames", range(6))
def test_a_kill_between_the_renames_of_a_best_leaves_a_best(
    directory: CheckpointDirectory, separately: bool, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Several files do not change their names in one step; whichever was last, a whole best is found."""
    write(directory, 10, separately=separately, score=10.0)
    write_and_die(directory, monkeypatch, renames, 20, separately=separately, score=20.0)
    assert good(directory, best=True) in ({10.0}, {20.0})


@pytest.mark.parametrize("renames", range(6))
def test_a_kill_while_a_timestep_is_written_again_leaves_it_whole(
    directory: CheckpointDirectory, separately: bool, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """The only checkpoint there is survives its replacement, and what the kill left is gone after the next."""
    write(directory, 100, separately=separately, content=1.0)
    write_and_die(directory, monkeypatch, renames, 100, separately=separately, content=2.0)
    directory.sweep()
    directory.adopt()
    assert good(directory) in ({1.0}, {2.0})
    write(directory, 100, separately=separately, content=3.0)
    assert good(directory) == {3.0}
    assert names(directory) == files(100, separately=separately)
    assert len(directory.checkpoints()) == 1


def test_second_names_that_a_kill_left_are_swept(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the index lists what was set aside leaves two names of each file; the plain ones stay."""
    write(directory, 100, separately=True, content=1.0)
    write_and_die(directory, monkeypatch, 0, 100, separately=True, content=2.0)
    assert "policy_100_previous.pt" in names(directory)
    directory.sweep()
    assert names(directory) == files(100, separately=True)
    assert good(directory) == {1.0}


def test_a_sweep_takes_nothing_but_second_names(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is listed under such a name stays, and so does a file that has no other name, though none lists it."""
    write(directory, 100, separately=True, content=1.0)
    write_and_die(directory, monkeypatch, 2, 100, separately=True, content=2.0)
    before = names(directory)
    directory.sweep()
    assert names(directory) == before
    assert good(directory) == {1.0}
    (directory.path / "index.json").unlink()
    directory.sweep()
    assert "policy_100_previous.pt" in names(directory)
    assert "critic_1_100_previous.pt" not in names(directory)


def test_files_of_two_sets_of_one_timestep_are_no_checkpoint(directory: CheckpointDirectory, tmp_path: Path) -> None:
    """One module's file of another run fits by its name and timestep, and is refused all the same."""
    other = CheckpointDirectory(tmp_path / "other")
    written = write(directory, 100, separately=True)
    write(other, 100, separately=True)
    (other.path / "critic_1_100.pt").replace(directory.path / "critic_1_100.pt")
    with pytest.raises(keepfast.CorruptCheckpoint, match="were not written at the same time"):
        directory.read(written)


def test_modules_with_two_entries_of_one_path_are_not_written(directory: CheckpointDirectory) -> None:
    """They could not be told apart when they are loaded; whoever saves them learns it at once."""
    state = {"policy": {"a.b": 1, "a": {"b": 2}}}
    with pytest.raises(keepfast.InvalidValue, match=r"two entries of the tree have the path `a\.b`"):
        directory.write(
            state, CheckpointMetadata(timestep=1), stores()[".pt"], separately=False, best=False, retention=retention()
        )
    assert not directory.path.exists()


def good(directory: CheckpointDirectory, *, best: bool = False) -> set[float] | None:
    """Return what the first checkpoint that can be read holds."""
    for indexed in directory.newest_first(best=best):
        try:
            return value(directory.read(indexed))
        except keepfast.CorruptCheckpoint:
            continue
    return None


def test_files_that_do_not_belong_together_are_no_checkpoint(directory: CheckpointDirectory) -> None:
    """Of separate files, one missing or of another timestep is told as damage."""
    written = write(directory, 100, separately=True)
    write(directory, 200, separately=True)
    (directory.path / "critic_2_100.pt").unlink()
    with pytest.raises(keepfast.NotFound, match=r"critic_2_100.pt` is listed in the index but is not there"):
        directory.read(written)
    (directory.path / "index.json").unlink()
    (incomplete,) = [c for c in directory.newest_first(best=False) if c.timestep == 100]
    with pytest.raises(keepfast.CorruptCheckpoint, match="belongs with files of critic_2, which are not there"):
        directory.read(incomplete)
    (directory.path / "policy_200.pt").replace(directory.path / "critic_2_100.pt")
    with pytest.raises(keepfast.CorruptCheckpoint, match=r"is of timestep 200, but .* of\s+100"):
        directory.read(next(c for c in directory.newest_first(best=False) if c.timestep == 100))


def test_a_file_of_a_format_that_is_not_installed_is_told(directory: CheckpointDirectory) -> None:
    """The newest is not silently passed over because a package is missing."""
    write(directory, 100)
    other = IndexedCheckpoint(200, False, {"agent": IndexedFile("agent_200.zarr", 1)})
    (directory.path / "agent_200.zarr").write_bytes(b"x")
    write_index(directory.path, [*read_index(directory.path), other])
    with pytest.raises(
        keepfast.ConfigError, match=r"agent_200.zarr` has the extension of no checkpoint format; known: "
    ):
        directory.read(next(iter(directory.newest_first(best=False))))


def test_a_module_name_too_long_for_a_file_is_cut() -> None:
    """There is room for the timestep, what it is, and the extension, and names that begin alike stay apart."""
    key = key_of("m" * 201)
    assert len(file_name(key, 10**18, ".safetensors", best=True, first=False)) < 240
    assert key_of("m" * 200) == "m" * 200
    assert len({key_of("m" * 300), key_of("m" * 301), key}) == 3
    assert len(os.fsencode(key_of("é" * 150))) <= 200


def test_a_module_without_a_name_is_refused(directory: CheckpointDirectory) -> None:
    """It would have no file of its own."""
    with pytest.raises(keepfast.InvalidValue, match="a module has no name"):
        directory.write(
            {"": {}},
            CheckpointMetadata(timestep=1),
            stores()[".pt"],
            separately=True,
            best=False,
            retention=retention(),
        )


@pytest.mark.parametrize("lost", [False, True], ids=["listed", "the index lost"])
@pytest.mark.parametrize(
    "names",
    [
        ["policy/actor", "policy", "value"],
        ["..", ".hidden", "a/b", "a\\b", "C:", "what?", "a%2Fb", "a/../../b"],
        ["m" * 250, "m" * 249 + "n", "é" * 200],
        ["agent", "best_x", "x", "best_agent", "best_", "agent_5"],
        ["a b", "é", "x_5", "line\nbreak", "nul\0"],
    ],
)
def test_a_module_of_any_name_has_a_file_of_its_own(names: list[str], lost: bool, tmp_path: Path) -> None:
    """In that directory and nowhere else; what the module is called stands in the file, and needs no index."""
    directory = CheckpointDirectory(tmp_path / "run" / "checkpoints")
    for timestep, metric in ((5, None), (5, {"tag": "a", "value": 1.0}), (10, None)):
        state = {name: {"w": np.array([float(timestep), number])} for number, name in enumerate(names)}
        told = CheckpointMetadata(
            format_version=1, timestep=timestep, modules=tuple(names), metric=metric, resume={}, time=float(timestep)
        )
        best = metric is not None
        directory.write(state, told, stores()[".pt"], separately=True, best=best, retention=retention())
    files = {path.name for path in directory.path.iterdir()}
    assert len(files) == 3 * len(names) + 1
    assert {path.name for path in tmp_path.iterdir()} | {path.name for path in (tmp_path / "run").iterdir()} <= {
        "run",
        "checkpoints",
        ".checkpoints.lock",
    }
    if lost:
        (directory.path / "index.json").unlink()
    for best, timestep in ((False, 10.0), (True, 5.0)):
        found = directory.read(next(iter(directory.newest_first(best=best))))
        assert {name: tree["w"].tolist() for name, tree in found.modules.items()} == {
            name: [timestep, number] for number, name in enumerate(names)
        }


def test_an_empty_directory_has_no_checkpoints(directory: CheckpointDirectory) -> None:
    """A directory that is not even there is no error."""
    directory.sweep()
    assert directory.checkpoints() == []
    assert directory.best_score("max", TAG) is None
