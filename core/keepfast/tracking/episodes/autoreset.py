"""When vector environments reset: told by an environment, told by a setting, or seen in the data.

Gymnasium (https://farama.org/Vector-Autoreset-Mode) has three modes. With "next step", its default, the step after an
episode's end does nothing but reset: its action is ignored and its reward is 0, so that row is no transition. With
"same step" an environment resets in the step that ends the episode; with "disabled" whoever steps it resets it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.warnings import warn
from keepfast.interfaces.ring import reset_rows
from keepfast.tracking.episodes.running import Flags

Mode = Literal["next_step", "same_step", "disabled"]

MODES: dict[str, Mode] = {"nextstep": "next_step", "samestep": "same_step", "disabled": "disabled"}
"""The modes by the names they have elsewhere, without their underscores."""

_INNER = ("env", "_env", "venv", "unwrapped")
"""Where wrappers keep what they wrap."""

_MOST_LAYERS = 64


def mode_of(env: object) -> Mode | None:
    """Return when an environment resets, or None where it does not tell.

    Vector environments tell it in ``metadata["autoreset_mode"]`` or an attribute ``autoreset_mode``; of several
    wrappers the outermost that tells is believed. A single environment of Gymnasium is reset by whoever steps it,
    unless Gymnasium's wrapper ``Autoreset`` is around it.
    """
    layers = list(_layers(env))
    if any(_is_single(layer) for layer in layers):
        wrapped = any(type(layer).__name__ == "Autoreset" for layer in layers if _of_gymnasium(layer))
        return "next_step" if wrapped else "disabled"
    for layer in layers:
        told = _told(layer)
        if told is not None:
            return _parse(told)
    return None


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment and all that it wraps, the outermost first."""
    waiting = [env]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_LAYERS:
        layer = waiting.pop(0)
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        waiting += [getattr(layer, name, None) for name in _INNER]


def _of_gymnasium(layer: object) -> bool:
    return type(layer).__module__.partition(".")[0] == "gymnasium"


def _is_single(layer: object) -> bool:
    """Say whether it is one of Gymnasium's single environments; a vector environment's metadata may be its own too."""
    single = getattr(sys.modules.get("gymnasium"), "Env", ())
    return isinstance(layer, single) and inspect.getattr_static(layer, "num_envs", None) is None


def _told(layer: Any) -> object:
    metadata = getattr(layer, "metadata", None)
    found = metadata.get("autoreset_mode") if isinstance(metadata, Mapping) else None
    return getattr(layer, "autoreset_mode", None) if found is None else found


def _parse(told: object) -> Mode | None:
    """Return the mode that is meant by Gymnasium's enumeration, another one like it, or a string."""
    for name in (getattr(told, "value", told), getattr(told, "name", None)):
        if isinstance(name, str) and (mode := MODES.get(name.replace("_", "").lower())):
            return mode
    warn(
        f"the environment says that its autoreset mode is {told!r:.80}, which is none of {', '.join(MODES.values())}; "
        "no row is left out. Set `autoreset` in the configuration"
    )
    return None


def chosen(setting: str, env: object) -> Mode | None:
    """Return the mode that counts, or None where nobody tells: the setting, or for "auto" what the environment says."""
    told = None if env is None else mode_of(env)
    if setting == "auto":
        return told
    mode = MODES[setting.replace("_", "")]
    if told is not None and (told == "next_step") != (mode == "next_step"):
        warn(
            f'`autoreset` is "{mode}", and the environment says "{told}"; the setting counts. '
            '"auto" goes by the environment'
        )
    return mode


@final
class Resemblance:
    """Watches whether rows look like those of environments that reset in the step after an episode's end.

    They do where a row of reward 0 follows every end, and rewards of 0 are rare among the other rows, of which there
    are more than there would be by chance.

    Attributes:
        watching: whether it is still of interest; not after a row that tells otherwise, or once it was told.
    """

    LEAST_ENDS = 3
    """How many ends it takes."""

    LEAST_LENGTH = 2
    """How many other rows there are for each end, at least."""

    MOST_ENDS = 1000
    """After how many ends without a verdict there will be none."""

    RARE = 0.1
    """Which part of the other rows may have a reward of 0."""

    def __init__(self) -> None:
        self.watching = True
        self._ends = self._zeros = self._others = 0

    def look(self, rewards: NDArray[Any], done: Flags, ended: Flags) -> None:
        """Look at some rows; the arguments are those of `reset_rows`, beside the rewards."""
        resets = reset_rows(done, ended)
        count = int(np.count_nonzero(resets))
        self._ends += count
        self._others += rewards.size - count
        self._zeros += rewards.size - int(np.count_nonzero(rewards)) - count
        self.watching = self.watching and not (rewards[resets].any() or done[resets].any())

    def tell(self) -> None:
        """Warn, once, where the rows look like it."""
        if not self.watching or self._ends < self.LEAST_ENDS:
            return
        alike = self._zeros <= self.RARE * self._others and self._others >= self.LEAST_LENGTH * self._ends
        self.watching = not alike and self._ends <= self.MOST_ENDS
        if alike:
            warn(
                f"each of {self._ends} episodes that ended is followed by a row of reward 0, as where environments "
                "reset in the step after an end; such a row is no transition, and is counted as one. Give the "
                'environment (`env=` of `Experiment` or `Agent.init`), or set `autoreset`: "next_step" leaves such '
                'rows out, "same_step" keeps them'
            )
