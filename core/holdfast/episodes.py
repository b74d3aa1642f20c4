"""Turns rewards and dones into finished episodes.

Steps are held as they come, without waiting for a device, and worked off a chunk at a time: one transfer, then sums
over whole arrays. Sums run in float64 and strictly in the order of the steps, so they do not depend on where a chunk
ended.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from holdfast._arrays import is_real
from holdfast.backends import Holder
from holdfast.errors import InvalidValue, ShapeMismatch
from holdfast.tree import dtype_name, is_array

CHUNK_STEPS = 256
"""How many steps are held at most before they are worked off."""

CHUNK_ELEMENTS = 65_536
"""How many rewards those steps hold at most, so that they stay in the processor's cache."""

LAST_EPISODES = 100
"""How many of an interval's episodes, the latest, enter its statistics."""

INSTANTANEOUS = "Reward / Instantaneous reward"
TOTAL = "Reward / Total reward"
LENGTH = "Episode / Total timesteps"

_SHAPES: dict[type, tuple[()]] = {float: (), int: (), bool: ()}
"""What a single environment may give instead of arrays."""

Floats = NDArray[np.float64]


@final
class EpisodeTracker:
    """Counts each episode of each environment once, at the step where it was terminated or truncated."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._steps: list[tuple[Any, Any, Any]] = []
        self._shapes: tuple[Any, Any, Any] | None = None
        self._num_envs: int | None = None
        self._chunk = 1
        self._returns: Floats = np.zeros(0)
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._nonfinite: dict[str, int] = {}
        self._start_interval()

    def _start_interval(self) -> None:
        self.ended = 0
        self._finished: deque[tuple[float, int]] = deque(maxlen=LAST_EPISODES)
        self._sums: Floats = np.zeros(self._num_envs or 0)
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
            InvalidValue: if the rewards are no numbers.
        """
        shapes = (
            getattr(rewards, "shape", _SHAPES.get(type(rewards))),
            getattr(terminated, "shape", _SHAPES.get(type(terminated))),
            getattr(truncated, "shape", _SHAPES.get(type(truncated))),
        )
        if shapes != self._shapes or None in shapes:  # the length of a list may change without a trace
            self._check(rewards, terminated, truncated)
            self._shapes = shapes
        hold = self._holder.hold
        self._steps.append((hold(rewards), hold(terminated), hold(truncated)))
        if len(self._steps) >= self._chunk:
            self._fold()

    def _check(self, *step: Any) -> None:
        sizes = [int(np.prod(tuple(part.shape))) if hasattr(part, "shape") else int(np.size(part)) for part in step]
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
            self._sums = np.zeros(expected)

    def _set_num_envs(self, num_envs: int | None) -> None:
        self._num_envs = num_envs
        self._chunk = max(1, min(CHUNK_STEPS, CHUNK_ELEMENTS // max(num_envs or 1, 1)))

    def _fold(self) -> None:
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        fetched = self._holder.fetch([part for step in steps for part in step])
        shape = (len(steps), self._num_envs or 0)
        rewards = np.concatenate([part.reshape(-1) for part in fetched[0::3]]).reshape(shape)
        done = np.concatenate([part.reshape(-1) for part in fetched[1::3]]).astype(bool)
        done |= np.concatenate([part.reshape(-1) for part in fetched[2::3]]).astype(bool)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted, and told by the tracker
            self._add_rewards(rewards)
            self._add_episodes(rewards, done.reshape(shape))

    def _add_rewards(self, rewards: NDArray[Any]) -> None:
        maximum, minimum, bad = float(rewards.max()), float(rewards.min()), 0
        if not (math.isfinite(maximum) and math.isfinite(minimum)):  # a NaN is the maximum of whatever it is among
            finite = np.isfinite(rewards)
            bad = rewards.size - int(np.count_nonzero(finite))
            self._count_nonfinite(INSTANTANEOUS, bad)
            maximum = float(rewards.max(initial=-np.inf, where=finite))
            minimum = float(rewards.min(initial=np.inf, where=finite))
            rewards = np.where(finite, rewards, 0)
        self._maximum, self._minimum = max(self._maximum, maximum), min(self._minimum, minimum)
        self._count += rewards.size - bad
        _add_in_order(self._sums, rewards)

    def _add_episodes(self, rewards: NDArray[Any], done: NDArray[np.bool]) -> None:
        start = 0
        for row in np.flatnonzero(done.any(axis=1)).tolist():
            _add_in_order(self._returns, rewards[start : row + 1])
            self._lengths += row + 1 - start
            ended = np.flatnonzero(done[row])
            self._finish(self._returns[ended].tolist(), self._lengths[ended].tolist())
            self._returns[ended] = 0.0
            self._lengths[ended] = 0
            start = row + 1
        _add_in_order(self._returns, rewards[start:])
        self._lengths += len(rewards) - start

    def _finish(self, returns: list[float], lengths: list[int]) -> None:
        self.ended += len(returns)
        self._finished.extend(zip(returns, lengths, strict=True))

    def _count_nonfinite(self, tag: str, count: int) -> None:
        self._nonfinite[tag] = self._nonfinite.get(tag, 0) + count

    def statistics(self) -> dict[str, float]:
        """Return the interval's statistics, nothing for what has no data, and start the next interval."""
        self._fold()
        found: dict[str, float] = {}
        if self._count:
            values = (self._maximum, self._minimum, float(self._sums.sum()) / self._count)
            found.update(_tagged(INSTANTANEOUS, *values))
        if self._finished:
            returns = np.array([total for total, _ in self._finished])
            finite = returns[np.isfinite(returns)]
            if finite.size < returns.size:
                self._count_nonfinite(TOTAL, returns.size - finite.size)
            if finite.size:
                found.update(_summary(TOTAL, finite))
            found.update(_summary(LENGTH, np.array([length for _, length in self._finished], np.float64)))
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
        return bool(self._steps or self._count or self._finished)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the interval holds so far, and the running episodes, as a tree."""
        self._fold()
        return {
            "num_envs": self._num_envs,
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "finished": [list(episode) for episode in self._finished],
            "ended": self.ended,
            "sums": self._sums.copy(),
            "count": self._count,
            "maximum": float(self._maximum),
            "minimum": float(self._minimum),
            "nonfinite": dict(self._nonfinite),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, in the place of whatever was recorded."""
        self._steps, self._shapes = [], None
        self._set_num_envs(state["num_envs"])
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"])
        self._finished = deque(((float(total), int(length)) for total, length in state["finished"]), LAST_EPISODES)
        self.ended, self._count = state["ended"], state["count"]
        self._sums = np.array(state["sums"])
        self._maximum, self._minimum = state["maximum"], state["minimum"]
        self._nonfinite = dict(state["nonfinite"])


def _add_in_order(total: Floats, rows: NDArray[Any]) -> None:
    """Add each row to `total`, in place and one after the other: both ways round each sum alike."""
    if total.size > 8:
        for row in rows:
            total += row
    elif len(rows):
        total[...] = np.add.accumulate(np.concatenate([total[None], rows]), axis=0, dtype=np.float64)[-1]


def _summary(tag: str, values: Floats) -> dict[str, float]:
    return _tagged(tag, float(values.max()), float(values.min()), float(values.mean()))


def _tagged(tag: str, maximum: float, minimum: float, mean: float) -> dict[str, float]:
    return {f"{tag} (max)": float(maximum), f"{tag} (min)": float(minimum), f"{tag} (mean)": float(mean)}
