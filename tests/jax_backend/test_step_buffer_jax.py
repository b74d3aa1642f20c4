"""Steps of environments that give JAX arrays."""

from __future__ import annotations

import pytest

jax = pytest.importorskip("jax")

import numpy as np  # noqa: E402

from holdfast import UsageError  # noqa: E402
from holdfast.tracking import Tracker  # noqa: E402
from holdfast_jax.step_buffer import GROUP, ArraySteps  # noqa: E402


@pytest.mark.parametrize("count", [1, GROUP - 1, GROUP, 2 * GROUP + 3])
def test_all_steps_come_back_in_order(count: int) -> None:
    """Whether they fill a group that is joined on the device or not."""
    rewards = jax.numpy.arange(count * 2, dtype="float32").reshape(count, 2, 1)
    ended = jax.numpy.arange(count * 2).reshape(count, 2, 1) % 3 == 0
    buffer = ArraySteps()
    for step in range(count):
        buffer.add(rewards[step], ended[step], jax.numpy.zeros((2, 1), bool))
    kept, done = buffer.take()
    np.testing.assert_array_equal(kept, np.asarray(rewards).reshape(count, 2))
    np.testing.assert_array_equal(done, np.asarray(ended).reshape(count, 2))


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
