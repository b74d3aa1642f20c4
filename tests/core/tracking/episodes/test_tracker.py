"""Rewards and dones become finished episodes, each counted once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepfast import InvalidValue, KeepfastWarning, ShapeMismatch, codec
from keepfast.tracking.episodes.running import RunningEpisodes
from keepfast.tracking.episodes.tracker import CHUNK_STEPS
from keepfast.tracking.tracker import Tracker

Step = tuple[list[float], list[bool], list[bool]]


@dataclass
class Reference:
    """The semantics in plain Python, one environment at a time."""

    num_envs: int
    resets_take_a_step: bool = False
    running: list[tuple[float, int]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    episodes: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running = [(0.0, 0)] * self.num_envs
        self.resetting = [False] * self.num_envs

    def record(
        self, rewards: list[float], terminated: list[bool], truncated: list[bool], valid: list[bool] | None = None
    ) -> None:
        for env, reward in enumerate(rewards):
            resetting, self.resetting[env] = self.resetting[env], False
            if resetting or (valid is not None and not valid[env]):
                continue
            self.rewards.append(reward)
            total, length = self.running[env]
            self.running[env] = (total + reward, length + 1)
            if terminated[env] or truncated[env]:
                self.episodes.append(self.running[env])
                self.running[env] = (0.0, 0)
                self.resetting[env] = self.resets_take_a_step

    def statistics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for tag, values in (
            ("Reward / Instantaneous reward", self.rewards),
            ("Reward / Total reward", [total for total, _ in self.episodes[-100:]]),
            ("Episode / Total timesteps", [length for _, length in self.episodes[-100:]]),
        ):
            finite = [value for value in values if math.isfinite(value)]
            if finite:
                found[f"{tag} (max)"] = max(finite)
                found[f"{tag} (min)"] = min(finite)
                found[f"{tag} (mean)"] = math.fsum(finite) / len(finite)
        self.rewards, self.episodes = [], []
        return found


FORMS: dict[str, Callable[[list[Any], type], Any]] = {
    "(N,)": lambda values, dtype: np.array(values, dtype),
    "(N, 1)": lambda values, dtype: np.array(values, dtype).reshape(-1, 1),
    "list": lambda values, dtype: list(values),
    "tuple": lambda values, dtype: tuple(values),
}

REWARDS = st.floats(-1e3, 1e3, width=32)


@st.composite
def runs(draw: st.DrawFn, rewards: st.SearchStrategy[float] = REWARDS) -> list[list[Step]]:
    """Draw a run: intervals of steps of one to twelve environments."""
    num_envs = draw(st.integers(1, 12))
    per_env = {"min_size": num_envs, "max_size": num_envs}
    done = st.lists(st.sampled_from([False, False, False, True]), **per_env)
    step = st.tuples(st.lists(rewards, **per_env), done, done)
    return draw(st.lists(st.lists(step, max_size=20), min_size=1, max_size=4))


@st.composite
def masked(draw: st.DrawFn) -> tuple[list[list[Step]], list[list[bool] | None]]:
    """Draw a run, and for each of its steps a mask or None."""
    run = draw(runs(st.sampled_from([1.0, -2.5, 0.0, math.nan, math.inf])))
    size = num_envs_of(run)
    mask = st.none() | st.lists(st.sampled_from([True, True, False]), min_size=size, max_size=size)
    count = sum(map(len, run))
    return run, draw(st.lists(mask, min_size=count, max_size=count))


def record(
    tracker: Tracker,
    step: Step,
    form: str = "(N,)",
    dtype: type = np.float32,
    valid: list[bool] | None = None,
) -> None:
    rewards, terminated, truncated = step
    shape = FORMS[form]
    mask = None if valid is None else shape(valid, bool)
    tracker.episodes.record(shape(rewards, dtype), shape(terminated, bool), shape(truncated, bool), mask)


def num_envs_of(run: list[list[Step]]) -> int:
    return next((len(step[0]) for interval in run for step in interval), 1)


@given(run=runs(), form=st.sampled_from(list(FORMS)), dtype=st.sampled_from([np.float32, np.float64]))
@pytest.mark.filterwarnings("ignore:each of .* followed by a row of reward 0")
def test_episodes_are_those_of_plain_python(run: list[list[Step]], form: str, dtype: type) -> None:
    """Across interval borders, with several environments ending at once, terminated or truncated, in any shape."""
    tracker, reference = Tracker(), Reference(num_envs_of(run))
    for interval in run:
        for step in interval:
            record(tracker, step, form, dtype)
            reference.record(*step)
        assert tracker.statistics() == pytest.approx(reference.statistics(), rel=1e-12, abs=1e-9)


@given(run=runs())
@pytest.mark.filterwarnings("ignore:each of .* followed by a row of reward 0")
def test_episode_sums_of_float32_rewards_are_those_of_float64(run: list[list[Step]]) -> None:
    """Rewards in single precision are summed in double, in the order of the steps, so the sum is exact to the bit."""
    tracker, reference = Tracker(), Reference(num_envs_of(run))
    for interval in run:
        for step in interval:
            record(tracker, step)
            reference.record(*step)
    found, expected = tracker.statistics(), reference.statistics()
    for tag in ("Reward / Total reward (max)", "Reward / Total reward (min)"):
        assert found.get(tag) == expected.get(tag)


@given(run=runs(), cut=st.integers(0, 80), other=runs())
@pytest.mark.filterwarnings("ignore:each of .* followed by a row of reward 0")
def test_a_resume_at_any_step_gives_the_same_bits(run: list[list[Step]], cut: int, other: list[list[Step]]) -> None:
    """State taken after any step, through JSON, into a tracker with another past, leads to identical statistics."""
    whole, saved, resumed = Tracker(), Tracker(), Tracker()
    for step in (step for interval in other for step in interval):
        record(resumed, step)
    done = 0
    for interval in run:
        for step in interval:
            if done == cut:
                resumed.load_state_dict(codec.loads(codec.dumps(saved.state_dict())))
            record(whole, step)
            record(saved, step)
            if done >= cut:
                record(resumed, step)
            done += 1
        expected = whole.statistics()
        assert saved.statistics() == expected
        if done > cut:
            assert resumed.statistics() == expected


@given(run=runs(st.sampled_from([1.0, -2.5, math.nan, math.inf, -math.inf])))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_rewards_that_are_not_finite_stay_out(run: list[list[Step]]) -> None:
    """They leave the instantaneous statistics and the total of their episode, and its length still counts."""
    tracker, reference = Tracker(), Reference(num_envs_of(run))
    for interval in run:
        for step in interval:
            record(tracker, step)
            reference.record(*step)
        assert tracker.statistics() == pytest.approx(reference.statistics())


@example(num_envs=1, numbers=[0.0, 0.0, 0.0, 0.0, -0.0, 0.0, 0.0], ends=[False])
@given(
    num_envs=st.integers(1, 7),
    numbers=st.lists(st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -0.0, 1e308]), min_size=7),
    ends=st.lists(st.booleans(), min_size=1),
)
def test_a_few_rewards_are_added_up_to_the_bits_of_many(num_envs: int, numbers: list[float], ends: list[bool]) -> None:
    """Whether they are added up one by one, or as arrays, is nothing that a resume could notice."""
    rewards = np.resize(numbers, (len(numbers) // num_envs, num_envs))
    done = np.resize(ends, rewards.shape)
    few, many = RunningEpisodes(), RunningEpisodes()
    told = []
    for running in (few, many):
        running.start(num_envs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("keepfast.tracking.episodes.running._FEW", 128 if running is few else 0)
            for start in range(0, len(rewards), 5):
                running.work_off(rewards[start : start + 5], done[start : start + 5])
        told.append(codec.dumps([running.state_dict(), running.statistics(), running.take_nonfinite()]))
    assert told[0] == told[1]


def test_rewards_that_are_not_finite_are_counted_and_told_once() -> None:
    """One warning for the tag of the rewards, one for that of the episodes they spoil."""
    tracker = Tracker()
    tracker.episodes.record([1.0, math.nan], [False, True], [False, False])
    with pytest.warns(KeepfastWarning) as warned:
        statistics = tracker.statistics()
    assert [str(warning.message).split(" of ")[1].split(" were")[0] for warning in warned] == [
        "`Reward / Instantaneous reward`",
        "`Reward / Total reward`",
    ]
    assert statistics["Reward / Instantaneous reward (mean)"] == 1.0
    assert statistics["Episode / Total timesteps (mean)"] == 1.0
    assert "Reward / Total reward (mean)" not in statistics
    tracker.episodes.record([math.inf, math.inf], [True, True], [False, False])
    tracker.statistics()
    assert tracker.nonfinite == {"Reward / Instantaneous reward": 3, "Reward / Total reward": 3}


def test_only_the_last_hundred_episodes_of_an_interval_count() -> None:
    """With more episodes than that in one interval, the latest hundred give the statistics."""
    tracker = Tracker()
    for reward in range(250):
        tracker.episodes.record(float(reward), True, False)
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (min)"] == 150.0
    assert statistics["Reward / Total reward (max)"] == 249.0
    assert statistics["Reward / Total reward (mean)"] == 199.5
    assert tracker.episodes.ended_in_last_interval == 250


def test_an_episode_is_counted_once_even_if_terminated_and_truncated() -> None:
    """Both flags at one step end one episode."""
    tracker = Tracker()
    tracker.episodes.record([1.0], [True], [True])
    tracker.statistics()
    assert tracker.episodes.ended_in_last_interval == 1


def test_episodes_that_end_together_are_all_begun_anew() -> None:
    """What follows the end of an episode is another one's, in each of the environments where one ended."""
    tracker = Tracker()
    for ended in ([True, False, True], [True, True, True]):
        record(tracker, ([1.0, 10.0, 100.0], ended, [False] * 3))
    found = tracker.statistics()
    assert found["Reward / Total reward (max)"] == 100.0
    assert found["Reward / Total reward (min)"] == 1.0
    assert found["Reward / Total reward (mean)"] == (1.0 + 100.0 + 1.0 + 20.0 + 100.0) / 5


