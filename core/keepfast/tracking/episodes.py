"""Turns rewards and dones into finished episodes.

Steps are kept as they come, without waiting for a device, and worked off a chunk at a time: one transfer, then sums
over whole arrays. Sums run in float64 and strictly in the order of the steps, so they do not depend on where a chunk
ended.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import is_real
from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue, ShapeMismatch, UsageError
from keepfast.interfaces.step_buffer import HostSteps, SingleSteps, Step, StepBuffer
from keepfast.plugins.backends import recognize
from keepfast.tracking.held import HeldSteps, Holder
from keepfast.tracking.statistic import SMALL, mean
from keepfast.tree import dtype_name, is_array

CHUNK_STEPS = 256
"""How many steps on the host are held at most before they are worked off, and of any steps how many at once."""

_CHUNK_ELEMENTS = 65_536
"""How many rewards those steps hold at most, so that they stay in the processor's cache."""

_LAST_EPISODES = 100
"""How many of an interval's episodes, the latest, enter its statistics."""

_INSTANTANEOUS = "Reward / Instantaneous reward"
_TOTAL = "Reward / Total reward"
_LENGTH = "Episode / Total timesteps"

_Floats = NDArray[np.float64]


@final
class EpisodeTracker:
    """Counts each episode of each environment once, at the step where it was terminated or truncated."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._layout: tuple[Any, ...] | None = None
        self._buffer: StepBuffer = HeldSteps(holder)
        self._buffered = 0
        self._num_envs: int | None = None
        self._resumed = False
        self._chunk = self._capacity = 1
        self._exact: _Floats = np.empty((1, 1))
        self._returns: _Floats = np.zeros(0)
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._nonfinite: dict[str, int] = {}
        self._start_interval()

    def _start_interval(self) -> None:
        self.ended = 0
        self._finished: deque[tuple[float, int]] = deque(maxlen=_LAST_EPISODES)
        self._sum, self._scale = 0.0, 1.0
        self._count = 0
        self._maximum, self._minimum = -np.inf, np.inf

    def record(self, rewards: Any, terminated: Any, truncated: Any) -> None:
        """Record one step of every environment.

        Args:
            rewards: of shape (num_envs,) or (num_envs, 1), any real dtype, on any device; a number for one environment.
            terminated: of the same number of elements; whether each environment's episode ended.
            truncated: of the same number of elements; whether each environment's episode was cut short.

        Raises:
            ShapeMismatch: if the numbers of elements differ among them or from those before, or are zero.
            InvalidValue: if the rewards are no numbers, or have no values yet because they are being traced.
        """
        if _layout(rewards, terminated, truncated) != self._layout:
            rewards, terminated, truncated = self._prepare(rewards, terminated, truncated)
        self._buffer.add(rewards, terminated, truncated)
        self._buffered += 1
        if self._buffered >= self._capacity:
            self._fold()

    def _prepare(self, *given: Any) -> Step:
        """Check a step that may be unlike those before, make sure that the buffer fits it, and return it as arrays."""
        rewards, terminated, truncated = (part if _is_plain(part) else np.asarray(part) for part in given)
        layout = _layout(rewards, terminated, truncated)
        if layout != self._layout:
            self._check_values(rewards, terminated, truncated)
            self._check(rewards, terminated, truncated)
            self._fold()
            self._buffer = self._buffer_for((rewards, terminated, truncated))
            self._capacity = self._buffer.capacity or self._chunk
            self._layout = layout
        return rewards, terminated, truncated

    def _buffer_for(self, step: Step) -> StepBuffer:
        if all(isinstance(part, np.ndarray | np.generic | bool | int | float) for part in step):
            return SingleSteps(step) if self._num_envs == 1 else HostSteps(step, self._chunk)
        backend = recognize(step[0])
        made = None if backend is None else backend.step_buffer(step, self._chunk)
        return HeldSteps(self._holder) if made is None else made

    def _check_values(self, *step: Any) -> None:
        """Have the backends refuse what they could not keep, before anything of the step is taken."""
        try:
            for part in step:
                self._holder.hold(part)
        except InvalidValue as error:
            raise InvalidValue(f"record_transition: {error}") from None

    def _check(self, *step: Any) -> None:
        sizes = [int(np.prod(tuple(part.shape))) if hasattr(part, "shape") else int(np.size(part)) for part in step]
        if self._resumed and sizes[0] != self._num_envs:
            self._start_other_envs()
        self._resumed = False
        expected = sizes[0] if self._num_envs is None else self._num_envs
        if any(size != expected for size in sizes):
            given = ", ".join(
                f"{name} {tuple(getattr(part, 'shape', np.shape(part)))}"
                for name, part in zip(("rewards", "terminated", "truncated"), step, strict=True)
            )
            raise ShapeMismatch(
                f"record_transition got {given}; expected {expected} element(s) in each, one for each environment, "
                f"of shape ({expected},) or ({expected}, 1)"
            )
        if expected == 0:
            raise ShapeMismatch("record_transition got no environment; expected at least 1 element in each part")
        if not is_real(kind := step[0] if is_array(step[0]) else np.asarray(step[0])):
            raise InvalidValue(f"record_transition got rewards of dtype {dtype_name(kind)}; allowed: real numbers")
        if self._num_envs is None:
            self._set_num_envs(expected)
            self._returns, self._lengths = np.zeros(expected), np.zeros(expected, np.int64)

    def _start_other_envs(self) -> None:
        """Forget the running episodes of a resumed run, which goes on in another number of environments."""
        running = int(np.count_nonzero(self._lengths))
        warn(f"the run goes on in another number of environments; {running} running episode(s) are not counted")
        self._num_envs = None

    def _set_num_envs(self, num_envs: int | None) -> None:
        self._num_envs = num_envs
        self._chunk = max(1, min(CHUNK_STEPS, _CHUNK_ELEMENTS // max(num_envs or 1, 1)))
        self._exact = np.empty((self._chunk, num_envs or 1))

    def _fold(self) -> None:
        if not self._buffered:
            return
        self._buffered = 0
        try:
            rewards, done = self._buffer.take()
        except UsageError as error:
            raise UsageError(f"record_transition: {error}") from None
        for start in range(0, len(rewards), self._chunk):
            chunk = slice(start, start + self._chunk)
            self._work_off(rewards[chunk], done[chunk])

    def _work_off(self, rewards: NDArray[Any], done: NDArray[np.bool]) -> None:
        exact = self._exact[: len(rewards)]
        exact[...] = rewards
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted, and told by the tracker
            self._add_rewards(rewards, exact)
            self._add_episodes(exact, done)

    def _add_rewards(self, rewards: NDArray[Any], exact: _Floats) -> None:
        maximum, minimum, bad = float(rewards.max()), float(rewards.min()), 0
        if not (math.isfinite(maximum) and math.isfinite(minimum)):  # a NaN is the maximum of whatever it is among
            finite = np.isfinite(exact)
            bad = exact.size - int(np.count_nonzero(finite))
            self._count_nonfinite(_INSTANTANEOUS, bad)
            maximum = float(exact.max(initial=-np.inf, where=finite))
            minimum = float(exact.min(initial=np.inf, where=finite))
            exact = np.where(finite, exact, 0)
        self._maximum, self._minimum = max(self._maximum, maximum), min(self._minimum, minimum)
        self._count += exact.size - bad
        self._sum = self._sum_with(exact)

    def _sum_with(self, exact: _Floats) -> float:
        """Return the sum of all rewards so far and these, in a larger unit once it is too large for a float."""
        # The sum of a step is the same in any chunk, and the steps are added one after the other.
        total = self._sum
        for step in (exact if self._scale == 1.0 else exact * self._scale).sum(axis=1).tolist():
            total += step
        if math.isfinite(total):
            return total
        self._sum, self._scale = self._sum * SMALL, SMALL
        return self._sum_with(exact)

    def _add_episodes(self, rewards: _Floats, done: NDArray[np.bool]) -> None:
        """Finish the episodes that ended; `rewards` becomes the running totals of each step."""
        steps, envs = np.divmod(np.flatnonzero(done), rewards.shape[1])
        totals, start = self._returns, 0
        for step, first, last in _runs(steps):
            _accumulate(rewards[start : step + 1], totals)
            totals, start = rewards[step].copy(), step + 1
            totals[envs[first:last]] = 0.0
        if start < len(rewards):
            _accumulate(rewards[start:], totals)
            totals = rewards[-1].copy()
        self._returns = totals
        self._finish(rewards[steps, envs], self._ended_lengths(len(rewards), steps, envs))

    def _ended_lengths(self, count: int, steps: NDArray[np.intp], envs: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the length of each episode that ended, and let those still running go on for `count` steps.

        Args:
            count: how many steps.
            steps: the step at which each episode ended, ascending.
            envs: the environment of each.
        """
        by_env = np.argsort(envs, kind="stable")
        env, end = envs[by_env], steps[by_env] + 1
        begin = -self._lengths[env]
        again = np.flatnonzero(env[1:] == env[:-1]) + 1  # not the environment's first to end in this chunk
        begin[again] = end[again - 1]
        lengths = np.empty_like(begin)
        lengths[by_env] = end - begin
        self._lengths += count
        self._lengths[env] = count - end  # of several ends of an environment the last one counts
        return lengths

    def _finish(self, returns: _Floats, lengths: NDArray[np.int64]) -> None:
        self.ended += returns.size
        last = slice(-_LAST_EPISODES, None)
        self._finished.extend(zip(returns[last].tolist(), lengths[last].tolist(), strict=True))

    def _count_nonfinite(self, tag: str, count: int) -> None:
        self._nonfinite[tag] = self._nonfinite.get(tag, 0) + count

    def statistics(self) -> dict[str, float]:
        """Return the interval's statistics, nothing for what has no data, and start the next interval."""
        self._fold()
        found: dict[str, float] = {}
        if self._count:
            average = mean(self._sum, self._scale, self._count, self._minimum, self._maximum)
            found.update(_tagged(_INSTANTANEOUS, self._maximum, self._minimum, average))
        if self._finished:
            returns = np.array([total for total, _ in self._finished])
            finite = returns[np.isfinite(returns)]
            if finite.size < returns.size:
                self._count_nonfinite(_TOTAL, returns.size - finite.size)
            if finite.size:
                found.update(_summary(_TOTAL, finite))
            found.update(_summary(_LENGTH, np.array([length for _, length in self._finished], np.float64)))
        self.ended_in_last_interval = self.ended
        self._start_interval()
        return found

    ended_in_last_interval = 0
    """How many episodes had ended in the interval that `statistics` closed last."""

    def take_nonfinite(self) -> dict[str, int]:
        """Return how many values of each tag were not finite since this was last asked."""
        counts, self._nonfinite = self._nonfinite, {}
        return counts

    @property
    def pending(self) -> bool:
        """Say whether any step of the interval was recorded."""
        return bool(self._buffered or self._count or self._finished)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the interval holds so far, and the running episodes, as a tree."""
        self._fold()
        return {
            "num_envs": self._num_envs,
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
        """Take back what `state_dict` returned, in the place of whatever was recorded."""
        self._layout, self._buffer, self._buffered = None, HeldSteps(self._holder), 0
        self._set_num_envs(state["num_envs"])
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"])
        self._finished = deque(((float(total), int(length)) for total, length in state["finished"]), _LAST_EPISODES)
        self.ended, self._count = state["ended"], state["count"]
        self._sum, self._scale = float(state["sum"]), state.get("scale", 1.0)
        self._maximum, self._minimum = state["maximum"], state["minimum"]
        self._nonfinite = dict(state["nonfinite"])
        self._resumed = self._num_envs is not None


def _layout(rewards: Any, terminated: Any, truncated: Any) -> tuple[Any, ...]:
    """Return what the steps of one buffer have in common."""
    try:
        kinds = type(rewards), type(terminated), type(truncated)
        return kinds, rewards.dtype, rewards.shape, terminated.shape, truncated.shape
    except AttributeError:  # a part is a plain number, or a list
        step = (rewards, terminated, truncated)
        return (*map(type, step), *(getattr(part, "shape", None) for part in step))


def _is_plain(part: Any) -> bool:
    """Say whether a part of a step is an array, or a number that stands for one of a single environment."""
    return is_array(part) or isinstance(part, bool | int | float)


def _runs(numbers: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """Yield each of some ascending numbers with the range of places where it stands."""
    if numbers.size:
        borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), numbers.size]
        yield from zip(numbers[borders[:-1]].tolist(), borders[:-1], borders[1:], strict=True)


def _accumulate(rows: _Floats, totals: _Floats) -> None:
    """Replace each row by the running totals up to it, added one row after the other: both ways round alike."""
    if totals.size > 8 or len(rows) == 1:
        for row in rows:
            row += totals
            totals = row
    else:
        rows[0] += totals
        np.add.accumulate(rows, axis=0, out=rows)


def _summary(tag: str, values: _Floats) -> dict[str, float]:
    with np.errstate(over="ignore"):
        average = float(values.mean())
    if not math.isfinite(average):
        average = mean(float((values * SMALL).sum()), SMALL, values.size, float(values.min()), float(values.max()))
    return _tagged(tag, float(values.max()), float(values.min()), average)


def _tagged(tag: str, maximum: float, minimum: float, mean: float) -> dict[str, float]:
    return {f"{tag} (max)": float(maximum), f"{tag} (min)": float(minimum), f"{tag} (mean)": float(mean)}
