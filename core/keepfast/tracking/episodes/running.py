"""Adds up the steps of environments to episodes, and both to an interval's statistics.

All of it is NumPy arrays on the host. Sums run in float64 and strictly in the order of the steps, so they do not depend
on where a chunk of steps ended.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.tracking.interval import EpisodeAggregate
from keepfast.tracking.statistic import SMALL, Statistic, mean

_LAST_EPISODES = 100
"""How many of an interval's episodes, the latest, enter its statistics."""

_FEW = 128
"""How many rewards are faster added up one by one than as arrays."""

_PAIRED = 8
"""From how many numbers on NumPy adds them up in pairs, and not one after the other."""

_INSTANTANEOUS = "Reward / Instantaneous reward"
_TOTAL = "Reward / Total reward"
_LENGTH = "Episode / Total timesteps"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool]
Places = NDArray[np.intp]

Accumulate = Callable[[Floats, int], Floats]
"""Replaces rows, from where it came to last until a number, by the running totals up to each; returns the last ones."""


@final
class RunningEpisodes:
    """Adds up the rewards of one agent in every environment, and finishes each episode once, at the step that ends it.

    Args:
        agent: the agent's name, which its tags carry; None where there is but one, and for the total of several.

    Attributes:
        ended: how many episodes ended in the interval.
    """

    def __init__(self, agent: str | None = None) -> None:
        suffix = "" if agent is None else f" ({agent})"
        self._instantaneous, self._total, self._length = (tag + suffix for tag in (_INSTANTANEOUS, _TOTAL, _LENGTH))
        self._exact: Floats = np.empty((1, 1))
        self._returns: Floats = np.zeros(0)
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._nonfinite: dict[str, int] = {}
        self._start_interval()

    def _start_interval(self) -> None:
        self.ended = 0
        self._finished: deque[tuple[float, int]] = deque(maxlen=_LAST_EPISODES)
        self._sum, self._scale = 0.0, 1.0
        self._count = 0
        self._maximum, self._minimum = -np.inf, np.inf

    @property
    def num_envs(self) -> int:
        """Return how many environments there are."""
        return len(self._returns)

    def start(self, num_envs: int) -> None:
        """Begin a first episode in each of so many environments, and forget those that were running."""
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)

    def drop(self, envs: Any = slice(None)) -> int:
        """Forget the running episodes of some environments, and return how many had begun."""
        begun = int(np.count_nonzero(self._lengths[envs]))
        self._returns[envs], self._lengths[envs] = 0.0, 0
        return begun

    def work_off(self, rewards: NDArray[Any], done: Flags, valid: Flags | None = None) -> None:
        """Add the steps of a chunk, each array of shape (steps, num_envs).

        Args:
            rewards: the rewards.
            done: whether an episode ended; only where the step is valid.
            valid: whether the step is one of an episode; all are if None.
        """
        is_small = rewards.size <= _FEW and rewards.shape[1] < _PAIRED and rewards.dtype.kind in "biuf"
        if valid is None and is_small and self._add_few(rewards, done):
            return
        exact = self._room(rewards)
        exact[...] = rewards
        left_out = None if valid is None or valid.all() else np.flatnonzero(~valid)
        if valid is not None and left_out is not None:
            if left_out.size == exact.size:
                return
            rewards = exact
            exact.reshape(-1)[left_out] = exact.flat[int(valid.argmax())]  # another's, so that no extreme is theirs
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted, and told by the tracker
            self._add_rewards(rewards, exact, left_out)
            self._add_episodes(exact, done, left_out)

    def _add_few(self, rewards: NDArray[Any], done: Flags) -> bool:
        """Add a few steps of few environments, to the very numbers that whole arrays give, in a fraction of the time.

        Returns:
            Whether that was done. It is not where something is not finite, or a sum is too large for its unit.
        """
        rows = rewards.tolist()
        total, returns, lengths = self._sum, self._returns.tolist(), self._lengths.tolist()
        finished = list[tuple[float, int]]()
        for row, over in zip(rows, done.tolist(), strict=True):
            step = 0.0
            for env, reward in enumerate(row):
                step += reward
                returns[env] += reward
                lengths[env] += 1
                if over[env]:
                    finished.append((returns[env], lengths[env]))
                    returns[env], lengths[env] = 0.0, 0
            total += step
        if self._scale != 1.0 or not all(map(math.isfinite, (total, *returns, *(each for each, _ in finished)))):
            return False
        self._extend(max(float(max(row)) for row in rows), min(float(min(row)) for row in rows))
        self._sum, self._count = float(total), self._count + rewards.size
        self._returns[:], self._lengths[:] = returns, lengths
        self.ended += len(finished)
        self._finished.extend(finished)
        return True

    def _extend(self, maximum: float, minimum: float) -> None:
        """Take the most and the least of a chunk; of zeros with both signs NumPy gives the one or the other."""
        self._maximum, self._minimum = max(self._maximum, maximum) + 0.0, min(self._minimum, minimum) + 0.0

    def _room(self, rewards: NDArray[Any]) -> Floats:
        """Return an array for a chunk in double precision, the same one each time where it is large enough."""
        if len(self._exact) < len(rewards) or self._exact.shape[1:] != rewards.shape[1:]:
            self._exact = np.empty(rewards.shape)
        return self._exact[: len(rewards)]

    def _add_rewards(self, rewards: NDArray[Any], exact: Floats, left_out: Places | None) -> None:
        maximum, minimum, bad = float(rewards.max()), float(rewards.min()), 0
        count = exact.size
        if left_out is not None:
            exact.reshape(-1)[left_out] = 0.0  # which no sum is changed by
            count -= left_out.size
        if not (math.isfinite(maximum) and math.isfinite(minimum)):  # a NaN is the maximum of whatever it is among
            finite = np.isfinite(exact)
            bad = exact.size - int(np.count_nonzero(finite))
            self._count_nonfinite(self._instantaneous, bad)
            exact = np.where(finite, exact, 0)
            if left_out is not None:
                finite.reshape(-1)[left_out] = False
            maximum = float(exact.max(initial=-np.inf, where=finite))
            minimum = float(exact.min(initial=np.inf, where=finite))
        self._extend(maximum, minimum)
        self._count += count - bad
        self._sum = self._sum_with(exact)

    def _sum_with(self, exact: Floats) -> float:
        """Return the sum of all rewards so far and these, in a larger unit once it is too large for a float."""
        # The sum of a step is the same in any chunk, and the steps are added one after the other.
        total = self._sum
        for step in (exact if self._scale == 1.0 else exact * self._scale).sum(axis=1).tolist():
            total += step
        if math.isfinite(total):
            return total
        self._sum, self._scale = self._sum * SMALL, SMALL
        return self._sum_with(exact)

    def _add_episodes(self, rewards: Floats, done: Flags, left_out: Places | None) -> None:
        """Finish the episodes that ended; `rewards` becomes the running totals of each step."""
        steps, envs = np.divmod(np.flatnonzero(done), rewards.shape[1])
        totals, accumulate = self._returns, _by_row(rewards) if rewards.shape[1] > 8 else _by_block(rewards)
        for step, first, last in _runs(steps):
            totals = accumulate(totals, step + 1).copy()
            totals[envs[first:last]] = 0.0
        self._returns = accumulate(totals, len(rewards)).copy()
        if left_out is None:
            lengths = self._ended_lengths(envs, steps + 1, len(rewards))
        else:
            lengths = self._ended_lengths(envs, *_counted(rewards.shape, left_out, steps, envs))
        self._finish(rewards[steps, envs], lengths)

    def _ended_lengths(self, envs: Places, ends: Places, counts: Places | int) -> NDArray[np.int64]:
        """Return the length of each episode that ended, and let those still running go on.

        Args:
            envs: the environment of each.
            ends: how many steps of its environment had been counted with the one that ended it, ascending.
            counts: how many steps of each environment count.
        """
        by_env = np.argsort(envs, kind="stable")
        env, end = envs[by_env], ends[by_env]
        begin = -self._lengths[env]
        again = np.flatnonzero(env[1:] == env[:-1]) + 1  # not the environment's first to end in this chunk
        begin[again] = end[again - 1]
        lengths = np.empty_like(begin)
        lengths[by_env] = end - begin
        self._lengths += counts
        # Of several ends of an environment the last one counts.
        self._lengths[env] = (counts if isinstance(counts, int) else counts[env]) - end
        return lengths

    def _finish(self, returns: Floats, lengths: NDArray[np.int64]) -> None:
        self.ended += returns.size
        last = slice(-_LAST_EPISODES, None)
        self._finished.extend(zip(returns[last].tolist(), lengths[last].tolist(), strict=True))

    def merge(self, episodes: EpisodeAggregate) -> None:
        """Add the steps of environments, and the episodes that ended with them, that were added up elsewhere."""
        rewards = Statistic(self._count, self._sum, float(self._maximum), float(self._minimum), scale=self._scale)
        rewards.merge(episodes.rewards)
        self._count, self._sum, self._scale = rewards.count, rewards.total, rewards.scale
        self._maximum, self._minimum = rewards.maximum, rewards.minimum
        self._count_nonfinite(self._instantaneous, rewards.nonfinite)
        self.ended += episodes.ended
        self._finished.extend(zip(map(float, episodes.returns), map(int, episodes.lengths), strict=True))

    def join(self, share: Mapping[str, Any]) -> None:
        """Add what `share` returned of another's interval; all the episodes that it tells of count."""
        rewards = Statistic(self._count, self._sum, float(self._maximum), float(self._minimum), scale=self._scale)
        numbers = [share[name] for name in ("count", "sum", "maximum", "minimum")]
        rewards.join(Statistic.of([*numbers, 0, share["scale"]]))
        self._count, self._sum, self._scale = rewards.count, rewards.total, rewards.scale
        self._maximum, self._minimum = rewards.maximum, rewards.minimum
        for tag, count in share["nonfinite"].items():
            self._count_nonfinite(tag, count)
        self.ended += share["ended"]
        self._finished = deque([*self._finished, *((total, length) for total, length in share["finished"])])

    def share(self) -> dict[str, Any]:
        """Return the interval in plain numbers, for the `join` of another, and start the next one."""
        state = self.state_dict()
        self._nonfinite = {}
        self._start_interval()
        return {name: value for name, value in state.items() if name not in ("returns", "lengths")}

    def _count_nonfinite(self, tag: str, count: int) -> None:
        if count:
            self._nonfinite[tag] = self._nonfinite.get(tag, 0) + count

    def statistics(self) -> dict[str, float]:
        """Return the interval's statistics, nothing for what has no data, and start the next interval."""
        found: dict[str, float] = {}
        if self._count:
            average = mean(self._sum, self._scale, self._count, self._minimum, self._maximum)
            found.update(_tagged(self._instantaneous, self._maximum, self._minimum, average))
        if self._finished and len(self._finished) < _PAIRED:
            found.update(self._of_few())
        elif self._finished:
            returns = np.array([total for total, _ in self._finished])
            finite = returns[np.isfinite(returns)]
            self._count_nonfinite(self._total, returns.size - finite.size)
            if finite.size:
                found.update(_summary(self._total, finite))
            found.update(_summary(self._length, np.array([length for _, length in self._finished], np.float64)))
        self._start_interval()
        return found

    def _of_few(self) -> dict[str, float]:
        """Return the statistics of a few episodes, which are the very numbers that arrays of them would give."""
        finite = [total for total, _ in self._finished if math.isfinite(total)]
        self._count_nonfinite(self._total, len(self._finished) - len(finite))
        lengths = [float(length) for _, length in self._finished]
        found = {}
        for tag, values in ((self._total, finite), (self._length, lengths)):
            total = 0.0
            for value in values:
                total += value
            if values:
                maximum, minimum = max(values), min(values)
                average = mean(total, 1.0, len(values), minimum, maximum)
                is_exact = math.isfinite(average)
                found.update(_tagged(tag, maximum, minimum, average) if is_exact else _summary(tag, np.array(values)))
        return found

    def take_nonfinite(self) -> dict[str, int]:
        """Return how many values of each tag were not finite since this was last asked."""
        counts, self._nonfinite = self._nonfinite, {}
        return counts

    @property
    def pending(self) -> bool:
        """Say whether the interval has anything to tell."""
        return bool(self._count or self._finished)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the interval holds so far, and the running episodes, as a tree."""
        return {
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "finished": [list(episode) for episode in self._finished],
            "ended": self.ended,
            "sum": self._sum,
            "scale": self._scale,
            "count": self._count,
            "maximum": float(self._maximum),
            "minimum": float(self._minimum),
            "nonfinite": dict(self._nonfinite),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, in the place of whatever was added."""
        self._returns, self._lengths = np.array(state["returns"], float), np.array(state["lengths"], np.int64)
        self._finished = deque(((float(total), int(length)) for total, length in state["finished"]), _LAST_EPISODES)
        self.ended, self._count = int(state["ended"]), int(state["count"])
        self._sum, self._scale = float(state["sum"]), float(state.get("scale", 1.0))
        self._maximum, self._minimum = float(state["maximum"]), float(state["minimum"])
        self._nonfinite = {str(tag): int(count) for tag, count in state["nonfinite"].items()}


