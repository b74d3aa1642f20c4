"""What a run makes of its environments: rows that are no transitions, resumes, resets in mid-run, several agents."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any


class AutoresetMode(enum.Enum):
    """As Gymnasium has it."""

    NEXT_STEP = "NextStep"
    SAME_STEP = "SameStep"
    DISABLED = "Disabled"


class Envs:
    """Environments whose episodes have a fixed length, with a reward of 1 a step, in any mode of resetting."""

    def __init__(self, length: int, num_envs: int = 1, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.length, self.num_envs = length, num_envs
        self.metadata = {"autoreset_mode": mode}
        self.count = np.zeros(num_envs, int)
        self.resetting = np.zeros(num_envs, bool)

    def reset(self) -> None:
        self.count[...], self.resetting[...] = 0, False

    def step(self) -> tuple[Any, Any, Any]:
        resetting = self.resetting.copy()
        self.count[~resetting] += 1
        ended = (self.count >= self.length) & ~resetting
        self.count[ended | resetting] = 0
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self.resetting = ended
        return np.where(resetting, 0.0, 1.0), ended, np.zeros(self.num_envs, bool)


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], **settings}


def rows(directory: Path) -> dict[int, dict[str, float]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["scalars"] for row in map(json.loads, lines) if "scalars" in row}


def lengths(directory: Path) -> list[float]:
    return [row["Episode / Total timesteps (max)"] for row in rows(directory).values() if len(row) > 3]


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("given", ["Experiment", "set_environment", "autoreset"])
def test_rows_that_only_reset_are_in_no_statistic(mode: AutoresetMode, given: str, tmp_path: Path) -> None:
    """However the mode is told: the environment is given at the start or later, or the setting says it."""
    envs = Envs(3, 2, mode)
    settings = {"autoreset": mode.name.lower()} if given == "autoreset" else {}
    cfg = cfg_in(tmp_path, write_interval=4, **settings)
    with keepfast.Experiment(cfg, timesteps=16, env=envs if given == "Experiment" else None) as experiment:
        if given == "set_environment":
            experiment.set_environment(envs)
        for timestep in range(16):
            experiment.record_transition(*envs.step())
            experiment.step(timestep)
    assert lengths(tmp_path) == [3.0] * 4
    assert {row["Reward / Instantaneous reward (min)"] for row in rows(tmp_path).values()} == {1.0}
    assert {row["Reward / Total reward (min)"] for row in rows(tmp_path).values()} == {3.0}


@pytest.mark.parametrize("started", [False, True])
def test_an_agent_reads_the_mode_of_its_environment(started: bool, tmp_path: Path) -> None:
    """At `init`, also where the experiment has started before."""
    envs = Envs(3, 2, AutoresetMode.NEXT_STEP)
    agent = keepfast.Agent(cfg={"experiment": cfg_in(tmp_path, write_interval=4)})
    if started:
        assert agent.experiment.directory == tmp_path / "run"
    agent.init({"timesteps": 16}, env=envs)
    for timestep in range(16):
        rewards, terminated, truncated = envs.step()
        agent.record_transition(None, None, rewards, None, terminated, truncated, {}, timestep, 16)
        agent.post_interaction(timestep, 16)
    agent.close()
    assert lengths(tmp_path) == [3.0] * 4


def test_any_row_can_be_marked_invalid(tmp_path: Path) -> None:
    """By a mask, as an agent's call or an experiment's: padding counts for nothing, whatever stands in it."""
    agent = keepfast.Agent(cfg={"experiment": cfg_in(tmp_path, write_interval=8)})
    agent.init({"timesteps": 8})
    for timestep in range(8):
        step = np.array([1.0, -99.0]), np.array([timestep % 4 == 3, True]), np.zeros(2, bool)
        valid = np.array([True, False])
        if timestep < 4:
            agent.record_transition(None, None, step[0], None, *step[1:], {}, timestep, 8, valid=valid)
        else:
            agent.experiment.record_transition(*step, valid=valid)
        agent.post_interaction(timestep, 8)
    agent.close()
    (row,) = rows(tmp_path).values()
    assert {tag: value for tag, value in row.items() if "(m" in tag} == {
        **{f"Reward / Instantaneous reward ({name})": 1.0 for name in ("max", "min", "mean")},
        **{f"Reward / Total reward ({name})": 4.0 for name in ("max", "min", "mean")},
        **{f"Episode / Total timesteps ({name})": 4.0 for name in ("max", "min", "mean")},
    }


def play(experiment: keepfast.Experiment, envs: Envs, steps: range) -> None:
    for timestep in steps:
        experiment.record_transition(*envs.step())
        experiment.step(timestep)


def killed_at_75(net: Net, directory: Path, envs: Envs, **settings: Any) -> None:
    """Run 75 timesteps, checkpointed at the last, and break off."""
    experiment = keepfast.Experiment(
        cfg_in(directory, write_interval=50, checkpoint_interval=25, **settings), timesteps=400, env=envs
    )
    experiment.register(policy=net)

    def broken() -> None:
        with experiment:
            play(experiment, envs, range(75))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        broken()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_resume_drops_the_episodes_that_were_under_way(
    mode: AutoresetMode, net: Callable[..., Net], tmp_path: Path
) -> None:
    """An environment of 100 steps, killed at 75 and reset, has no episode of 175, and no score that none can have."""
    killed_at_75(net(), tmp_path, Envs(100, 1, mode))
    envs = Envs(100, 1, mode)
    cfg = cfg_in(tmp_path, write_interval=50, checkpoint_interval=25)
    with keepfast.Experiment(cfg, timesteps=400, env=envs) as experiment:
        experiment.register(policy=net())
        start = experiment.resume()
        assert start == 75
        play(experiment, envs, range(start, 400))
    assert set(lengths(tmp_path)) == {100.0}
    assert experiment.best_score == 100.0


def test_an_episode_that_ended_before_the_kill_still_counts(net: Callable[..., Net], tmp_path: Path) -> None:
    """Dropped is what was running; what its interval held already is resumed."""
    killed_at_75(net(), tmp_path, Envs(60))
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=50), timesteps=400) as experiment:
        experiment.register(policy=net())
        play(experiment, Envs(60), range(experiment.resume(), 100))
    row = rows(tmp_path)[100]
    assert row["Episode / Total timesteps (mean)"] == 60.0
    assert row["Reward / Instantaneous reward (mean)"] == 1.0


@pytest.mark.parametrize("mode", AutoresetMode)
def test_running_episodes_continue_where_that_is_set(
    mode: AutoresetMode, net: Callable[..., Net], tmp_path: Path
) -> None:
    """For environments whose state comes back, every row is that of a run without a break."""
    settings = {"running_episodes": "continue", "write_interval": 20, "checkpoint_interval": 25}
    for name, breaks in (("whole", [400]), ("cut", [75, 100, 250, 400])):
        envs = Envs(24, 2, mode)  # which outlives the experiments
        for end in breaks:
            with keepfast.Experiment(cfg_in(tmp_path / name, **settings), timesteps=400, env=envs) as experiment:
                experiment.register(policy=net())
                play(experiment, envs, range(experiment.resume(), end))
    whole, cut = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    assert {step: row for step, row in cut.items() if step % 20 == 0} == whole


@pytest.mark.parametrize(
    ("told", "expected"), [({}, {100.0}), ({"running_episodes": "restart"}, {25.0, 100.0})], ids=["default", "restart"]
)
def test_a_registered_environment_makes_continue_the_default(
    told: dict[str, str], expected: set[float], net: Callable[..., Net], tmp_path: Path
) -> None:
    """With its state its episodes come back, to the bit; a setting that says otherwise counts."""
    for name, breaks in (("whole", [400]), ("cut", [75, 400])):
        for end in breaks:
            envs = Envs(100)
            cfg = cfg_in(tmp_path / name, write_interval=50, checkpoint_interval=25, **told)
            with keepfast.Experiment(cfg, timesteps=400) as experiment:
                experiment.register(policy=net(), env=net(count=envs.count))
                play(experiment, envs, range(experiment.resume(), end))
    assert set(lengths(tmp_path / "cut")) == expected
    cut = {step: row for step, row in rows(tmp_path / "cut").items() if step % 50 == 0}
    assert (cut == rows(tmp_path / "whole")) == (not told)


def test_an_environment_that_was_not_restored_starts_anew(net: Callable[..., Net], tmp_path: Path) -> None:
    """Where `resume` is asked for other modules alone, the running episodes are dropped."""
    cfg = cfg_in(tmp_path, write_interval=50, checkpoint_interval=25)
    for end in (75, 400):
        envs = Envs(100)
        with keepfast.Experiment(cfg, timesteps=400) as experiment:
            experiment.register(policy=net(), env=net(count=envs.count))
            play(experiment, envs, range(experiment.resume(modules=["policy"]), end))
    assert set(lengths(tmp_path)) == {100.0}


def test_an_agents_environment_makes_continue_the_default_too(net: Callable[..., Net], tmp_path: Path) -> None:
    """What an agent's configuration leaves open stays open on its way to the experiment."""
    for end in (75, 400):
        envs = Envs(100)
        agent = keepfast.Agent({"policy": net()}, cfg={"experiment": cfg_in(tmp_path, write_interval=50)})
        agent.checkpoint_modules["envs"] = net(count=envs.count)
        agent.init({"timesteps": 400})
        play(agent.experiment, envs, range(agent.resume(), end))
        agent.write_checkpoint()
        agent.close()
    assert set(lengths(tmp_path)) == {100.0}


