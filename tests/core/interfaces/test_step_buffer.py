"""Steps are kept as they are, whatever environments give, and taken together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.interfaces.step_buffer import HostSteps, SingleSteps, Step, StepBuffer, Steps, device_capacity
from keepfast.tracking.episodes.tracker import CHUNK_STEPS, EpisodeTracker
from keepfast.tracking.held import HeldSteps, Holder
from keepfast.tracking.tracker import Tracker

ml_dtypes = pytest.importorskip("ml_dtypes")


pytestmark = pytest.mark.needs("ml_dtypes")


MAKERS: list[Callable[[Step], StepBuffer]] = [
    SingleSteps,
    lambda step: HostSteps(step, 4),
    lambda _step: HeldSteps(Holder()),
]


def taken(buffer: StepBuffer, steps: list[Step]) -> tuple[list[Any], list[Any]]:
    for step in steps:
        buffer.add(*step)
    rewards, done = buffer.take()
    return rewards.astype(float).tolist(), done.tolist()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "bfloat16"])
def test_a_buffer_gives_back_the_steps_of_one_environment(make: Callable[[Step], StepBuffer], dtype: str) -> None:
    """Rewards of any real dtype; an episode has ended where it was terminated, truncated or both."""
    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    dones = [(False, False), (True, False), (False, True), (True, True)]
    steps = [(np.full((1, 1), n % 2, kind), np.array([[t]]), np.array([[u]])) for n, (t, u) in enumerate(dones)]
    buffer = make(steps[0])
    assert taken(buffer, steps) == ([[0.0], [1.0], [0.0], [1.0]], [[False], [True], [True], [True]])
    assert taken(buffer, steps[1:2]) == ([[1.0]], [[True]])  # taking forgets


def test_the_smallest_buffer_is_complete(example: Callable[[type], str]) -> None:
    """What the documentation shows gives back the steps of several environments, and forgets them."""
    namespace: dict[str, Any] = {"keepfast": keepfast}
    exec(example(keepfast.StepBuffer), namespace)
    buffer = namespace["FrozenSteps"]()
    steps = [(np.array([n, n + 0.5]), np.array([n == 1, False]), np.array([False, n == 2])) for n in range(3)]
    for _ in range(2):
        rewards, done = taken(buffer, steps)
        assert rewards == [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]
        assert done == [[False, False], [True, False], [False, True]]


@pytest.mark.parametrize("make", MAKERS[1:])
def test_a_buffer_keeps_what_its_owner_changes_later(make: Callable[[Step], StepBuffer]) -> None:
    """Environments hand out the same arrays each step."""
    rewards, done = np.array([1.0, 2.0]), np.array([False, False])
    buffer = make((rewards, done, done))
    buffer.add(rewards, done, done)
    rewards[...], done[...] = 9.0, True
    assert taken(buffer, [(rewards, done, done)]) == ([[1.0, 2.0], [9.0, 9.0]], [[False, False], [True, True]])


def test_steps_may_change_their_form_within_an_interval() -> None:
    """From arrays to lists, to another shape or precision: nothing is lost or rounded."""
    tracker = Tracker()
    never = np.zeros(2, bool)
    for rewards in (np.float32([1, 1]), [0.1, 0.1], np.full((2, 1), 0.1), np.int64([2, 2])):
        tracker.episodes.record(rewards, never.reshape(np.shape(rewards)), never.reshape(np.shape(rewards)))
    tracker.episodes.record([0.0, 0.0], [True, True], [False, False])
    assert tracker.statistics()["Reward / Total reward (mean)"] == 1.0 + 0.1 + 0.1 + 2.0


@pytest.mark.parametrize("num_envs", [2, 7, 9, 64, 1000])
def test_statistics_do_not_depend_on_where_chunks_end(num_envs: int) -> None:
    """A state taken at any step works off a chunk early; the statistics keep every bit."""
    random = np.random.default_rng(num_envs)
    whole, cut = Tracker(), Tracker()
    for step in range(CHUNK_STEPS + 5):
        rewards, done = random.standard_normal(num_envs, np.float32) * 1e3, random.random(num_envs) < 0.02
        for tracker in (whole, cut):
            tracker.episodes.record(rewards, done, ~done & (rewards > 2.5e3))
        if step % 37 == 0:
            cut.episodes.state_dict()
    assert whole.statistics() == cut.statistics()


class FarSteps(StepBuffer):
    """Keeps steps as on a device: many, each time they are taken a transfer."""

    capacity = 1000

    def __init__(self, step: Step) -> None:
        self._near = HostSteps(step, self.capacity)
        self.transfers = 0

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:
        self._near.add(rewards, terminated, truncated)

    def take(self) -> Steps:
        self.transfers += 1
        return self._near.take()


def test_a_buffer_that_keeps_more_steps_is_taken_once_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval of as many steps is one transfer, and the statistics have the same bits."""
    random = np.random.default_rng(0)
    near, far = Tracker(), Tracker()
    steps = [
        (random.standard_normal(300, np.float32), random.random(300) < 0.02, np.zeros(300, bool)) for _ in range(1000)
    ]
    buffer = FarSteps(steps[0])
    for step in steps:
        near.episodes.record(*step)
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeTracker, "_buffer_for", lambda _self, _step: buffer)
        for step in steps:
            far.episodes.record(*step)
    assert near.statistics() == far.statistics()
    assert buffer.transfers == 1


def test_a_buffer_on_a_device_keeps_as_many_steps_as_its_memory_bears() -> None:
    """Many of few environments, few of many, and always one."""
    assert [device_capacity(count) for count in (1, 1 << 14, 1 << 20, 1 << 24, 1 << 30)] == [1024, 1024, 16, 1, 1]
