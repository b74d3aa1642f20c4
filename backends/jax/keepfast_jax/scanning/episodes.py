"""Adds up the steps of environments to episodes on the device.

Each step leaves a row: its rewards, and the total and the length that each episode has with it. The rows are folded
into an interval's statistics together, with the latest episodes that ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from keepfast import EpisodeAggregate
from keepfast_jax.scanning.sums import Sums, add_exactly, add_rows, aggregates, no_sums
from keepfast_jax.scanning.tracked import Transitions

LATEST = 100
"""How many of an interval's episodes, the latest, enter its statistics."""


@final
class Running(NamedTuple):
    """The episodes that are under way, one of each environment; every entry is of shape (num_envs,).

    Attributes:
        returns: the rewards so far.
        rest: what rounding took off them.
        lengths: the steps so far.
        ended: whether the step before ended an episode, so that this one may be a reset.
    """

    returns: jax.Array
    rest: jax.Array
    lengths: jax.Array
    ended: jax.Array


@final
class Rows(NamedTuple):
    """The steps that are not folded yet; every entry is of shape (rows, num_envs).

    Attributes:
        rewards: the rewards.
        totals: the total of each episode with the step.
        lengths: its length.
        done: whether it ended with the step.
        valid: whether the step counts; of shape (rows, 0) where all do.
    """

    rewards: jax.Array
    totals: jax.Array
    lengths: jax.Array
    done: jax.Array
    valid: jax.Array


@final
class Finished(NamedTuple):
    """An interval so far.

    Attributes:
        rewards: the rewards of all steps and environments, as one column.
        returns: the totals of the latest episodes that ended, the latest last, of shape (LATEST,).
        lengths: their lengths.
        ended: how many episodes ended.
    """

    rewards: Sums
    returns: jax.Array
    lengths: jax.Array
    ended: jax.Array


def no_running(num_envs: int, dtype: Any) -> Running:
    """Return the state of environments that were just reset."""
    zeros = jnp.zeros(num_envs, dtype)
    return Running(zeros, zeros, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, bool))


def no_rows(rows: int, num_envs: int, dtype: Any, *, masked: bool) -> Rows:
    """Return room for so many steps."""
    shape = rows, num_envs
    valid = jnp.zeros((rows, num_envs if masked else 0), bool)
    numbers = jnp.zeros(shape, dtype)
    return Rows(numbers, numbers, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool), valid)


def none_finished(dtype: Any) -> Finished:
    """Return an interval in which nothing happened yet."""
    returns, lengths = jnp.zeros(LATEST, dtype), jnp.zeros(LATEST, jnp.int32)
    return Finished(no_sums(1, dtype), returns, lengths, jnp.zeros((), jnp.uint32))


def add_step(running: Running, rows: Rows, row: jax.Array, step: Transitions, *, resets: bool) -> tuple[Running, Rows]:
    """Add a step of every environment.

    Args:
        running: the episodes under way.
        rows: where the step leaves its row.
        row: which one.
        step: the step, each part of shape (num_envs,).
        resets: whether environments reset in the step after an episode's end, which is no transition then.
    """
    done, valid = step.terminated | step.truncated, step.valid
    if resets:
        valid = ~running.ended if valid is None else valid & ~running.ended
    rewards = step.rewards if valid is None else jnp.where(valid, step.rewards, 0)
    done = done if valid is None else done & valid
    returns, rest = add_exactly(running.returns, running.rest, rewards)
    lengths = running.lengths + (1 if valid is None else valid.astype(jnp.int32))
    written = {"rewards": rewards, "totals": returns + rest, "lengths": lengths, "done": done}
    if valid is not None:
        written["valid"] = valid
    put = {name: getattr(rows, name).at[row].set(value) for name, value in written.items()}
    going = Running(jnp.where(done, 0, returns), jnp.where(done, 0, rest), jnp.where(done, 0, lengths), done)
    return going, rows._replace(**put)


def fold(finished: Finished, rows: Rows, count: jax.Array) -> Finished:
    """Add the first rows to the interval, in their order.

    Args:
        finished: the interval so far.
        rows: the steps.
        count: how many of the rows there are.
    """
    there = jnp.arange(len(rows.rewards))[:, None] < count
    counted = jnp.broadcast_to(there if rows.valid.shape[1] == 0 else there & rows.valid, rows.rewards.shape)
    rewards = add_rows(finished.rewards, rows.rewards.reshape(-1, 1), counted.reshape(-1, 1))
    order = jnp.cumsum((rows.done & there).reshape(-1).astype(jnp.int32))
    new = order[-1]
    behind = LATEST - 1 - jnp.arange(LATEST)  # how many episodes ended after each of the latest
    places = jnp.minimum(jnp.searchsorted(order, new - behind), order.size - 1)
    older = jnp.minimum(jnp.arange(LATEST) + new, LATEST - 1)
    returns, lengths = (
        jnp.where(behind < new, found.reshape(-1)[places], before[older])
        for found, before in ((rows.totals, finished.returns), (rows.lengths, finished.lengths))
    )
    return Finished(rewards, returns, lengths, finished.ended + new.astype(jnp.uint32))


def episode_aggregate(finished: Finished) -> EpisodeAggregate:
    """Return the interval on the host."""
    ended = int(finished.ended)
    latest = LATEST - min(ended, LATEST)
    returns, lengths = np.asarray(finished.returns), np.asarray(finished.lengths)
    return EpisodeAggregate(
        aggregates(finished.rewards)[0], returns[latest:].tolist(), lengths[latest:].tolist(), ended
    )
