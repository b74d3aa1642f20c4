"""Steps of environments that give JAX arrays."""

from __future__ import annotations

import pytest

jax = pytest.importorskip("jax")

import numpy as np  # noqa: E402

from keepfast import InvalidValue, UsageError  # noqa: E402
from keepfast.tracking.tracker import Tracker  # noqa: E402
from keepfast_jax.step_buffer import GROUP, ArraySteps, step_buffer  # noqa: E402


@pytest.mark.parametrize("count", [1, GROUP - 1, GROUP, 2 * GROUP + 3])
def test_all_steps_come_back_in_order(count: int) -> None:
    """Whether they fill a group that is joined on the device or not; episodes end where either says so."""
    rewards = jax.numpy.arange(count * 2, dtype="float32").reshape(count, 2, 1)
    ended, cut = (jax.numpy.arange(count * 2).reshape(count, 2, 1) % number == 0 for number in (3, 5))
    buffer = ArraySteps()
    for step in range(count):
        buffer.add(rewards[step], ended[step], cut[step])
    kept, done = buffer.take()
    np.testing.assert_array_equal(kept, np.asarray(rewards).reshape(count, 2))
    np.testing.assert_array_equal(done, np.asarray(ended | cut).reshape(count, 2))


@pytest.mark.parametrize("count", [3, GROUP])
def test_a_step_that_was_deleted_is_an_error_that_says_so(count: int) -> None:
    """An array that is donated before the statistics are taken has no value any more."""
    tracker = Tracker()
    never = jax.numpy.zeros(2, bool)
    for step in range(count):
        rewards = jax.numpy.full(2, step, dtype="float32")
        tracker.episodes.record(rewards, never, never)
    rewards.delete()
    with pytest.raises(UsageError, match="donated"):
        tracker.statistics()


def test_a_value_that_is_being_traced_is_refused_at_once() -> None:
    """The error comes from within the traced function, names the tag and what to do, and spoils nothing tracked."""
    tracker = Tracker()
    tracker.track("Loss / x", 1.0)
    with pytest.raises(
        InvalidValue, match=r"the value of `Loss / x`.*use keepfast_jax\.scan.*return it from the traced function"
    ):
        jax.jit(lambda value: tracker.track("Loss / x", value))(jax.numpy.ones(()))
    with pytest.raises(InvalidValue, match="`Loss / y`"):
        jax.grad(lambda value: (tracker.track("Loss / y", value), value)[1])(1.0)
    assert tracker.statistics() == {"Loss / x": 1.0}


@pytest.mark.parametrize("traced", [0, 1])
def test_a_step_that_is_being_traced_is_refused_at_once(traced: int) -> None:
    """Whichever part of it, in whatever company; the steps of the environments are taken as before."""
    tracker = Tracker()
    step = [np.ones(2), np.ones(2, bool), np.zeros(2, bool)]

    @jax.jit
    def function(part: jax.Array) -> None:
        tracker.episodes.record(*[part if position == traced else own for position, own in enumerate(step)])

    with pytest.raises(InvalidValue, match=r"record_transition: it is being traced.*return it from the traced"):
        function(jax.numpy.ones(3))
    tracker.episodes.record(*step)
    assert tracker.statistics()["Reward / Total reward (mean)"] == 1.0


def test_an_array_that_was_deleted_is_told_by_its_tag_and_costs_no_other() -> None:
    """The error names the tag; other values of the interval, and of the tag, are written with the next."""
    tracker = Tracker()
    donated = jax.numpy.full((), 7.0)
    tracker.track("a", jax.numpy.full((), 1.0))
    tracker.track("b", donated)
    tracker.track("b", jax.numpy.full((), 2.0))
    donated.delete()
    with pytest.raises(UsageError, match="`b`: a tracked array was deleted, or donated"):
        tracker.statistics()
    assert tracker.statistics() == {"a": 1.0, "b": 2.0}


def test_steps_go_on_after_one_that_was_deleted() -> None:
    """The error says where it comes from, and the steps that follow are counted."""
    tracker = Tracker()
    never, rewards = jax.numpy.zeros(2, bool), jax.numpy.ones(2)
    tracker.episodes.record(rewards, never, never)
    rewards.delete()
    with pytest.raises(UsageError, match="record_transition: a tracked array was deleted"):
        tracker.statistics()
    tracker.episodes.record(jax.numpy.ones(2), ~never, never)
    assert tracker.statistics()["Reward / Total reward (mean)"] == 1.0


def test_steps_on_the_host_are_taken_in_small_chunks() -> None:
    """Only another device than the CPU keeps more of them than the tracker asks for."""
    never = jax.numpy.zeros(2, bool)
    buffer = step_buffer((jax.numpy.ones(2), never, never), 16)
    assert buffer is not None
    assert buffer.capacity == 16
    assert step_buffer((np.ones(2), never, never), 16) is None