def test_an_episode_belongs_to_the_interval_it_ended_in() -> None:
    """An episode that crosses a border is absent from the first interval and whole in the second."""
    tracker = Tracker()
    tracker.episodes.record([1.0], [False], [False])
    assert "Reward / Total reward (mean)" not in tracker.statistics()
    tracker.episodes.record([2.0], [False], [True])
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (mean)"] == 3.0
    assert statistics["Episode / Total timesteps (mean)"] == 2.0
    assert tracker.statistics() == {}


def test_the_last_hundred_episodes_of_an_interval_count() -> None:
    """However many ended, in whatever number of steps; how many there were is known too."""
    tracker = Tracker()
    for step in range(600):
        tracker.episodes.record(np.array([step, step + 0.5]), np.ones(2, bool), np.zeros(2, bool))
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (min)"] == 550.0
    assert statistics["Reward / Total reward (max)"] == 599.5
    assert tracker.episodes.ended_in_last_interval == 1200
    assert tracker.statistics() == {}
    assert tracker.episodes.ended_in_last_interval == 0


def test_a_resume_counts_the_last_hundred_episodes_too() -> None:
    """Those from before the cut and those after it together, and none beyond a hundred."""
    before, after = Tracker(), Tracker()
    for step in range(150):
        before.episodes.record([float(step)], [True], [False])
    after.load_state_dict(codec.loads(codec.dumps(before.state_dict())))
    for step in range(150, 200):
        after.episodes.record([float(step)], [True], [False])
    statistics = after.statistics()
    assert statistics["Reward / Total reward (min)"] == 100.0
    assert statistics["Reward / Total reward (mean)"] == 149.5
    assert after.episodes.ended_in_last_interval == 200


