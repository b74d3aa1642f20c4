"""When environments reset is read from them, set, or seen in the data."""

from __future__ import annotations

import enum
import sys
import types
from typing import Any

import numpy as np
import pytest

from keepfast import KeepfastWarning
from keepfast.tracking.episodes.autoreset import MODES, Resemblance, chosen, mode_of
from keepfast.tracking.tracker import Tracker


class AutoresetMode(enum.Enum):
    """As Gymnasium has it."""

    NEXT_STEP = "NextStep"
    SAME_STEP = "SameStep"
    DISABLED = "Disabled"


class Numbered(enum.Enum):
    """The same modes with other values."""

    NEXT_STEP = 1
    SAME_STEP = 2
    DISABLED = 3


class VectorEnv:
    """A vector environment that tells what it is told to."""

    num_envs = 2

    def __init__(self, **told: Any) -> None:
        self.metadata = told
        self.unwrapped = self


class Wrapper:
    """Wraps an environment, and says nothing itself."""

    def __init__(self, env: Any, place: str) -> None:
        setattr(self, place, env)


@pytest.mark.parametrize("kind", [AutoresetMode, Numbered])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_an_environment_tells_its_mode(kind: Any, mode: str) -> None:
    """In its metadata or as an attribute, by an enumeration or a string, under any wrappers."""
    env = VectorEnv(autoreset_mode=kind[mode])
    assert mode_of(env) == mode.lower()
    for place in ("env", "_env", "venv", "unwrapped"):
        env = Wrapper(env, place)
    assert mode_of(env) == mode.lower()
    attribute = VectorEnv()
    attribute.autoreset_mode = mode.lower()
    assert mode_of(attribute) == mode.lower()


def test_the_outermost_wrapper_is_believed() -> None:
    """It may change when its environments reset."""
    inner = VectorEnv(autoreset_mode=AutoresetMode.DISABLED)
    outer = VectorEnv(autoreset_mode=AutoresetMode.SAME_STEP)
    outer.env = inner
    assert mode_of(outer) == "same_step"


@pytest.mark.parametrize("env", [object(), VectorEnv(), VectorEnv(autoreset_mode=None)])
def test_an_environment_may_say_nothing(env: object) -> None:
    """Others than Gymnasium's have no such thing."""
    assert mode_of(env) is None


def test_a_mode_that_nobody_knows_is_told() -> None:
    """The warning names it and the known ones; no row is left out."""
    env = VectorEnv(autoreset_mode="PartialReset")
    with pytest.warns(KeepfastWarning, match="'PartialReset', which is none of next_step, same_step, disabled"):
        assert mode_of(env) is None


