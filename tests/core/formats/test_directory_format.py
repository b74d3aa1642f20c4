"""A checkpoint may be a directory: it is written, found, kept, verified and removed as a file is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import keepfast
from keepfast import testing
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedFile, read_index
from keepfast.checkpoints.inspection import inspect
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.verification import verify
from keepfast.cli import app
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.plugins import registry
from keepfast.plugins.formats import format_of, read_checkpoint
from tests.core.formats.shard_store import SEAL, ShardStore, plugin

Net = Any
MODULES = ("policy", "value")
TAG = "Score"


@pytest.mark.needs("ml_dtypes")
class TestShards(testing.CheckpointStoreContract):
    """A format of directories keeps the contract of formats."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return ShardStore()


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    registry().register(plugin, "shards")
    yield
    registry().unregister(plugin)


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "checkpoints")


@pytest.fixture(params=[False, True], ids=["together", "separately"])
def separately(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def write(
    directory: CheckpointDirectory,
    timestep: int,
    *,
    separately: bool,
    score: float | None = None,
    content: float | None = None,
    keep_last: int | None = None,
    keep_best: int = 1,
) -> None:
    """Write a checkpoint whose arrays hold its timestep or other content; with a score it is a best one."""
    value = float(timestep if content is None else content)
    metric = None if score is None else {"tag": TAG, "value": score}
    told = CheckpointMetadata(timestep=timestep, modules=MODULES, time=1.0, metric=metric, resume={})
    directory.write(
        {name: {"w": np.full(8, value), "b": np.full(3, value)} for name in MODULES},
        told,
        ShardStore(),
        separately=separately,
        best=score is not None,
        retention=Retention(keep_last, None, keep_best, "max"),
    )


def value(checkpoint: Checkpoint) -> set[float]:
    return {float(x) for name in MODULES for array in checkpoint.modules[name].values() for x in array}


def names(directory: CheckpointDirectory) -> set[str]:
    return {path.name for path in directory.path.iterdir()} - {"index.json", ".index.lock"}


def files(timestep: int | str, *, separately: bool, best: bool = False) -> set[str]:
    tail = "" if timestep == "" else f"_{timestep}"
    return {f"{'best_' if best else ''}{key}{tail}.shards" for key in (MODULES if separately else ("agent",))}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_its_format_is_found_by_name(tmp_path: Path) -> None:
    """For one that is there as for one that is to be written; the run around it is none."""
    write(CheckpointDirectory(tmp_path), 5, separately=False)
    assert isinstance(format_of("checkpoint format", tmp_path / "agent_5.shards"), ShardStore)
    assert isinstance(format_of("checkpoint format", tmp_path / "absent.shards"), ShardStore)
    with pytest.raises(keepfast.NotFound, match="is a directory, not a checkpoint"):
        format_of("checkpoint format", tmp_path)


def test_the_index_says_what_is_there(directory: CheckpointDirectory, separately: bool) -> None:
    """The size is that of all files in it, and the digest is over their names and bytes."""
    write(directory, 7, separately=separately)
    (indexed,) = read_index(directory.path)
    assert indexed.names == files(7, separately=separately)
    for file in indexed.files.values():
        inner = list((directory.path / file.name).iterdir())
        assert file.size == sum(path.stat().st_size for path in inner)
        assert file.digest.startswith("crc32:")
    assert value(directory.read(indexed)) == {7.0}


def test_the_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    """A file with another name, a byte that has moved into the file beside it, and a file more are told."""
    path = tmp_path / "a.shards"
    (path / "below").mkdir(parents=True)
    for name, content in (("0.shard", b"abc"), ("1.shard", b"def"), ("below/2.shard", b"ghi")):
        (path / name).write_bytes(content)
    digests = {IndexedFile.of(path)}
    (path / "1.shard").rename(path / "1b.shard")
    digests.add(IndexedFile.of(path))
    (path / "0.shard").write_bytes(b"abcd")
    (path / "1b.shard").write_bytes(b"ef")
    digests.add(IndexedFile.of(path))
    (path / "2.shard").touch()
    digests.add(IndexedFile.of(path))
    assert len(digests) == 4
    assert {(file.name, file.size) for file in digests} == {("a.shards", 9)}
    copy = tmp_path / "copy" / "a.shards"
    shutil.copytree(path, copy)
    assert IndexedFile.of(copy) == IndexedFile.of(path)


def test_a_lost_index_loses_nothing(directory: CheckpointDirectory, separately: bool) -> None:
    """What it said stands in the directories, and what is no directory of the format is none of them."""
    for timestep in (100, 200):
        write(directory, timestep, separately=separately)
        write(directory, timestep, separately=separately, score=float(timestep), keep_best=2)
    before = read_index(directory.path)
    (directory.path / "index.json").unlink()
    (directory.path / "agent_900.pt").mkdir()
    (directory.path / "logs_901.shards").mkdir()
    assert {found.timestep for found in directory.checkpoints()} == {100, 200}
    directory.adopt()
    assert read_index(directory.path) == before
    assert [value(directory.read(found)) for found in directory.newest_first(best=True)] == [{200.0}, {100.0}]


def test_damage_inside_is_noticed_without_an_index(directory: CheckpointDirectory) -> None:
    """What was read once is read again when a file in it changes, though the directory's own date does not."""
    write(directory, 100, separately=False, score=1.0)
    (directory.path / "index.json").unlink()
    (found,) = directory.checkpoints()
    assert found.own
    path = directory.path / min(found.names)
    flip_a_byte(path / "0.shard")
    assert rebuild(directory.path)[0] == []
    assert list(rebuild(directory.path)[1]) == [path]


def test_retention_removes_directories(directory: CheckpointDirectory, separately: bool) -> None:
    """The oldest go with all that is in them; the best few stay; what nobody wrote here stays too."""
    directory.path.mkdir()
    foreign = directory.path / "agent_1.backup"
    foreign.mkdir()
    (foreign / "notes").write_text("somebody's own")
    for timestep in (100, 200, 900, 10_000):
        for score in (None, float(timestep)):
            write(directory, timestep, separately=separately, score=score, keep_last=2, keep_best=2)
    kept = [files(900, separately=separately), files(10_000, separately=separately)]
    best = [files("", separately=separately, best=True), files(900, separately=separately, best=True)]
    assert names(directory) == {"agent_1.backup"}.union(*kept, *best)
    assert (foreign / "notes").read_text() == "somebody's own"


def test_a_lying_index_removes_no_directory_of_another(directory: CheckpointDirectory) -> None:
    """One that has a checkpoint's name is removed only by the format that knows it for its own."""
    write(directory, 100, separately=False)
    index = directory.path / "index.json"
    for name in ("agent_100.backup", "agent_100.pt"):
        (directory.path / name).mkdir()
        (directory.path / name / "notes").write_text("somebody's own")
        index.write_text(index.read_text().replace("agent_100.shards", name))
        write(directory, 200, separately=False, keep_last=1)
        assert (directory.path / name / "notes").exists()
        write(directory, 100, separately=False)


def test_the_same_timestep_is_written_over(directory: CheckpointDirectory, separately: bool) -> None:
    """Whatever the other one holds, it is replaced as a whole, and nothing is left of it."""
    for content in (1.0, 2.0):
        write(directory, 100, separately=separately, content=content)
        write(directory, 100, separately=separately, score=content, content=content)
    assert names(directory) == files(100, separately=separately) | files("", separately=separately, best=True)
    for best in (False, True):
        assert value(directory.read(next(directory.newest_first(best=best)))) == {2.0}


def test_a_second_name_that_a_kill_left_is_swept(directory: CheckpointDirectory) -> None:
    """It is no other checkpoint, only another name of the same files; one with other content is kept."""
    write(directory, 100, separately=False)
    for name, content in (("agent_100_previous.shards", None), ("agent_200_previous.shards", b"other")):
        aside, original = directory.path / name, directory.path / name.replace("_previous", "")
        if content is not None:
            write(directory, 200, separately=False)
        aside.mkdir()
        for file in original.iterdir():
            os.link(file, aside / file.name) if content is None else (aside / file.name).write_bytes(content)
    directory.sweep()
    assert names(directory) == {"agent_100.shards", "agent_200.shards", "agent_200_previous.shards"}


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "experiment_name": "run",
        "writers": ["jsonl"],
        "checkpoint_format": "shards",
        "write_interval": 5,
        "checkpoint_interval": 10,
        "best_metric": TAG,
        **settings,
    }


