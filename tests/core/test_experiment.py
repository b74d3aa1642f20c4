"""Experiment ties metrics and checkpoints to timesteps."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.inspection import inspect

Net = Any


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], **settings}


def rows(directory: Path) -> dict[int, dict[str, float]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["scalars"] for row in map(json.loads, lines)}


def checkpoint_names(directory: Path) -> set[str]:
    return {path.name for path in (directory / "run" / "checkpoints").iterdir()}


def run(net: Net, directory: Path, timesteps: int = 100, **settings: Any) -> keepfast.Experiment:
    with keepfast.Experiment(cfg_in(directory, **settings), name="PPO", timesteps=timesteps) as experiment:
        experiment.register(policy=net)
        for timestep in range(experiment.resume(), timesteps):
            experiment.record_transition(np.ones(2), np.array([timestep % 5 == 4, False]), np.zeros(2, bool))
            experiment.track_data("Loss / Policy loss", float(timestep))
            experiment.step(timestep)
    return experiment


def test_automatic_intervals_are_a_hundredth_and_a_tenth(net: Callable[..., Net], tmp_path: Path) -> None:
    """With "auto", 1000 timesteps give 100 writes and 10 checkpoints, named by completed timesteps."""
    run(net(), tmp_path, 1000)
    assert sorted(rows(tmp_path)) == list(range(10, 1001, 10))
    periodic = {f"agent_{step}.safetensors" for step in range(100, 1001, 100)}
    assert checkpoint_names(tmp_path) == {*periodic, "best_agent.safetensors", "index.json"}


def test_a_short_training_writes_each_timestep(net: Callable[..., Net], tmp_path: Path) -> None:
    """With "auto" and fewer timesteps than samples, each timestep is due."""
    experiment = run(net(), tmp_path, 5)
    assert (experiment.write_interval, experiment.checkpoint_interval) == (1, 1)
    assert sorted(rows(tmp_path)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("interval", [0, -1])
def test_no_interval_leaves_nothing(interval: int, net: Callable[..., Net], tmp_path: Path) -> None:
    """An interval of 0 or less leaves no metrics, no checkpoints and no best."""
    run(net(), tmp_path, write_interval=interval, checkpoint_interval=interval)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json"}


def test_modules_can_be_stored_separately(net: Callable[..., Net], tmp_path: Path) -> None:
    """With `store_separately` each module has files of its own, the best ones too."""
    run(net(), tmp_path, store_separately=True, checkpoint_interval=50)
    assert checkpoint_names(tmp_path) == {
        "policy_50.safetensors",
        "policy_100.safetensors",
        "best_policy.safetensors",
        "index.json",
    }


def test_the_statistics_are_those_of_the_interval(net: Callable[..., Net], tmp_path: Path) -> None:
    """Each row holds the mean of its interval, and the episodes that ended in it."""
    run(net(), tmp_path, write_interval=20)
    found = rows(tmp_path)[40]
    assert found["Loss / Policy loss"] == np.mean(range(20, 40))
    assert found["Reward / Total reward (mean)"] == 5.0
    assert found["Episode / Total timesteps (max)"] == 5.0
    assert found["Reward / Instantaneous reward (min)"] == 1.0


def test_closing_writes_the_interval_that_it_cuts_short(net: Callable[..., Net], tmp_path: Path) -> None:
    """What was tracked after the last write is written at close, and closing twice changes nothing."""
    experiment = run(net(), tmp_path, 25, write_interval=10, checkpoint_interval=0)
    experiment.close()
    assert sorted(rows(tmp_path)) == [10, 20, 25]


def test_an_error_in_the_body_keeps_what_was_done(net: Callable[..., Net], tmp_path: Path) -> None:
    """An exception in the `with` body passes through, and checkpoints and metrics until then are on disk."""

    def fail() -> None:
        with keepfast.Experiment(cfg_in(tmp_path, checkpoint_interval=1), timesteps=10) as experiment:
            experiment.register(policy=net())
            experiment.track_data("Loss / Loss", 1.0)
            experiment.step(0)
            raise RuntimeError("the environment broke")

    with pytest.raises(RuntimeError, match="the environment broke"):
        fail()
    assert "agent_1.safetensors" in checkpoint_names(tmp_path)
    assert rows(tmp_path)[1] == {"Loss / Loss": 1.0}


def test_the_directory_is_named_by_time_and_agent(tmp_path: Path) -> None:
    """Without a name the directory is date, time to the microsecond, and the agent's name."""
    experiment = keepfast.Experiment({"directory": str(tmp_path), "writers": []}, name="DDPG")
    experiment.close()
    (made,) = tmp_path.iterdir()
    assert made == experiment.directory
    assert re.fullmatch(r"\d\d-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_DDPG", made.name)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A directory below a file is refused at once, by name and cause."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(keepfast.DirectoryError, match=r"cannot use `.*file/run`.*Not a directory") as raised:
        keepfast.Experiment(cfg_in(tmp_path / "file"))
    assert isinstance(raised.value, OSError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"writers": ["tensorbord"]}, "unknown writer `tensorbord`.*Did you mean `tensorboard`"),
        ({"backend": "tensorflow"}, "unknown backend `tensorflow`; known:"),
        ({"checkpoint_format": "safetensor"}, "unknown checkpoint format `safetensor`.*Did you mean `safetensors`"),
        ({"write_interval": "often"}, "`write_interval` is 'often'"),
        ({"chekpoint_interval": 3}, "unknown key `chekpoint_interval`.*Did you mean `checkpoint_interval`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_makes_nothing(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A wrong setting is named with what is known, and no directory is made."""
    with pytest.raises(keepfast.KeepfastError, match=message):
        keepfast.Experiment(cfg_in(tmp_path, **settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["0.5", None, [1.0], {"a": 1}, np.ones(3), print], ids=repr)
def test_what_is_no_number_is_refused(value: Any, tmp_path: Path) -> None:
    """`track_data` names the tag and what was given, and keeps what was tracked before."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=1) as experiment:
        experiment.track_data("Loss / Loss", 1.0)
        with pytest.raises(keepfast.InvalidValue, match="`Loss / Loss`"):
            experiment.track_data("Loss / Loss", value)
        experiment.step(0)
    assert rows(tmp_path)[1] == {"Loss / Loss": 1.0}


def test_resume_without_a_checkpoint_starts_at_zero(net: Callable[..., Net], tmp_path: Path) -> None:
    """In a new directory there is nothing to resume; a path that does not exist is an error."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=1) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 0
        assert experiment.resume("best") == 0
        with pytest.raises(keepfast.NotFound, match="nowhere"):
            experiment.resume(tmp_path / "nowhere")


def test_resume_takes_a_run_or_a_file(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume` takes another run's directory, its checkpoint directory, or one checkpoint."""
    other = run(net(seed=1), tmp_path / "other").directory
    for which, timestep in (
        (other, 100),
        (other / "checkpoints", 100),
        (other / "checkpoints" / "agent_30.safetensors", 30),
    ):
        module = net(seed=2)
        with keepfast.Experiment({"directory": str(tmp_path), "writers": []}, timesteps=100) as experiment:
            experiment.register(policy=module)
            assert experiment.resume(which) == timestep
        np.testing.assert_array_equal(module.arrays["body"]["weight"], net(seed=1).arrays["body"]["weight"])


def test_the_latest_is_the_latest_as_a_number(net: Callable[..., Net], tmp_path: Path) -> None:
    """agent_1000 is later than agent_900, whatever the alphabet says."""
    run(net(), tmp_path, 1000)
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=2000) as experiment:
        experiment.register(policy=net())
        assert experiment.resume("latest") == 1000


def test_a_damaged_checkpoint_is_passed_over(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume` takes the newest good checkpoint and says which it skipped and why."""
    directory = run(net(), tmp_path).directory / "checkpoints"
    content = bytearray((directory / "agent_100.safetensors").read_bytes())
    content[-3] ^= 1
    (directory / "agent_100.safetensors").write_bytes(content)
    os.truncate(directory / "agent_90.safetensors", 500)
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=100) as experiment:
        experiment.register(policy=net())
        with pytest.warns(keepfast.KeepfastWarning, match=r"skipped .*agent_100.*agent_90.*agent_80"):
            assert experiment.resume() == 80
        assert experiment.resumed is not None
        assert {path.name for path in experiment.resumed.skipped} == {"agent_100.safetensors", "agent_90.safetensors"}


def test_where_all_are_damaged_nothing_starts_anew_by_itself(net: Callable[..., Net], tmp_path: Path) -> None:
    """A run whose checkpoints are all damaged is an error, not a silent start from zero."""
    run(net(), tmp_path, checkpoint_interval=100, keep_best=0)
    os.truncate(tmp_path / "run" / "checkpoints" / "agent_100.safetensors", 100)
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=100) as experiment:
        experiment.register(policy=net())
        with pytest.raises(keepfast.NotFound, match=r"agent_100.*damaged"):
            experiment.resume()


def test_another_rank_writes_nothing(net: Callable[..., Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose launcher says RANK=1 leaves no file, and resumes what rank 0 wrote."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.warns(keepfast.KeepfastWarning, match="rank 1"):
        run(net(), tmp_path, 10)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    run(net(seed=3), tmp_path, 10)
    monkeypatch.setenv("RANK", "1")
    with (
        pytest.warns(keepfast.KeepfastWarning, match="rank 1"),
        keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment,
    ):
        experiment.register(policy=net())
        assert experiment.resume() == 10


def test_the_configuration_is_stored(net: Callable[..., Net], tmp_path: Path) -> None:
    """config.json holds every setting, the agent's name and the versions."""
    run(net(), tmp_path, 10, keep_last=2)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["agent"] == "PPO"
    assert stored["timesteps"] == 10
    assert stored["config"]["experiment"]["keep_last"] == 2
    assert stored["versions"]["keepfast"] == keepfast.__version__


def test_a_checkpoint_that_is_refused_does_not_cost_the_best(
    net: Callable[..., Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A best that the system refused to store is stored with the next checkpoint."""
    experiment = keepfast.Experiment(cfg_in(tmp_path, writers=[], write_interval=1, best_metric="Score"), timesteps=100)
    experiment.register(policy=net())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _refuse)
        experiment.track_data("Score", 9.0)
        with pytest.warns(keepfast.KeepfastWarning, match="could not be stored"):
            for timestep in range(10):
                experiment.step(timestep)
            experiment.wait()
    experiment.step(19)
    experiment.wait()
    best = inspect(tmp_path / "run" / "checkpoints" / "best_agent.safetensors")
    assert best.metadata.metric == {"tag": "Score", "value": 9.0}
    with pytest.warns(keepfast.KeepfastWarning, match="2 checkpoints could not be stored"):
        experiment.close()


def _refuse(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_second_run_in_one_directory_is_told_and_spoils_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """Whoever does not resume is warned; a worse run does not take the place of the best, and latest is its own."""
    settings = {"write_interval": 5, "checkpoint_interval": 10, "best_metric": "Score"}
    for name, score in (("first", 9.0), ("second", 1.0)):
        with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=20) as experiment:
            experiment.register(policy=net())
            if name == "second":
                with pytest.warns(keepfast.KeepfastWarning, match="an earlier run, which was not resumed"):
                    experiment.step(0)
            for timestep in range(20 if name == "first" else 10):
                experiment.track_data("Score", score)
                experiment.step(timestep)
    best = inspect(tmp_path / "run" / "checkpoints" / "best_agent.safetensors")
    assert best.metadata.metric["value"] == 9.0
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=20) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 10


def test_a_run_goes_on_with_another_number_of_environments(net: Callable[..., Net], tmp_path: Path) -> None:
    """Running episodes are dropped with a warning; everything else is resumed."""
    run(net(), tmp_path)
    with keepfast.Experiment(cfg_in(tmp_path, running_episodes="continue"), timesteps=110) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 100
        with pytest.warns(keepfast.KeepfastWarning, match="another number of environments"):
            experiment.record_transition(np.ones(8), np.ones(8, bool), np.zeros(8, bool))
        with pytest.raises(keepfast.ShapeMismatch):
            experiment.record_transition(np.ones(4), np.ones(4, bool), np.zeros(4, bool))


def test_episodes_that_start_anew_do_so_in_any_number_of_environments(net: Callable[..., Net], tmp_path: Path) -> None:
    """By default a resume has dropped the running ones already, so there is nothing to warn of."""
    run(net(), tmp_path)
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=110) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 100
        experiment.record_transition(np.ones(8), np.ones(8, bool), np.zeros(8, bool))
        with pytest.raises(keepfast.ShapeMismatch):
            experiment.record_transition(np.ones(4), np.ones(4, bool), np.zeros(4, bool))


def test_a_writer_is_checked_at_the_start(tmp_path: Path) -> None:
    """An option that a writer does not take is told with those it takes, before anything is made."""
    with pytest.raises(keepfast.ConfigError, match=r"`jsonl` does not take \{'colour': 1\}.*options: file_name"):
        keepfast.Experiment(cfg_in(tmp_path, writers=[{"name": "jsonl", "colour": 1}]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tag", [None, 5, b"tag"])
def test_a_tag_is_a_string(tag: Any, tmp_path: Path) -> None:
    """Anything else is refused at once, and other tags are written."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=1) as experiment:
        with pytest.raises(keepfast.InvalidValue, match="a tag is"):
            experiment.track_data(tag, 1.0)
        experiment.track_data("Loss / Loss", 1.0)
        experiment.step(0)
    assert rows(tmp_path)[1] == {"Loss / Loss": 1.0}


def test_what_was_not_finite_is_told_at_close(tmp_path: Path) -> None:
    """The first time as it happens, and the whole number at the end."""
    experiment = keepfast.Experiment(cfg_in(tmp_path, write_interval=1), timesteps=3)
    with pytest.warns(keepfast.KeepfastWarning, match=r"1 value\(s\) of `Loss` were not finite"):
        for timestep in range(3):
            experiment.track_data("Loss", float("nan"))
            experiment.step(timestep)
    with pytest.warns(keepfast.KeepfastWarning, match="over the run: 3 of `Loss`"):
        experiment.close()


def test_direct_writes_pass_every_interval(tmp_path: Path) -> None:
    """With a write interval of 0 the writer is there for whoever writes past the tracking."""
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=0), timesteps=1) as experiment:
        experiment.track_data("Loss", 1.0)
        experiment.writer.add_scalar("a", 1.0, global_step=7)
        experiment.step(0)
    assert rows(tmp_path) == {7: {"a": 1.0}}


def test_a_refused_module_is_not_registered(net: Callable[..., Net], tmp_path: Path) -> None:
    """A module that no backend knows is refused by `register`, and later checkpoints are none the worse."""
    with keepfast.Experiment(cfg_in(tmp_path, checkpoint_interval=1), timesteps=1) as experiment:
        experiment.register(policy=net())
        with pytest.raises(keepfast.UnsupportedModule):
            experiment.register(other=object)
        experiment.step(0)
    assert "agent_1.safetensors" in checkpoint_names(tmp_path)


def test_a_closed_experiment_takes_no_step(tmp_path: Path) -> None:
    """After close a step is an error rather than lost."""
    experiment = keepfast.Experiment(cfg_in(tmp_path), timesteps=10)
    experiment.step(0)
    experiment.close()
    with pytest.raises(keepfast.UsageError, match="was closed"):
        experiment.step(1)


@pytest.mark.parametrize("timesteps", ["100", 0, -5, 1.5])
def test_the_length_is_a_whole_number(timesteps: Any, tmp_path: Path) -> None:
    """Anything else is refused by name."""
    with pytest.raises(keepfast.InvalidValue, match="`timesteps` is"):
        keepfast.Experiment(cfg_in(tmp_path), timesteps=timesteps)


def test_one_file_of_a_separate_checkpoint_stands_for_all(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume` from one of several files restores the whole timestep."""
    run(net(seed=1), tmp_path, store_separately=True)
    other = net(seed=2)
    with keepfast.Experiment(cfg_in(tmp_path / "new"), timesteps=100) as experiment:
        experiment.register(policy=other)
        assert experiment.resume(tmp_path / "run" / "checkpoints" / "policy_50.safetensors") == 50
    np.testing.assert_array_equal(other.arrays["body"]["weight"], net(seed=1).arrays["body"]["weight"])


def test_the_best_few_stay_on_disk(net: Callable[..., Net], tmp_path: Path) -> None:
    """With `keep_best` 3 the three best of falling scores are there, the very best under the plain name."""
    settings = {"write_interval": 5, "checkpoint_interval": 5, "best_metric": "Score", "keep_best": 3}
    with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=40) as experiment:
        experiment.register(policy=net())
        for timestep in range(40):
            experiment.track_data("Score", {5: 9.0, 10: 8.0, 15: 7.0, 20: 6.0, 25: 8.5}.get(timestep // 5 * 5 + 5, 1.0))
            experiment.step(timestep)
    found = {
        path.name: inspect(path).metadata.metric["value"] for path in (tmp_path / "run" / "checkpoints").glob("best_*")
    }
    assert found == {
        "best_agent.safetensors": 9.0,
        "best_agent_10.safetensors": 8.0,
        "best_agent_25.safetensors": 8.5,
    }


def train(experiment: keepfast.Experiment, steps: Iterable[int]) -> None:
    for timestep in steps:
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


@pytest.mark.parametrize("number", [np.int64, np.int32, np.uint8, np.array], ids=repr)
def test_a_timestep_may_be_any_whole_number(
    number: Callable[[int], Any], net: Callable[..., Net], tmp_path: Path
) -> None:
    """Integers of NumPy count like Python's, in files as well as in events."""
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=5, checkpoint_interval=5), timesteps=10) as experiment:
        experiment.register(policy=net())
        train(experiment, map(number, range(10)))
        experiment.track_data("a", 1.0)
        experiment.write_tracking_data(number(11))
        experiment.write_checkpoint(number(11))
    assert sorted(rows(tmp_path)) == [5, 10, 11]
    assert {"agent_5.safetensors", "agent_10.safetensors", "agent_11.safetensors"} <= checkpoint_names(tmp_path)


@pytest.mark.parametrize("timestep", ["3", 3.0, None, np.float32(3), np.zeros(2, int)], ids=repr)
def test_a_timestep_that_is_no_whole_number_is_refused(timestep: Any, tmp_path: Path) -> None:
    """The error says what was given."""
    with (
        keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment,
        pytest.raises(keepfast.InvalidValue, match=r"a timestep is .*allowed: a whole number"),
    ):
        experiment.step(timestep)


def test_a_loop_in_strides_writes_and_checkpoints(net: Callable[..., Net], tmp_path: Path) -> None:
    """A count that grows by the number of environments: due at the first step that passes a multiple."""
    settings = {"write_interval": 50, "checkpoint_interval": 100, "keep_best": 0}
    with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=240) as experiment:
        experiment.register(policy=net())
        train(experiment, range(0, 240, 8))
    assert sorted(rows(tmp_path)) == [57, 105, 153, 201, 233]
    assert checkpoint_names(tmp_path) == {
        "agent_105.safetensors",
        "agent_201.safetensors",
        "agent_233.safetensors",
        "index.json",
    }
    with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=400) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 233
        train(experiment, range(233, 330, 8))
    assert "agent_306.safetensors" in checkpoint_names(tmp_path)
    assert sorted(rows(tmp_path)) == [57, 105, 153, 201, 233, 250, 306, 330]