def _counted(shape: tuple[int, ...], left_out: Places, steps: Places, envs: Places) -> tuple[Places, Places]:
    """Return how many rows of its environment count until each end, and how many of each environment in all.

    Args:
        shape: (steps, num_envs).
        left_out: the rows that do not count, as places in the flattened array; none of them is an end.
        steps: the step of each end.
        envs: the environment of each end.
    """
    rows, columns = np.divmod(left_out, shape[1])
    by_env = np.sort(columns * shape[0] + rows)
    before = np.searchsorted(by_env, envs * shape[0] + steps) - np.searchsorted(by_env, envs * shape[0])
    return steps + 1 - before, shape[0] - np.bincount(columns, minlength=shape[1])


def _runs(numbers: Places) -> Iterator[tuple[int, int, int]]:
    """Yield each of some ascending numbers with the range of places where it stands."""
    if numbers.size:
        borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), numbers.size]
        yield from zip(numbers[borders[:-1]].tolist(), borders[:-1], borders[1:], strict=True)


def _by_row(rows: Floats) -> Accumulate:
    """Accumulate many environments: a row at a time."""
    left, done = iter(rows), 0

    def accumulate(totals: Floats, until: int) -> Floats:
        nonlocal done
        for row in islice(left, until - done):
            row += totals
            totals = row
        done = until
        return totals

    return accumulate


def _by_block(rows: Floats) -> Accumulate:
    """Accumulate few environments: all rows at once, to the very same totals."""
    done = 0

    def accumulate(totals: Floats, until: int) -> Floats:
        nonlocal done
        block, done = rows[done:until], until
        if not len(block):
            return totals
        block[0] += totals
        np.add.accumulate(block, axis=0, out=block)
        last: Floats = block[-1]
        return last

    return accumulate


def _summary(tag: str, values: Floats) -> dict[str, float]:
    with np.errstate(over="ignore"):
        average = float(values.mean())
    if not math.isfinite(average):
        average = mean(float((values * SMALL).sum()), SMALL, values.size, float(values.min()), float(values.max()))
    return _tagged(tag, float(values.max()), float(values.min()), average)


def _tagged(tag: str, maximum: float, minimum: float, mean: float) -> dict[str, float]:
    return {f"{tag} (max)": float(maximum), f"{tag} (min)": float(minimum), f"{tag} (mean)": float(mean)}
