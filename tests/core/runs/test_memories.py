"""Memories among the modules: stored less often, never lost, and told of where they are not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, final

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import read_index
from keepfast.checkpoints.verification import verify
from keepfast.plugins import backends
from keepfast.tree import Tree
from tests.core.checkpoints.test_refused_writes import Refusal, refusal  # noqa: F401  (a fixture)

Net = Any


@final
class MemoryBackend(keepfast.Backend):
    """Captures memories."""

    name: ClassVar[str] = "kept"
    checkpoint_format: ClassVar[str] = "safetensors"

    def recognizes(self, module: object) -> bool:
        return isinstance(module, keepfast.Memory)

    def capture(self, module: Any) -> Tree:
        return module.state_dict()

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        module.load_state_dict(state)
        return module

    def is_open(self, module: Any) -> bool:
        return True


@pytest.fixture
def memory(example: Callable[[type], str]) -> Iterator[Callable[[], keepfast.Memory]]:
    """Return a maker of memories of NumPy arrays."""
    known: dict[str, Any] = {"np": np, "keepfast": keepfast}
    exec(example(keepfast.Storage), known)
    storage = type("KeptStorage", (known["NumpyStorage"],), {"backend": "kept"})

    @keepfast.hookimpl
    def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
        return {"kept": MemoryBackend}

    plugin = SimpleNamespace(keepfast_backends=keepfast_backends)
    keepfast.plugins.registry().register(plugin, "memory-backend")

    def make() -> keepfast.Memory:
        made = keepfast.Memory(storage(4, 1))
        made.create_tensor("states", 1)
        return made

    yield make
    keepfast.plugins.registry().unregister(plugin)
    backends._made.pop("kept", None)


def start(directory: Path, net: Net, memory: keepfast.Memory, **settings: Any) -> keepfast.Experiment:
    own = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 10}
    experiment = keepfast.Experiment({**own, **settings}, timesteps=1000)
    experiment.register(policy=net, memory=memory)
    return experiment


def train(experiment: keepfast.Experiment, memory: keepfast.Memory, steps: range) -> None:
    for timestep in steps:
        memory.add_samples(states=np.full((1, 1), float(timestep)))
        experiment.step(timestep)


def holding(directory: Path) -> dict[int | None, bool]:
    """Return which checkpoints hold the memory."""
    return {found.timestep: "memory" in found.modules for found in read_index(directory / "run" / "checkpoints")}


def test_memories_have_an_interval_of_their_own(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """Checkpoints between its multiples leave them out; one that is asked for out of turn holds them."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=30) as experiment:
        train(experiment, kept, range(42))
        experiment.write_checkpoint(42)
        experiment.wait()
        assert holding(tmp_path) == {10: False, 20: False, 30: True, 40: False, 42: True}