def test_a_checkpoint_keeps_the_running_episodes_as_they_were() -> None:
    """Training goes on while it is written, and changes nothing of it."""
    tracker = Tracker()
    tracker.episodes.record([1.0, 2.0], [False, False], [False, False])
    state = tracker.state_dict()
    taken = codec.dumps(state)
    for _ in range(3):
        tracker.episodes.record([5.0, 5.0], [False, True], [False, False])
        tracker.state_dict()
    tracker.episodes.reset()
    assert codec.dumps(state) == taken


def test_a_checkpoint_keeps_the_running_episodes_of_environments_that_are_reset() -> None:
    """A reset right after it was taken, with no step in between, changes nothing of it."""
    tracker = Tracker()
    tracker.episodes.record([1.0, 2.0], [False, False], [False, False])
    state = tracker.state_dict()
    taken = codec.dumps(state)
    tracker.episodes.reset([0])
    assert codec.dumps(state) == taken
    assert codec.dumps(tracker.state_dict()) != taken


def test_steps_that_wait_are_pending() -> None:
    """Also those that were not worked off yet."""
    tracker = Tracker()
    assert not tracker.pending
    tracker.episodes.record([1.0], [False], [False])
    assert tracker.pending
    tracker.statistics()
    assert not tracker.pending


def test_steps_of_another_kind_come_after_those_before() -> None:
    """A loop whose arrays change their dtype, or become lists, loses no step."""
    tracker = Tracker()
    for step in (
        (np.ones(2, np.float32), np.zeros(2, bool), np.zeros(2, bool)),
        (np.ones(2, np.float64), np.zeros(2, bool), np.zeros(2, bool)),
        ([1.0, 1.0], [False, False], [False, False]),
        (np.ones((2, 1), np.int64), np.ones((2, 1), bool), np.zeros((2, 1), bool)),
    ):
        tracker.episodes.record(*step)
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (mean)"] == 4.0
    assert statistics["Episode / Total timesteps (mean)"] == 4.0


