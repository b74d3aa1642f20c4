"""What is asked for in vain: settings that can have no effect, a metric that nobody tracks, checkpoints refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import final

from keepfast._system.tally import Count
from keepfast._system.warnings import warn
from keepfast.config import ExperimentConfig
from keepfast.errors import nearest

_OF_CHECKPOINTS = (
    "keep_last",
    "keep_every",
    "store_separately",
    "checkpoint_format",
    "memory_checkpoint_interval",
    "memory_checkpoints",
    "async_checkpoints",
    "best_min_episodes",
)


def _is_off(interval: int | str) -> bool:
    return isinstance(interval, int) and interval <= 0


_IDLE: tuple[tuple[tuple[str, ...], Callable[[ExperimentConfig], bool], str], ...] = (
    (
        _OF_CHECKPOINTS,
        lambda c: _is_off(c.checkpoint_interval) and c.checkpoint_seconds is None,
        "`checkpoint_interval` allows no checkpoint",
    ),
    (("best_min_episodes",), lambda c: c.keep_best == 0, "`keep_best` is 0"),
    (
        ("best_min_episodes", "best_metric", "best_mode", "system_metrics"),
        lambda c: _is_off(c.write_interval),
        "`write_interval` allows no write",
    ),
    (("keep_every",), lambda c: c.keep_last is None, "`keep_last` is None, which keeps all checkpoints"),
    (
        ("wandb_kwargs",),
        lambda c: "wandb" not in dict(c.writer_table()),
        "`wandb` is False, and `writers` does not name it",
    ),
)
"""Settings, when they have no effect where they differ from their defaults, and why.

The metric of the best has one wherever runs are listed, also where no best is kept.
"""


def idle_settings(config: ExperimentConfig) -> dict[str, str]:
    """Return the settings that were given and can have no effect beside the others, each with the reason."""
    fields = type(config).model_fields
    given = {
        name for name, field in fields.items() if getattr(config, name) != field.get_default(call_default_factory=True)
    }
    found: dict[str, str] = {}
    for names, holds, reason in _IDLE:
        if holds(config):
            found.update({name: reason for name in names if name in given and name not in found})
    return found


def warn_of_idle_settings(config: ExperimentConfig) -> None:
    """Warn, in one go, of the settings that can have no effect."""
    if idle := idle_settings(config):
        told = "; ".join(f"`{name}` ({reason})" for name, reason in idle.items())
        warn(f"these settings have no effect: {told}. Change what stands in their way, or leave them out")


WAVERING = 8
"""How many timesteps a count may go back near its beginning before anybody is told."""


def warn_of_counting_again(before: int, completed: int) -> bool:
    """Warn where a count of completed timesteps went back by half, and say whether it did.

    By a little it wavers, as that of several actors does.
    """
    if before <= WAVERING or completed > before // 2:
        return False
    warn(
        f"timestep {before - 1} is followed by timestep {completed - 1}: this run counts again what it had completed, "
        "and what is due stands beside, or in the place of, what it wrote then. Count on from "
        f"{before}, begin with `resume()`, or make another experiment with a name of its own"
    )
    return True


def warn_of_another_pass(before: int) -> None:
    """Tell that a count which began anew before its end is taken for another training or evaluation."""
    warn(
        f"timestep {before - 1} is followed by the first one: another training or evaluation is taken to begin before "
        f"this one was over, and its timesteps are counted on from {before}, so that nothing is overwritten. "
        "`init` tells of another one, `resume()` goes on with this one"
    )


@final
class UntrackedMetric:
    """Notices that the metric of the best is never among what is written, and tells it once, with the nearest tag.

    Args:
        metric: the tag that says what is best. Of the default one nothing is told: not every run has episodes.
    """

    _WRITES = 3
    """After how many writes a tag that is nearly the metric is told; others may come late, and are told at the end."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._waiting = metric != ExperimentConfig().best_metric
        self._writes = 0
        self._tags: set[str] = set()

    def written(self, tags: Iterable[str]) -> None:
        """Take note of the tags of one write."""
        if not self._waiting:
            return
        self._writes += 1
        self._tags.update(tags)
        if self._metric in self._tags:
            self._waiting = False
        elif self._writes >= self._WRITES and nearest(self._metric, self._tags):
            self._tell()

    def tell_at_end(self) -> None:
        """Warn where nothing was ever judged, although something was written."""
        if self._waiting and self._tags:
            self._tell()

    def _tell(self) -> None:
        self._waiting = False
        near = nearest(self._metric, self._tags)
        hint = f"; did you mean `{near}`?" if near else f"; written were: {', '.join(sorted(self._tags))}"
        told = f"`best_metric` is `{self._metric}`, which is not among what is written"
        warn(f"{told}, so nothing is judged and no best is stored{hint}")


@final
class Lacking:
    """Tells, once each and where they were asked for, that checkpoints have nothing to store, or no memory.

    Args:
        config: the experiment's settings.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        self._nothing = config.checkpoint_interval != "auto"
        self._no_memory = config.memory_checkpoint_interval != "auto"

    def tell_nothing(self, *, is_due: bool) -> None:
        """Tell that no module is registered, where a checkpoint is due."""
        if self._nothing and is_due:
            self._nothing = False
            warn(
                "a checkpoint is due and no module is registered, so nothing is stored; register what is to be kept, "
                "or set `checkpoint_interval` to 0"
            )

    def tell_no_memory(self, *, is_there: bool) -> None:
        """Tell that there is no memory, though memories have an interval of their own; the first time alone."""
        if self._no_memory:
            self._no_memory = False
            if not is_there:
                warn(
                    "`memory_checkpoint_interval` is set and no memory is registered, so it has no effect; register "
                    "the memory, or leave the setting out"
                )


REFUSED, VANISHED = "checkpoint", "vanished"
"""What is counted of checkpoints: those that could not be stored, and files that were removed."""


def spared(name: str, count: Count) -> str:
    """Return what to tell of a file that had the name of a checkpoint and was none of ours."""
    return f"`{name}` was not written by Keepfast and had the name of a checkpoint; it is `{count.first}` now"


def first_refused(name: str, count: Count) -> str:
    """Return what is told of the first checkpoint that could not be stored, or of files that were removed."""
    if name == VANISHED:
        return f"{count.first}; they are made anew, and the run goes on"
    return f"a checkpoint could not be stored: {count.first}. Training goes on; further ones are counted"


def all_refused(counts: Mapping[str, Count]) -> str:
    """Return what is told of them at the end, where it is more than was told already."""
    count, vanished = counts.get(REFUSED, Count()), counts.get(VANISHED, Count())
    told = [f"{count.number} checkpoints could not be stored; the last reason: {count.last}"] * (count.number > 1)
    return "; ".join([*told, vanished.first] if vanished.number else told)