def train(net: Net, directory: Path, timesteps: int = 50, **settings: Any) -> int:
    """Train, the score falling after timestep 20; return where it began."""
    with keepfast.Experiment(cfg_in(directory, **settings), timesteps=timesteps) as experiment:
        experiment.register(policy=net)
        start = experiment.resume()
        for timestep in range(start, timesteps):
            net.arrays["body"]["bias"][...] = timestep + 1
            experiment.track_data(TAG, float(timestep if timestep < 20 else -timestep))
            experiment.step(timestep)
    return start


def bias(net: Net) -> set[float]:
    return set(net.arrays["body"]["bias"].tolist())


def test_a_run_keeps_resumes_and_loads_them(net: Callable[..., Net], tmp_path: Path, separately: bool) -> None:
    """Retention, the best, an exact resume of the latest, of the best, of one by its path, and a load."""
    settings = {"keep_last": 2, "keep_best": 2, "store_separately": separately}
    assert train(net(), tmp_path, **settings) == 0
    checkpoints, key = tmp_path / "run" / "checkpoints", "policy" if separately else "agent"
    expected = {f"{key}_40.shards", f"{key}_50.shards", f"best_{key}.shards", f"best_{key}_10.shards"}
    assert names(CheckpointDirectory(checkpoints)) == expected
    other = net()
    assert train(other, tmp_path, 60, **settings) == 50
    assert bias(other) == {60.0}
    ways = {"latest": 60, "best": 20, checkpoints / f"{key}_50.shards": 50, tmp_path / "run": 60}
    for which, timestep in ways.items():
        with keepfast.Experiment(cfg_in(tmp_path if isinstance(which, str) else tmp_path / "new")) as experiment:
            experiment.register(policy=other)
            assert experiment.resume(which) == timestep
        assert bias(other) == {float(timestep)}
    fresh = net()
    assert keepfast.load(fresh, checkpoints / f"best_{key}.shards", modules=["policy"])
    assert bias(fresh) == {20.0}