@pytest.mark.parametrize("past", [0, 3], ids=["fresh", "of three environments before"])
def test_running_episodes_are_not_given_to_other_environments(past: int) -> None:
    """A run that goes on in another number of environments counts none of what was running, and says so."""
    before, after = Tracker(), Tracker()
    before.episodes.record([1.0, 1.0], [False, True], [False, False])
    for _ in range(past):
        after.episodes.record([9.0] * 3, [False] * 3, [False] * 3)
    after.load_state_dict(codec.loads(codec.dumps(before.state_dict())))
    with pytest.warns(KeepfastWarning, match=r"another number of environments; 1 running episode\(s\) are not counted"):
        after.episodes.record([5.0] * 3, [True] * 3, [False] * 3)
    statistics = after.statistics()
    assert statistics["Reward / Total reward (max)"] == 5.0
    assert statistics["Reward / Total reward (min)"] == 1.0
    assert statistics["Episode / Total timesteps (max)"] == 1.0


@pytest.mark.parametrize(
    "step",
    [(1.5, False, True), (2, 0, 1), (True, False, True), (np.float32(1.5), np.False_, np.True_), (np.array(3), 0, 1)],
    ids=repr,
)
def test_a_single_environment_may_give_plain_numbers(step: tuple[Any, Any, Any]) -> None:
    """Floats, ints, bools and NumPy scalars stand for one environment."""
    tracker = Tracker()
    tracker.episodes.record(*step)
    assert tracker.statistics()["Reward / Total reward (mean)"] == float(step[0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float16, np.bool_])
def test_integer_half_and_boolean_rewards_do_not_overflow(dtype: type) -> None:
    """A sum beyond the range of the rewards' own dtype is right, since sums run in double precision."""
    tracker = Tracker()
    reward = np.ones(1, dtype) if dtype is np.bool_ else np.full(1, 100, dtype)
    for step in range(1000):
        tracker.episodes.record(reward, [step == 999], [False])
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (mean)"] == 1000.0 * float(reward[0])
    assert statistics["Reward / Instantaneous reward (mean)"] == float(reward[0])


def test_a_reused_buffer_does_not_change_what_was_recorded() -> None:
    """Vectorised environments hand out the same arrays each step."""
    tracker = Tracker()
    rewards, done = np.ones(2), np.zeros(2, bool)
    tracker.episodes.record(rewards, done, done)
    rewards[...], done[...] = 5.0, True
    tracker.episodes.record(rewards, done, done)
    assert tracker.statistics()["Reward / Total reward (mean)"] == 6.0