def test_the_only_copy_of_a_memory_stays(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """`keep_last` removes no checkpoint that holds it before there is another."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=30, keep_last=1) as experiment:
        train(experiment, kept, range(55))
        experiment.wait()
        assert holding(tmp_path) == {30: True, 50: False}
        train(experiment, kept, range(55, 65))
        experiment.wait()
        assert holding(tmp_path) == {60: True}


def test_a_resume_without_the_memory_says_so(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """The memory stays as it is, and the setting that has checkpoints hold it is named."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=0) as experiment:
        train(experiment, kept, range(15))
        experiment.wait()
        other = start(tmp_path / "other", net(), memory())
        with pytest.warns(keepfast.KeepfastWarning, match="does not hold the memory `memory`, which stays as it"):
            assert other.resume(tmp_path / "run" / "checkpoints" / "agent_10.safetensors") == 10
        other.close()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_signal_has_all_of_it_stored(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """The timestep is completed and a checkpoint made, with the memories though they are not due."""
    kept = memory()
    experiment = start(tmp_path, net(), kept, memory_checkpoint_interval=30)
    train(experiment, kept, range(12))
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        train(experiment, kept, range(12, 30))
    assert holding(tmp_path) == {10: False, 13: True}


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_signal_has_all_of_it_stored_where_a_checkpoint_is_due(
    net: Callable[..., Net], memory: Any, tmp_path: Path
) -> None:
    """The memories too, though an earlier checkpoint could not be: there was nothing to store in it yet."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 10}
    experiment = keepfast.Experiment({**cfg, "memory_checkpoint_interval": 30}, timesteps=1000)
    with pytest.warns(keepfast.KeepfastWarning, match="no module is registered"):
        for timestep in range(12):
            experiment.step(timestep)
    experiment.register(policy=net(), memory=memory())
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        experiment.step(12)
    assert holding(tmp_path) == {13: True}


def stored(directory: Path, net: Net, kept: keepfast.Memory, until: int = 35, **settings: Any) -> Path:
    """Train a run to the end of some timesteps, and return its checkpoints."""
    with start(directory, net, kept, **settings) as experiment:
        train(experiment, kept, range(until))
    return directory / "run" / "checkpoints"


def rows(memory: keepfast.Memory) -> list[float]:
    return [float(each) for each in np.concatenate(memory.snapshot().chronological()["states"]).ravel()]


@pytest.mark.parametrize("way", ["log", "whole"])
@pytest.mark.parametrize("separately", [False, True])
def test_a_memory_resumes_from_its_rows_and_as_a_whole(
    net: Callable[..., Net], memory: Any, tmp_path: Path, way: str, separately: bool
) -> None:
    """The setting decides whether its rows lie in segments or in the checkpoint; either way it is exact."""
    settings = {"memory_checkpoints": way, "store_separately": separately, "keep_last": 2}
    checkpoints = stored(tmp_path, net(), memory(), **settings)
    assert (checkpoints / "memory_log").exists() == (way == "log")
    fresh = memory()
    with start(tmp_path, net(), fresh, **settings) as experiment:
        assert experiment.resume() == 35
        assert rows(fresh) == [31.0, 32.0, 33.0, 34.0]
    (checkpoints / "index.json").unlink()
    fresh = memory()
    with start(tmp_path, net(), fresh, **settings) as experiment:
        assert experiment.resume() == 35
    assert rows(fresh) == [31.0, 32.0, 33.0, 34.0]


def test_the_first_checkpoint_after_a_resume_has_all_rows(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """Nothing is taken for stored that another process stored; what it stored goes once none needs it."""
    checkpoints = stored(tmp_path, net(), memory(), keep_last=1)
    before = set(checkpoints.glob("memory_log/*"))
    fresh = memory()
    with start(tmp_path, net(), fresh, keep_last=1) as experiment:
        train(experiment, fresh, range(experiment.resume(), 45))
    assert before.isdisjoint(checkpoints.glob("memory_log/*"))
    assert list(
        keepfast.read_checkpoint(checkpoints / "agent_45.safetensors")["memory"]["tensors"]["states"].ravel()
    ) == [
        44.0,
        41.0,
        42.0,
        43.0,
    ]


def test_a_resume_passes_over_a_checkpoint_whose_rows_are_damaged(
    net: Callable[..., Net], memory: Any, tmp_path: Path
) -> None:
    """It goes on from the newest whose rows are whole, and names the file that is not."""
    checkpoints = stored(tmp_path, net(), memory())
    newest = max(checkpoints.glob("memory_log/*"), key=lambda path: int(path.name.split("_")[1]))
    newest.write_bytes(newest.read_bytes()[:-1])
    fresh = memory()
    experiment = start(tmp_path, net(), fresh)
    with pytest.warns(keepfast.KeepfastWarning, match=rf"skipped .*{newest.name}"):
        assert experiment.resume() == 30
    assert rows(fresh) == [26.0, 27.0, 28.0, 29.0]
    experiment.close()


def test_a_checkpoint_that_is_moved_by_itself_gives_its_other_modules(
    net: Callable[..., Net], memory: Any, tmp_path: Path
) -> None:
    """Whoever asks for the memory is told which folder is missing; whoever has none need not."""
    moved = shutil.copyfile(stored(tmp_path, net(), memory()) / "agent_30.safetensors", tmp_path / "agent.safetensors")
    assert keepfast.load(net(), moved, modules=["policy"]).loaded
    agent = keepfast.Agent(models={})
    agent.checkpoint_modules["policy"] = net()
    with pytest.warns(keepfast.KeepfastWarning, match="Cannot load the memory module"):
        assert agent.load(moved).loaded
    agent.checkpoint_modules["memory"] = memory()
    with pytest.raises(keepfast.CorruptCheckpoint, match=r"is missing, which `agent\.safetensors` needs"):
        agent.load(moved)
    assert agent.load(moved, modules=["policy"]).loaded
    with start(tmp_path / "other", net(), memory()) as experiment, pytest.warns(match="stays as it is"):
        assert experiment.resume(moved, modules=["policy"]) == 30


@pytest.mark.parametrize("lost", ["its file", "its rows", "nothing"])
def test_a_removal_that_a_loss_of_power_cut_short_is_finished(
    net: Callable[..., Net], memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Whatever of it reached the disk: nothing of it counts as damaged, and the next resume removes the rest."""
    settings = {"keep_last": 1, "async_checkpoints": False}
    with start(tmp_path, net(), trained := memory(), **settings) as experiment:
        train(experiment, trained, range(10))
        monkeypatch.setattr(CheckpointDirectory, "_remove", lambda *_: None)
        train(experiment, trained, range(10, 20))
    monkeypatch.undo()
    checkpoints = tmp_path / "run" / "checkpoints"
    (going,) = (each for each in read_index(checkpoints) if each.going)
    rows_alone = set(going.segments).difference(*(each.segments for each in read_index(checkpoints) if not each.going))
    assert rows_alone
    for name in {"its file": going.names, "its rows": rows_alone, "nothing": ()}[lost]:
        (checkpoints / name).unlink()
    assert [verdict.problem for verdict in verify(checkpoints) if verdict.problem] == []
    with start(tmp_path, net(), memory(), **settings) as experiment:
        assert experiment.resume() == 20
        assert sorted(path.name for path in checkpoints.glob("agent_*")) == ["agent_20.safetensors"]
        assert not {path for path in rows_alone if (checkpoints / path).exists()}


def test_what_was_to_be_removed_stays_where_what_was_to_stay_is_not_there(
    net: Callable[..., Net], memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk lost the name of the newer one: the older is gone on from, with its rows."""
    monkeypatch.setattr(CheckpointDirectory, "_remove", lambda *_: None)
    with start(tmp_path, net(), trained := memory(), keep_last=1, async_checkpoints=False) as experiment:
        train(experiment, trained, range(20))
    monkeypatch.undo()
    (tmp_path / "run" / "checkpoints" / "agent_20.safetensors").unlink()
    fresh = memory()
    with start(tmp_path, net(), fresh, keep_last=1) as experiment:
        assert experiment.resume() == 10
        assert rows(fresh) == [6.0, 7.0, 8.0, 9.0]


def test_a_push_takes_the_rows_along(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """What is pushed is one file with everything."""
    from keepfast.hub.push import fill

    checkpoints = stored(tmp_path, net(), memory())
    (tmp_path / "pushed").mkdir()
    fill(tmp_path / "pushed", checkpoints / "agent_30.safetensors", "me/run")
    pushed = keepfast.read_checkpoint(tmp_path / "pushed" / "agent.safetensors")
    assert sorted(pushed["memory"]["tensors"]["states"].ravel()) == [26.0, 27.0, 28.0, 29.0]


def test_the_commands_know_of_segments(
    net: Callable[..., Net], memory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspect` counts them, `index` lists them, and `verify` reads each once."""
    from keepfast.cli.checkpoints import index, verify
    from keepfast.cli.inspection.inspect import inspect

    checkpoints = stored(tmp_path, net(), memory(), keep_last=2)
    names = {path.relative_to(checkpoints).as_posix() for path in checkpoints.glob("memory_log/*")}
    inspect(checkpoints / "agent_35.safetensors")
    assert "segments in memory_log" in capsys.readouterr().out
    inspect(checkpoints / "agent_35.safetensors", as_json=True)
    assert json.loads(capsys.readouterr().out)["segments"].keys() <= names
    index(checkpoints, as_json=True)
    listed = json.loads(capsys.readouterr().out)["checkpoints"]
    assert {file for each in listed for file in each["segments"]} == names
    sizes = [sum((checkpoints / file).stat().st_size for file in each["segments"]) for each in listed]
    assert [each["segment_bytes"] for each in listed] == sizes
    index(checkpoints)
    told = capsys.readouterr().out
    assert "+ 1 segment " in told
    assert f"+ {sizes[-1]:,}" in told
    verify(checkpoints, as_json=True)
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["good"], verdict["damaged"]) == (len(listed) + len(names), 0)


@pytest.mark.parametrize("settings", [{}, {"async_checkpoints": False}, {"store_separately": True}], ids=str)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_refused_call_costs_one_checkpoint_and_no_rows(
    number: int,
    settings: dict[str, Any],
    refusal: Refusal,  # noqa: F811
    net: Callable[..., Net],
    memory: Any,
    tmp_path: Path,
) -> None:
    """Whichever it is, of a segment, a checkpoint or the index: what is resumed has its rows, and so has the next."""
    kept, expected = memory(), dict[int, list[float]]()
    experiment = start(tmp_path, net(), kept, keep_last=2, provenance=False, **settings)

    def store(step: int) -> None:
        kept.add_samples(states=np.full((1, 1), float(step)))
        expected[step] = rows(kept)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", keepfast.KeepfastWarning)
            experiment.write_checkpoint(step)
            experiment.wait()

    store(1)
    refusal.calls, refusal.number = 0, number
    store(2)
    calls, last = refusal.calls, 2
    assert calls > 8
    for refused in range(1, calls + 1):
        refusal.calls, refusal.refused_call = 0, refused
        store(10 * refused)
        refusal.refused_call = None
        assert refusal.refused == refused
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", keepfast.KeepfastWarning)  # of a set whose last file was refused its name
            found = experiment.resume()
        assert found in (10 * refused, last)
        assert rows(kept) == expected[found]
        last = 10 * refused + 5
        store(last)
        kept.add_samples(states=np.full((1, 1), -1.0))
        assert experiment.resume() == last
        assert rows(kept) == expected[last]
    problems = [verdict.problem for verdict in verify(experiment.directory) if verdict.problem]
    assert len(problems) <= settings.get(
        "store_separately", 0
    )  # one file of a set, where the other was refused its name
    assert all("belongs with files of memory" in problem for problem in problems)
    with pytest.warns(keepfast.KeepfastWarning, match=f"{calls} checkpoints could not be stored"):
        experiment.close()