def test_damage_is_told_and_passed_over(net: Callable[..., Net], tmp_path: Path, separately: bool) -> None:
    """A flipped byte, a file that is lost and a seal that is gone: each is named, and a resume takes the one before."""
    train(net(), tmp_path, store_separately=separately)
    checkpoints, key = tmp_path / "run" / "checkpoints", "policy" if separately else "agent"
    assert [verdict.problem for verdict in verify(tmp_path / "run")] == [None] * 6
    flip_a_byte(checkpoints / f"{key}_50.shards" / "0.shard")
    (checkpoints / f"{key}_40.shards" / "0.shard").unlink()
    (checkpoints / f"{key}_30.shards" / SEAL).unlink()
    problems = {verdict.path.name for verdict in verify(tmp_path / "run") if verdict.problem}
    assert problems == {f"{key}_{timestep}.shards" for timestep in (30, 40, 50)}
    assert [verdict.problem is None for verdict in verify(checkpoints / f"{key}_50.shards")] == [False]
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "run")]).exit_code == 1
    own = net()
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=50) as experiment:
        experiment.register(policy=own)
        with pytest.warns(keepfast.KeepfastWarning, match=rf"skipped .*{key}_50.*{key}_40.*{key}_30.* going on with"):
            assert experiment.resume() == 20
    assert bias(own) == {20.0}
    with pytest.raises(keepfast.CorruptCheckpoint, match=rf"{key}_50\.shards/0\.shard` is damaged"):
        keepfast.load(own, checkpoints / f"{key}_50.shards", modules=["policy"])