def test_a_single_environment_is_reset_by_whoever_steps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata, which a vector environment around others of its kind may have written to, does not count."""
    env = type("Env", (), {"metadata": {"autoreset_mode": AutoresetMode.NEXT_STEP}})
    single, around = env(), type("Autoreset", (env,), {"__module__": "gymnasium.wrappers.common"})()
    assert mode_of(single) == "next_step"  # as long as nobody knows that it is one of Gymnasium's
    monkeypatch.setitem(sys.modules, "gymnasium", types.SimpleNamespace(Env=env))
    assert mode_of(single) == "disabled"
    around.env = single
    assert mode_of(around) == "next_step"
    assert mode_of(type("Vector", (env,), {"num_envs": 4})()) == "next_step"


@pytest.mark.parametrize("mode", MODES.values())
def test_a_setting_counts_more_than_the_environment(mode: str) -> None:
    """Where they differ in which rows are left out, that is told."""
    for told in AutoresetMode:
        env = VectorEnv(autoreset_mode=told)
        if (told is AutoresetMode.NEXT_STEP) == (mode == "next_step"):
            assert chosen(mode, env) == mode
        else:
            with pytest.warns(KeepfastWarning, match=f'`autoreset` is "{mode}", and the environment says'):
                assert chosen(mode, env) == mode
    assert chosen(mode, None) == mode
    assert chosen("auto", None) is None


def play(tracker: Tracker, steps: int, *, reset_reward: float = 0.0, reward: float = 1.0, num_envs: int = 1) -> None:
    """Record episodes of three steps, each with a reset behind it."""
    never = np.zeros(num_envs, bool)
    for step in range(steps):
        rewards = np.full(num_envs, reset_reward if step % 4 == 3 else reward)
        tracker.episodes.record(rewards, never | (step % 4 == 2), never)


def test_data_that_look_like_resets_are_told_once() -> None:
    """Where nobody said when environments reset: with the next step, and nothing is lost."""
    tracker = Tracker()
    play(tracker, 16)
    with pytest.warns(KeepfastWarning, match=r"each of 4 episodes that ended is followed by a row of reward 0") as told:
        tracker.statistics()
    for hint in ("`env=` of `Experiment` or `Agent.init`", '`autoreset`: "next_step" leaves', '"same_step" keeps'):
        assert hint in str(told[0].message)
    play(tracker, 16)
    assert tracker.statistics()["Episode / Total timesteps (max)"] == 4.0


@pytest.mark.filterwarnings("error")
def test_telling_costs_no_data() -> None:
    """A warning that is made an error is raised once the steps are counted; the next call has the statistics."""
    tracker = Tracker()
    play(tracker, 16, num_envs=3)
    with pytest.raises(KeepfastWarning):
        tracker.statistics()
    assert tracker.statistics()["Episode / Total timesteps (mean)"] == pytest.approx(15 / 4)


@pytest.mark.parametrize(
    ("reset_reward", "reward"),
    [(1.0, 1.0), (-0.5, 1.0), (0.0, 0.0), (float("nan"), 1.0)],
    ids=["no resets", "a reward at once", "sparse rewards", "not finite"],
)
@pytest.mark.filterwarnings("ignore:.*were not finite")
def test_other_data_are_not_suspected(reset_reward: float, reward: float) -> None:
    """Neither those with a reward right after an end, nor those whose rewards are mostly 0."""
    tracker = Tracker()
    play(tracker, 4000, reset_reward=reset_reward, reward=reward)
    assert tracker.statistics()["Episode / Total timesteps (max)"] == 4.0


@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_who_knows_is_not_told(mode: Any) -> None:
    """Nor is anybody who marks rows."""
    tracker = Tracker()
    tracker.episodes.set_autoreset(mode)
    play(tracker, 16)
    tracker.statistics()
    marking = Tracker()
    for step in range(16):
        marking.episodes.record(float(step % 4 != 3), step % 4 == 2, False, valid=True)
    marking.statistics()


def test_a_setting_that_the_data_contradict_is_told_once() -> None:
    """Rows that are left out because somebody said so, and have rewards, are told of with the other setting."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step", by_setting=True)
    play(tracker, 16, reset_reward=1.0)
    with pytest.warns(KeepfastWarning, match='left out.*as `autoreset` is set to it.*set `autoreset` to "same_step"'):
        assert tracker.statistics()["Episode / Total timesteps (max)"] == 3.0
    play(tracker, 16, reset_reward=1.0)
    tracker.statistics()


def test_a_loop_that_leaves_resets_out_itself_is_told() -> None:
    """Where the environment said that there are such rows; they have rewards, and not always the same."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    for step in range(9):
        tracker.episodes.record(np.full(2, step + 1.0), np.full(2, step % 3 == 2), np.zeros(2))
    with pytest.warns(KeepfastWarning, match="as the environment says.*or you leave resets out yourself"):
        tracker.statistics()


def test_an_environment_is_not_doubted() -> None:
    """Wrappers may give its resets a reward, always the same."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    play(tracker, 16, reset_reward=-1.0)
    assert tracker.statistics()["Reward / Instantaneous reward (min)"] == 1.0


def test_watching_ends() -> None:
    """After a thousand ends among rewards that are mostly 0 nobody looks any more."""
    watched = Resemblance()
    zeros, done = np.zeros((1, 2000)), np.ones((1, 2000), bool)
    watched.look(zeros, ~done, done[0])
    assert watched.watching
    watched.look(zeros, ~done, ~done[0])
    watched.tell()
    assert not watched.watching