@pytest.mark.parametrize("num_envs", [1, 3, 64, 4096])
def test_a_long_interval_counts_every_step(num_envs: int) -> None:
    """Steps are worked off in chunks; the borders between chunks leave no trace."""
    tracker = Tracker()
    steps = 3 * CHUNK_STEPS + 7
    never, always = np.zeros(num_envs, bool), np.ones(num_envs, bool)
    for step in range(steps):
        tracker.episodes.record(np.full(num_envs, 0.5, np.float32), always if step == steps - 1 else never, never)
    statistics = tracker.statistics()
    assert statistics["Reward / Total reward (min)"] == 0.5 * steps
    assert statistics["Episode / Total timesteps (mean)"] == steps


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (([1.0, 2.0], [False], [False]), r"rewards \(2,\), terminated \(1,\), truncated \(1,\); expected 2 element"),
        ((np.zeros((2, 1)), np.zeros(2), np.zeros(3)), r"truncated \(3,\); expected 2 element"),
        (([], [], []), "no environment"),
    ],
)
def test_a_step_whose_parts_differ_in_size_is_refused(step: tuple[Any, Any, Any], message: str) -> None:
    """The error gives every shape and what was expected; nothing is recorded."""
    tracker = Tracker()
    with pytest.raises(ShapeMismatch, match=message):
        tracker.episodes.record(*step)
    assert not tracker.pending


def test_the_number_of_environments_stays() -> None:
    """A step of another number of environments than before is refused, and the run goes on with the right one."""
    tracker = Tracker()
    tracker.episodes.record(np.ones(2), np.zeros(2), np.zeros(2))
    with pytest.raises(ShapeMismatch, match=r"rewards \(3,\).*expected 2 element"):
        tracker.episodes.record(np.ones(3), np.zeros(3), np.zeros(3))
    tracker.episodes.record(np.ones(2), np.ones(2), np.zeros(2))
    assert tracker.statistics()["Reward / Total reward (mean)"] == 2.0


@pytest.mark.parametrize("rewards", [["1"], [None], np.array([1j]), [print]], ids=repr)
def test_rewards_that_are_no_numbers_are_refused_at_once(rewards: Any) -> None:
    """The error comes from the call that gave them and names their dtype."""
    tracker = Tracker()
    with pytest.raises(InvalidValue, match="rewards of dtype"):
        tracker.episodes.record(rewards, [False], [False])
    assert not tracker.pending


@pytest.mark.parametrize("rewards", [[1.7e308, 1.7e308], [-1.7e308, -1.6e308], [1.0, 1.7e308]], ids=repr)
def test_means_are_finite_though_sums_are_not(rewards: list[float]) -> None:
    """Rewards and totals near the largest float have the mean that they have."""
    tracker = Tracker()
    for _ in range(3):
        tracker.episodes.record(rewards, [True, True], [False, False])
    statistics = tracker.statistics()
    for tag in ("Reward / Instantaneous reward (mean)", "Reward / Total reward (mean)"):
        assert statistics[tag] == pytest.approx(rewards[0] / 2 + rewards[1] / 2)
    tracker.episodes.record([1.0, 2.0], [True, True], [False, False])  # the next interval is none the worse
    assert tracker.statistics()["Reward / Instantaneous reward (mean)"] == 1.5