def test_environments_that_were_reset_in_mid_run_count_anew(tmp_path: Path) -> None:
    """An evaluation in the training environment breaks its episodes off; told of it, no statistic mixes two."""
    envs = Envs(10, 3, AutoresetMode.NEXT_STEP)
    agent = keepfast.Agent(cfg={"experiment": cfg_in(tmp_path, write_interval=20)})
    agent.init({"timesteps": 100}, env=envs)
    play(agent.experiment, envs, range(37))
    envs.reset()
    agent.reset_episodes()
    play(agent.experiment, envs, range(37, 58))
    envs.count[1], envs.resetting[1] = 0, False
    agent.experiment.reset_episodes([1])
    play(agent.experiment, envs, range(58, 100))
    agent.close()
    assert set(lengths(tmp_path)) == {10.0}
    with pytest.raises(keepfast.UsageError, match="was closed"):
        agent.reset_episodes()


def test_rewards_by_agent_are_written_and_judged_by_their_total(net: Callable[..., Net], tmp_path: Path) -> None:
    """Tags by agent, and without a name those of all, which say what is best; a resume has them all."""
    for name, breaks in (("whole", [40]), ("cut", [20, 40])):
        for end in breaks:
            settings = {"write_interval": 8, "checkpoint_interval": 10, "running_episodes": "continue"}
            with keepfast.Experiment(cfg_in(tmp_path / name, **settings), timesteps=40) as experiment:
                experiment.register(policy=net())
                for timestep in range(experiment.resume(), end):
                    end_of_all = timestep % 4 == 3
                    rewards = {"wolf": np.array([1.0, 2.0]), "sheep": np.array([0.5, float(timestep)])}
                    experiment.record_transition(rewards, np.full(2, end_of_all), np.zeros(2, bool))
                    experiment.step(timestep)
        assert experiment.best_score == (6 + 2 * 4 + 36 + 37 + 38 + 39 + 6 + 32 + 33 + 34 + 35 + 8) / 4
    whole, cut = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    assert {step: row for step, row in cut.items() if step % 8 == 0} == whole
    assert whole[8]["Reward / Total reward (wolf) (mean)"] == 6.0
    assert whole[8]["Reward / Total reward (sheep) (max)"] == 22.0
    assert whole[8]["Reward / Total reward (max)"] == 30.0
    assert whole[8]["Reward / Instantaneous reward (sheep) (min)"] == 0.0
    assert len(whole[8]) == 27


def test_a_run_that_writes_nothing_takes_all_of_it(tmp_path: Path) -> None:
    """With a write interval of 0 masks, dicts and resets are taken and ignored."""
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=0), timesteps=4, env=Envs(3)) as experiment:
        experiment.record_transition(np.ones(2), np.ones(2), np.ones(2), valid=np.ones(2))
        experiment.record_transition({"a": 1.0}, False, False)
        experiment.reset_episodes([5])
        experiment.step(0)