def test_one_in_the_place_of_another_is_told(directory: CheckpointDirectory) -> None:
    """It is whole, but not the one that was written there; the digest in the index says so."""
    write(directory, 100, separately=False, content=1.0)
    write(directory, 200, separately=False, content=1.0)
    first, second = directory.path / "agent_100.shards", directory.path / "agent_200.shards"
    for source, target in ((first, first.with_name("x")), (second, first), (first.with_name("x"), second)):
        source.rename(target)
    problems = [str(verdict.problem) for verdict in verify(directory.path)]
    assert all("not the file that the index lists under this name" in problem for problem in problems)
    assert len(problems) == 2


def test_it_is_inspected(net: Callable[..., Net], tmp_path: Path) -> None:
    """Its modules, what it tells, and the bytes of all its files; the command line shows it and lists it."""
    train(net(), tmp_path)
    path = tmp_path / "run" / "checkpoints" / "agent_50.shards"
    found = inspect(path)
    assert (found.metadata.timestep, found.resumable, set(found.modules)) == (50, True, {"policy"})
    assert found.size == sum(file.stat().st_size for file in path.iterdir())
    assert f"{found.size:,} bytes" in CliRunner().invoke(app, ["inspect", str(path)]).output.replace("\n", "")
    assert "agent_50.shards" in CliRunner().invoke(app, ["index", str(tmp_path / "run")]).output


def test_one_module_is_saved_and_loaded_by_itself(net: Callable[..., Net], tmp_path: Path) -> None:
    """`keepfast.save` writes a directory where the extension says so, and replaces one of its own."""
    for content in (1.0, 2.0):
        source = net()
        source.arrays["body"]["bias"][...] = content
        path = keepfast.save(source, tmp_path / "net.shards")
    assert path.is_dir()
    keepfast.load(own := net(), path)
    assert bias(own) == {2.0}
    agent = keepfast.Agent({"policy": source, "value": net()})
    agent.save(path)
    assert set(read_checkpoint(path).modules) == {"policy", "value"}
    agent.load(path)


def test_a_directory_with_something_else_in_it_is_not_replaced(net: Callable[..., Net], tmp_path: Path) -> None:
    """A user's own file in a directory of that name is not lost; the error names it."""
    path = tmp_path / "net.shards"
    path.mkdir()
    (path / "9.shard").write_bytes(b"of a former checkpoint")
    keepfast.save(net(), path)
    (path / "notes").write_text("somebody's own")
    with pytest.raises(keepfast.WriteFailed, match="a directory of that name holds `notes`, which would be lost"):
        keepfast.save(net(), path)
    assert (path / "notes").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.shards"]


def test_an_open_file_takes_no_directory(tmp_path: Path) -> None:
    """The error says what to call."""
    with (tmp_path / "file").open("wb") as file, pytest.raises(keepfast.UsageError, match="call `save`"):
        ShardStore().write(Checkpoint({}), file)


