"""Rewards that come as a dict by agent give each agent's statistics, and those of all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast import InvalidValue, KeepfastWarning, ShapeMismatch, codec
from keepfast.tracking.tracker import Tracker

TeamStep = dict[str, tuple[list[float], list[bool], list[bool]]]
"""Of each agent: its rewards, ends, and whether its rows are transitions."""


@dataclass
class Reference:
    """The semantics in plain Python, for one environment."""

    resets_take_a_step: bool = False
    running: dict[str, tuple[float, int]] = field(default_factory=dict)
    together: tuple[float, int] = (0.0, 0)
    over: set[str] = field(default_factory=set)
    resetting: bool = False
    found: dict[str | None, list[tuple[float, int]]] = field(default_factory=dict)

    def record(self, step: dict[str, tuple[float, bool, bool]]) -> None:
        resetting, self.resetting = self.resetting, False
        there = {agent: part for agent, part in step.items() if part[2] and not resetting and agent not in self.over}
        for agent, (reward, done, _) in there.items():
            total, length = self.running.get(agent, (0.0, 0))
            self.running[agent] = (total + reward, length + 1)
            if done:
                self.found.setdefault(agent, []).append(self.running[agent])
                self.over.add(agent)
        if there:
            self.together = (self.together[0] + sum(part[0] for part in there.values()), self.together[1] + 1)
            if self.over >= self.running.keys():
                self.found.setdefault(None, []).append(self.together)
                self.running, self.together, self.over = {}, (0.0, 0), set()
                self.resetting = self.resets_take_a_step


@st.composite
def team_runs(draw: st.DrawFn) -> list[TeamStep]:
    """Draw a run of up to three agents, who may be away at a step, in one to three environments."""
    num_envs = draw(st.integers(1, 3))
    size = {"min_size": num_envs, "max_size": num_envs}
    parts = st.tuples(
        st.lists(st.integers(-3, 3).map(float), **size),
        st.lists(st.sampled_from([False, False, True]), **size),
        st.lists(st.sampled_from([True, True, True, False]), **size),
    )
    step = st.dictionaries(st.sampled_from(["a", "b", "c"]), parts, min_size=1)
    return draw(st.lists(step, max_size=30))


def record(tracker: Tracker, step: TeamStep) -> None:
    rewards, done, valid = ({agent: np.array(parts[part]) for agent, parts in step.items()} for part in range(3))
    tracker.episodes.record(rewards, done, dict.fromkeys(step, np.zeros(len(next(iter(rewards.values()))))), valid)


def summary(tag: str, agent: str | None, values: list[float]) -> dict[str, float]:
    tag = tag if agent is None else f"{tag} ({agent})"
    return {f"{tag} (max)": max(values), f"{tag} (min)": min(values), f"{tag} (mean)": sum(values) / len(values)}


@given(run=team_runs(), mode=st.sampled_from(["next_step", None]))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_rewards_by_agent_give_tags_by_agent_and_their_total(run: list[TeamStep], mode: Any) -> None:
    """Each agent's episodes end with it, that of all with the last; agents may be away or idle at any step."""
    tracker = Tracker()
    tracker.episodes.set_autoreset(mode)
    num_envs = len(next(iter(run[0].values()))[0]) if run else 0
    references = [Reference(mode == "next_step") for _ in range(num_envs)]
    for step in run:
        record(tracker, step)
        for env, reference in enumerate(references):
            reference.record({agent: tuple(part[env] for part in parts) for agent, parts in step.items()})  # type: ignore[misc]
    expected: dict[str, float] = {}
    for agent in (None, "a", "b", "c"):
        if ended := [episode for reference in references for episode in reference.found.get(agent, [])]:
            expected |= summary("Reward / Total reward", agent, [total for total, _ in ended])
            expected |= summary("Episode / Total timesteps", agent, [length for _, length in ended])
    found = tracker.statistics()
    assert {tag: value for tag, value in found.items() if "Instantaneous" not in tag} == pytest.approx(expected)


@given(run=team_runs(), cut=st.integers(0, 30), mode=st.sampled_from(["next_step", None]))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_a_resume_gives_the_same_bits_by_agent(run: list[TeamStep], cut: int, mode: Any) -> None:
    """State taken after any step, also where some agents have ended and others have not."""
    whole, saved, resumed = Tracker(), Tracker(), Tracker()
    for tracker in (whole, saved, resumed):
        tracker.episodes.set_autoreset(mode)
    for done, step in enumerate(run):
        if done == cut:
            resumed.load_state_dict(codec.loads(codec.dumps(saved.state_dict())))
        for tracker in (whole, saved, *([resumed] if done >= cut else [])):
            record(tracker, step)
    expected = whole.statistics()
    assert saved.statistics() == expected
    if len(run) > cut:
        assert resumed.statistics() == expected


def test_a_parallel_environment_of_pettingzoo_is_counted() -> None:
    """Agents that ended are away, plain numbers stand for one environment, and all have ended with the last."""
    tracker = Tracker()
    for _ in range(2):
        tracker.episodes.record({"a": 1.0, "b": 2}, {"a": False, "b": False}, {"a": False, "b": False})
        tracker.episodes.record({"a": 1.0, "b": 2}, {"a": True, "b": False}, {"a": False, "b": False})
        tracker.episodes.record({"b": 3}, {"b": False}, {"b": True})
    found = tracker.statistics()
    assert tracker.episodes.ended_in_last_interval == 2
    assert found["Reward / Instantaneous reward (max)"] == 3.0
    assert found["Reward / Instantaneous reward (a) (max)"] == 1.0
    assert {tag: value for tag, value in found.items() if "(mean)" in tag and "Instantaneous" not in tag} == {
        "Reward / Total reward (mean)": 9.0,
        "Reward / Total reward (a) (mean)": 2.0,
        "Reward / Total reward (b) (mean)": 7.0,
        "Episode / Total timesteps (mean)": 3.0,
        "Episode / Total timesteps (a) (mean)": 2.0,
        "Episode / Total timesteps (b) (mean)": 3.0,
    }