@given(drawn=masked(), form=st.sampled_from(list(FORMS)), mode=st.sampled_from(["next_step", "same_step", None]))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_rows_that_are_no_transitions_are_in_no_statistic(drawn: Any, form: str, mode: Any) -> None:
    """Neither those marked so, in any shape of the mask, nor those after an end where environments reset then."""
    run, masks = drawn
    tracker, reference = Tracker(), Reference(num_envs_of(run), mode == "next_step")
    tracker.episodes.set_autoreset(mode)
    mask = iter(masks)
    for interval in run:
        for step in interval:
            valid = next(mask)
            record(tracker, step, form, valid=valid)
            reference.record(*step, valid)
        assert tracker.statistics() == pytest.approx(reference.statistics(), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("extreme", [300.0, -300.0, math.inf, math.nan], ids=str)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_reward_of_a_row_that_is_no_transition_is_no_extreme(extreme: float, place: int) -> None:
    """Wherever it stands, and where it is not finite nobody is told of it."""
    tracker, rewards = Tracker(), np.array([1.0, 2.0, 3.0])
    rewards[place] = extreme
    for _ in range(3):
        tracker.episodes.record(rewards, np.zeros(3, bool), np.zeros(3, bool), np.arange(3) != place)
    others = np.delete(rewards, place)
    statistics, tag = tracker.statistics(), "Reward / Instantaneous reward"
    assert [statistics[f"{tag} ({which})"] for which in ("max", "min", "mean")] == [
        others.max(),
        others.min(),
        others.mean(),
    ]
    assert tracker.nonfinite == {}


@given(drawn=masked(), cut=st.integers(0, 80), mode=st.sampled_from(["next_step", None]))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_a_resume_among_rows_that_are_no_transitions_gives_the_same_bits(drawn: Any, cut: int, mode: Any) -> None:
    """Also right after an end, whose reset is then the first row to come."""
    run, masks = drawn
    whole, saved, resumed = Tracker(), Tracker(), Tracker()
    for tracker in (whole, saved, resumed):
        tracker.episodes.set_autoreset(mode)
    done = 0
    for interval in run:
        for step in interval:
            if done == cut:
                resumed.load_state_dict(codec.loads(codec.dumps(saved.state_dict())))
            for tracker in (whole, saved, *([resumed] if done >= cut else [])):
                record(tracker, step, valid=masks[done])
            done += 1
        expected = whole.statistics()
        assert saved.statistics() == expected
        if done > cut:
            assert resumed.statistics() == expected


@pytest.mark.parametrize("num_envs", [1, 3, 64, 4096])
def test_resets_are_left_out_across_chunks(num_envs: int) -> None:
    """Episodes of three steps and a reset each, over several chunks: a third of everything is as it should be."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    never, always = np.zeros(num_envs, bool), np.ones(num_envs, bool)
    for step in range(4 * CHUNK_STEPS):
        rewards = np.full(num_envs, 0.0 if step % 4 == 3 else 2.0, np.float32)
        tracker.episodes.record(rewards, always if step % 4 == 2 else never, never)
    statistics = tracker.statistics()
    assert {tag: value for tag, value in statistics.items() if "Episode" in tag} == {
        "Episode / Total timesteps (max)": 3.0,
        "Episode / Total timesteps (min)": 3.0,
        "Episode / Total timesteps (mean)": 3.0,
    }
    assert statistics["Reward / Instantaneous reward (min)"] == 2.0
    assert statistics["Reward / Total reward (mean)"] == 6.0
    assert tracker.episodes.ended_in_last_interval == CHUNK_STEPS * num_envs


def test_a_reset_is_left_out_of_the_next_interval_too() -> None:
    """The row behind the end of an episode only resets, also where the interval ended with the episode."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    tracker.episodes.record([2.0], [True], [False])
    assert tracker.statistics()["Episode / Total timesteps (mean)"] == 1.0
    tracker.episodes.record([0.0], [False], [False])
    tracker.episodes.record([2.0], [True], [False])
    statistics = tracker.statistics()
    assert statistics["Episode / Total timesteps (mean)"] == 1.0
    assert statistics["Reward / Instantaneous reward (min)"] == 2.0


def test_a_reset_is_left_out_of_a_resumed_run_too() -> None:
    """The row behind the end of an episode only resets, also where a checkpoint was taken in between."""
    tracker, resumed = Tracker(), Tracker()
    for each in (tracker, resumed):
        each.episodes.set_autoreset("next_step")
    tracker.episodes.record([2.0], [True], [False])
    tracker.statistics()
    resumed.load_state_dict(tracker.state_dict())
    resumed.episodes.record([0.0], [False], [False])
    resumed.episodes.record([2.0], [True], [False])
    assert resumed.statistics()["Episode / Total timesteps (mean)"] == 1.0


def test_an_end_among_resets_ends_nothing() -> None:
    """An environment that is done at its reset too has its next episode right behind it."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    for reward in (1.0, 0.0, 2.0, 0.0, 3.0):
        tracker.episodes.record(reward, True, False)
    statistics = tracker.statistics()
    assert tracker.episodes.ended_in_last_interval == 3
    assert statistics["Reward / Total reward (mean)"] == 2.0
    assert statistics["Reward / Instantaneous reward (min)"] == 1.0


def test_a_mask_of_another_size_is_refused() -> None:
    """The error names `valid`, and nothing of the step is recorded."""
    tracker = Tracker()
    with pytest.raises(ShapeMismatch, match=r"record_transition got valid \(3,\); expected 2 element"):
        tracker.episodes.record(np.ones(2), np.zeros(2), np.zeros(2), np.ones(3, bool))
    assert not tracker.pending
    tracker.episodes.record(np.ones(2), np.ones(2), np.zeros(2), np.array([True, False]))
    tracker.statistics()
    assert tracker.episodes.ended_in_last_interval == 1


def test_a_mask_may_be_reused_by_its_owner() -> None:
    """It is kept as it was when it was given."""
    tracker = Tracker()
    valid = np.array([True, False])
    tracker.episodes.record(np.array([1.0, 5.0]), np.ones(2), np.zeros(2), valid)
    valid[...] = True
    assert tracker.statistics()["Reward / Total reward (max)"] == 1.0


def test_an_interval_without_any_transition_tells_nothing() -> None:
    """Idle environments give no statistic, not one of zeros, whatever their rewards are."""
    tracker = Tracker()
    tracker.episodes.record([math.nan, 7.0], [True, True], [False, False], [False, False])
    assert tracker.statistics() == {}
    assert tracker.nonfinite == {}


@pytest.mark.parametrize("envs", [[0, 2], np.array([True, False, True]), np.array([[True], [False], [True]])], ids=repr)
def test_environments_that_were_reset_begin_anew(envs: Any) -> None:
    """Their running episodes are forgotten, those of the others go on."""
    tracker = Tracker()
    never = np.zeros(3, bool)
    for _ in range(4):
        tracker.episodes.record(np.ones(3), never, never)
    tracker.episodes.reset(envs)
    tracker.episodes.record(np.ones(3), ~never, never)
    statistics = tracker.statistics()
    assert (statistics["Episode / Total timesteps (min)"], statistics["Episode / Total timesteps (max)"]) == (1.0, 5.0)
    assert statistics["Episode / Total timesteps (mean)"] == pytest.approx(7 / 3)
    assert (statistics["Reward / Total reward (min)"], statistics["Reward / Total reward (max)"]) == (1.0, 5.0)


@pytest.mark.parametrize(("running_episodes", "length"), [(True, 5.0), (False, 1.0)])
def test_a_resume_goes_on_with_running_episodes_or_begins_them_anew(running_episodes: bool, length: float) -> None:
    """Where environments are reset before it, no episode has steps of both sides."""
    saved, resumed, never = Tracker(), Tracker(), np.zeros(2, bool)
    for _ in range(4):
        saved.episodes.record(np.ones(2), never, never)
    resumed.load_state_dict(saved.state_dict(), running_episodes=running_episodes)
    resumed.episodes.record(np.ones(2), ~never, never)
    statistics = resumed.statistics()
    assert statistics["Episode / Total timesteps (max)"] == length
    assert statistics["Reward / Total reward (max)"] == length


def test_a_reset_by_hand_takes_no_step() -> None:
    """After it the next row is a transition, also where the environment would have reset itself with it."""
    tracker = Tracker()
    tracker.episodes.set_autoreset("next_step")
    tracker.episodes.record(1.0, True, False)
    tracker.episodes.reset()
    tracker.episodes.record(2.0, True, False)
    tracker.statistics()
    assert tracker.episodes.ended_in_last_interval == 2


@pytest.mark.parametrize("envs", [[3], [-1], np.ones(2, bool), "all", [0.5], {1}], ids=repr)
def test_environments_that_there_are_not_are_refused(envs: Any) -> None:
    """The error says what is allowed, and no episode is forgotten."""
    tracker = Tracker()
    tracker.episodes.record(np.ones(3), np.zeros(3), np.zeros(3))
    with pytest.raises(InvalidValue, match=r"`envs` is .*allowed: a mask of shape \(3,\), numbers from 0 to 2"):
        tracker.episodes.reset(envs)
    tracker.episodes.record(np.ones(3), np.ones(3), np.zeros(3))
    assert tracker.statistics()["Episode / Total timesteps (min)"] == 2.0