def test_a_disk_that_is_full_leaves_the_one_before(
    directory: CheckpointDirectory, separately: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the directory the space runs out, what was there is whole, and no litter stays."""
    write(directory, 100, separately=separately)
    write(directory, 100, separately=separately, score=1.0)
    write_bytes, left = Path.write_bytes, [0]

    def full(path: Path, data: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for writes in range(3):
        for score in (None, 2.0):
            left[0] = writes
            with pytest.raises(keepfast.WriteFailed, match="No space left on device"):
                write(directory, 100, separately=separately, score=score, content=9.0)
            assert not any(name.startswith(".") for name in names(directory))
            for best in (False, True):
                assert value(directory.read(next(directory.newest_first(best=best)))) == {100.0}


STEPS = ("rename", "replace", "link", "unlink", "rmdir", "mkdir")
"""What changes names on disk; a kill between two of them leaves what the ones before made."""


def scenario(directory: CheckpointDirectory, separately: bool, durable: list[int]) -> None:
    """Write three periodic checkpoints and three of the best, of growing content, and count those that are durable."""
    for best in (False, True):
        for timestep, content in ((100, 1.0), (200, 2.0), (200, 3.0)):
            score = content if best else None
            write(directory, timestep, separately=separately, score=score, content=content, keep_last=1)
            durable[best] += 1


def first_good(directory: CheckpointDirectory, *, best: bool) -> float:
    """Return what the first checkpoint holds that can be read, as a resume takes it; 0 where there is none."""
    for indexed in directory.newest_first(best=best):
        if indexed.best == best:
            with contextlib.suppress(OSError):
                return max(value(directory.read(indexed)))
    return 0.0


def assert_whole(directory: CheckpointDirectory, durable: list[int]) -> None:
    """Assert that the newest checkpoint that was durable, or a newer one, can be read, before a sweep and after it."""
    for _ in range(2):
        found = [first_good(directory, best=best) for best in (False, True)]
        assert all(low <= each <= low + 1 for low, each in zip(durable, found, strict=True)), (durable, found)
        directory.sweep()
    assert not any(name.startswith(".") for name in names(directory))


def test_whatever_a_kill_leaves_is_whole(tmp_path: Path, separately: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the disk before each rename, link and removal of six writes, as a kill leaves it there."""
    directory, durable = CheckpointDirectory(tmp_path / "checkpoints"), [0, 0]
    states: list[tuple[Path, list[int]]] = []

    def keep() -> None:
        if directory.path.exists():
            states.append((tmp_path / f"state_{len(states)}", list(durable)))
            with monkeypatch.context() as real:
                for step, function in functions.items():
                    real.setattr(os, step, function)
                shutil.copytree(directory.path, states[-1][0])

    def kept(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: (keep(), function(*arguments, **options))[1]

    functions = {step: getattr(os, step) for step in STEPS}
    with monkeypatch.context() as patched:
        for step, function in functions.items():
            patched.setattr(os, step, kept(function))
        scenario(directory, separately, durable)
    assert len(states) > 60
    for state, before in [*states, (directory.path, durable)]:
        assert_whole(CheckpointDirectory(state), before)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.core.formats import test_directory_format as scenes

def die_at(number, directory, separately, told):
    left = [number]
    for name in scenes.STEPS:
        def dying(*arguments, _real=getattr(os, name), **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*arguments, **options)
        setattr(os, name, dying)
    class Told(list):
        def __setitem__(self, best, count):
            os.write(told, b"pb"[best:best + 1])
            super().__setitem__(best, count)
    scenes.scenario(directory, separately, Told([0, 0]))
    os._exit(0)

scenes.registry().register(scenes.plugin, "shards")
root, separately, killed = Path(sys.argv[1]), sys.argv[2] == "True", 0
for number in range(5, 10_000, 11):
    directory = scenes.CheckpointDirectory(root / str(number))
    hear, told = os.pipe()
    if (child := os.fork()) == 0:
        die_at(number, directory, separately, told)
    os.close(told)
    died = os.waitpid(child, 0)[1] != 0
    durable = os.read(hear, 100).decode()
    os.close(hear)
    scenes.assert_whole(directory, [durable.count("p"), durable.count("b")])
    if not died:
        break
    killed += 1
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_a_real_kill_leaves_a_whole_one(tmp_path: Path, separately: bool, project: Path) -> None:
    """SIGKILL at some of these steps, in a process of its own, leaves what the copies above show."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(separately)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) >= 6