def test_ends_may_be_the_same_for_all_agents() -> None:
    """Given as one array, of shape (num_envs, 1) for example, as are masks."""
    tracker = Tracker()
    for end in (False, True):
        rewards = {0: np.array([[1.0], [2.0]]), 1: np.array([[10.0], [20.0]])}
        tracker.episodes.record(rewards, np.full((2, 1), end), np.zeros((2, 1), bool), [True, False])
    found = tracker.statistics()
    assert found["Reward / Total reward (max)"] == 22.0
    assert (found["Reward / Total reward (0) (max)"], found["Reward / Total reward (1) (max)"]) == (2.0, 20.0)
    assert found["Episode / Total timesteps (min)"] == 2.0
    assert tracker.episodes.ended_in_last_interval == 1


def test_rewards_after_an_agents_end_are_told_once() -> None:
    """They are left out, as the agent takes no further part; zeros, as environments pad with, are nothing to tell."""
    tracker = Tracker()
    quiet, never = {"a": 0.0, "b": 1.0}, {"a": False, "b": False}
    tracker.episodes.record({"a": 1.0, "b": 1.0}, {"a": True, "b": False}, never)
    tracker.episodes.record(quiet, never, never)
    assert "Reward / Total reward (mean)" not in tracker.statistics()
    for reward in (5.0, 6.0):
        tracker.episodes.record({"a": reward, "b": 1.0}, {"a": True, "b": reward == 6.0}, never)
    with pytest.warns(KeepfastWarning, match="the agent `a` got rewards after it had ended") as told:
        found = tracker.statistics()
    assert len(told) == 1
    assert found["Reward / Total reward (mean)"] == 5.0
    assert found["Episode / Total timesteps (b) (mean)"] == 4.0
    assert "Episode / Total timesteps (a) (mean)" not in found  # it ended in the interval before


def test_a_reset_by_hand_starts_all_agents_anew() -> None:
    """In the environments that were reset, whoever had ended there."""
    tracker = Tracker()
    never = np.zeros(2, bool)
    tracker.episodes.record({"a": np.ones(2), "b": np.ones(2)}, {"a": ~never, "b": never}, never)
    tracker.episodes.reset([1])
    tracker.episodes.record({"a": np.zeros(2), "b": np.ones(2)}, {"a": ~never, "b": ~never}, never)
    found = tracker.statistics()
    assert (found["Episode / Total timesteps (max)"], found["Episode / Total timesteps (min)"]) == (2.0, 1.0)
    assert (found["Reward / Total reward (max)"], found["Reward / Total reward (min)"]) == (3.0, 1.0)


def test_rewards_that_are_not_finite_are_told_by_agent() -> None:
    """Each agent's under its own tag, and where they spoil the total, under the tag of all."""
    tracker = Tracker()
    tracker.episodes.record({"a": math.inf, "b": 1.0}, {"a": True, "b": True}, {"a": False, "b": False})
    with pytest.warns(KeepfastWarning):
        found = tracker.statistics()
    assert found["Reward / Total reward (b) (mean)"] == 1.0
    assert set(tracker.nonfinite) == {
        f"{tag}{agent}" for tag in ("Reward / Instantaneous reward", "Reward / Total reward") for agent in ("", " (a)")
    }


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (({"a": 1.0}, {"b": False}, False), InvalidValue, "rewards of the agents `a`, and `terminated` of `b`"),
        (({"a": 1.0}, False, {}), InvalidValue, r"`truncated` of \(none\)"),
        (({"a": 1.0, "b": np.ones(2)}, False, False), ShapeMismatch, r"rewards \(2,\).*expected 1 element"),
        (({"a": np.ones(2)}, np.zeros(3), np.zeros(2)), ShapeMismatch, r"terminated \(3,\).*expected 2 element"),
        (({"a": np.ones(2)}, np.zeros(2), np.zeros(2), {"a": [True]}), ShapeMismatch, r"valid \(1,\); expected 2"),
        (({"a": "1"}, False, False), InvalidValue, "rewards of dtype"),
        (({}, {}, {}), ShapeMismatch, "of no agent"),
    ],
)
def test_dicts_that_do_not_fit_are_refused(given: Any, error: type[Exception], message: str) -> None:
    """The error says what differs, and nothing is recorded."""
    tracker = Tracker()
    with pytest.raises(error, match=message):
        tracker.episodes.record(*given)
    assert not tracker.pending


def test_a_run_has_agents_or_has_none() -> None:
    """Rewards of all after rewards by agent, or the reverse, are refused."""
    team, plain = Tracker(), Tracker()
    team.episodes.record({"a": 1.0}, False, False)
    with pytest.raises(InvalidValue, match="rewards as an array, and as a dict by agent before"):
        team.episodes.record(1.0, False, False)
    plain.episodes.record(1.0, False, False)
    with pytest.raises(InvalidValue, match="rewards as a dict by agent, and as an array before"):
        plain.episodes.record({"a": 1.0}, False, False)
