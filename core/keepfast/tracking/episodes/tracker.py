"""Turns rewards and dones into finished episodes.

Steps are kept as they come, without waiting for a device, and worked off a chunk at a time: one transfer, then sums
over whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import environments, is_real
from keepfast._system.arguments.guarding import tell
from keepfast._system.warnings import Afterwards, warn
from keepfast.errors import InvalidValue, ShapeMismatch, UsageError, as_given
from keepfast.interfaces.ring import reset_rows
from keepfast.interfaces.step_buffer import HostSteps, SingleSteps, Step, StepBuffer
from keepfast.plugins.backends import recognize
from keepfast.tracking.episodes.autoreset import Mode, Resemblance
from keepfast.tracking.episodes.running import Flags, RunningEpisodes
from keepfast.tracking.episodes.team import Team, by_agent, truth
from keepfast.tracking.held import HeldSteps, Holder
from keepfast.tracking.interval import EpisodeAggregate
from keepfast.tree import dtype_name, is_array

CHUNK_STEPS = 256
"""How many steps on the host are held at most before they are worked off, and of any steps how many at once."""

_REFUSALS = (AssertionError, RuntimeError, TypeError, ValueError)
"""What frameworks raise at an array that cannot be copied as it is."""

_CHUNK_ELEMENTS = 65_536
"""How many rewards those steps hold at most, so that they stay in the processor's cache."""

_TEAM_ELEMENTS = 2**22
"""How many rewards of each agent are held at most where they come as a dict: the more, the fewer transfers."""


@final
class EpisodeTracker:
    """Counts each episode of each environment once, at the step where it was terminated or truncated.

    Attributes:
        ended_in_last_interval: how many episodes had ended in the interval that `statistics` closed last.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._layout: tuple[Any, ...] | None = None
        self._buffer: StepBuffer = HeldSteps(holder)
        self._masks: dict[int, Any] = {}
        self._buffered = 0
        self._num_envs: int | None = None
        self._resumed = False
        self._chunk = self._capacity = 1
        self._total = RunningEpisodes()
        self._team: Team | None = None
        self._ended: Flags = np.zeros(0, bool)
        self._mode: Mode | None = None
        self._by_setting = self._contradicted = self._told = False
        self._reset_reward: float | None = None
        self._resemblance = Resemblance()
        self._flags: set[Any] = set()
        self.ended_in_last_interval = 0

    @property
    def num_envs(self) -> int | None:
        """Return the number of environments, or None where no step was recorded yet."""
        return self._num_envs

    def set_autoreset(self, mode: Mode | None, *, by_setting: bool = False) -> None:
        """Tell when the environments reset: from here on, rows that only reset are left out.

        Args:
            mode: the mode, or None where nobody knows; then rows that look like resets are told of.
            by_setting: whether a person says so, who may be wrong, and not the environment.
        """
        self._fold()
        self._mode, self._by_setting = mode, by_setting

    def record(self, rewards: Any, terminated: Any, truncated: Any, valid: Any = None) -> None:
        """Record one step of every environment.

        Args:
            rewards: of shape (num_envs,) or (num_envs, 1), any real dtype, on any device; a number for one environment;
                or a dict of these, by agent.
            terminated: of the same number of elements; whether each environment's episode ended. A dict by agent where
                the rewards are one, or the same for all agents; so the others.
            truncated: of the same number of elements; whether each environment's episode was cut short.
            valid: of the same number of elements; whether each environment's row is a transition; all are if None.

        Raises:
            ShapeMismatch: if the numbers of elements differ among them or from those before, or are zero.
            InvalidValue: if the rewards are no numbers, or have no values yet because they are being traced; if
                something is given for other agents than the rewards are.
        """
        try:
            if _layout(rewards, terminated, truncated) != self._layout:
                if self._resumed or isinstance(rewards, Mapping):
                    self._record_apart(rewards, terminated, truncated, valid)
                    return
                rewards, terminated, truncated = self._prepare(rewards, terminated, truncated)
            if valid is None:
                try:
                    self._buffer.add(rewards, terminated, truncated)
                except _REFUSALS:
                    self._add_held(rewards, terminated, truncated)
            else:
                self._add_masked(rewards, terminated, truncated, valid)
            self._buffered += 1
            if self._buffered >= self._capacity:
                self._fold()
        except Exception as error:  # noqa: BLE001  (it is told)
            tell("record_transition", error)

    def _record_apart(self, rewards: Any, terminated: Any, truncated: Any, valid: Any) -> None:
        """Record a step by agent, or the first one after a resume, which may have something to tell."""
        if not self._resumed:
            self._record_team(rewards, terminated, truncated, valid)
            return
        with Afterwards():
            if isinstance(rewards, Mapping):
                self._record_team(rewards, terminated, truncated, valid)
            else:
                self.record(*self._prepare(rewards, terminated, truncated), valid)

    def _add_masked(self, rewards: Any, terminated: Any, truncated: Any, valid: Any) -> None:
        try:
            is_known = valid.dtype in self._flags and valid.shape in ((self._num_envs,), (self._num_envs, 1))
        except Exception:  # noqa: BLE001  (it is a list, or nothing that can be looked at)
            is_known = False
        if not is_known:
            valid = self._mask_of(valid)
        mask = self._hold(valid)
        try:
            self._buffer.add(rewards, terminated, truncated)
        except _REFUSALS:
            self._add_held(rewards, terminated, truncated)
        self._masks[self._buffered] = mask

    def _mask_of(self, valid: Any) -> Any:
        """Return what says which rows are transitions, once it is known to say it of each environment."""
        _check_sizes(self._num_envs or 0, valid=valid)
        valid = _as_flags(_as_array(valid))
        if is_array(valid):
            self._flags.add(valid.dtype)
        return valid

    def _add_held(self, *step: Any) -> None:
        """Add a step that the buffer cannot copy: its parts may be wrapped by a mode of the framework.

        Raises:
            InvalidValue: if a part has no value, or many, because it is being traced.
        """
        arrays = self._prepare(*self._holder.fetch([self._hold(part) for part in step]))
        try:
            self._buffer.add(*arrays)
        except _REFUSALS as error:
            raise InvalidValue(f"record_transition got {', '.join(map(as_given, arrays))}: {error}") from error

    def _prepare(self, *given: Any) -> Step:
        """Check a step that may be unlike those before, make sure that the buffer fits it, and return it as arrays."""
        rewards, terminated, truncated = _as_parts(*given)
        layout = _layout(rewards, terminated, truncated)
        if layout != self._layout:
            for part in (rewards, terminated, truncated):
                self._hold(part)  # so that what could not be kept is refused before anything of the step is taken
            self._check([(rewards, terminated, truncated)], team=False)
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

    def _record_team(self, *given: Any) -> None:
        """Record one step whose rewards are a dict by agent; the arguments are those of `record`."""
        step = {agent: _as_parts(*parts) for agent, parts in by_agent(*given).items()}
        if not step:
            raise ShapeMismatch("record_transition got rewards of no agent; expected at least one")
        held = {agent: tuple(map(self._hold, parts)) for agent, parts in step.items()}
        num_envs = self._check(list(step.values()), team=True)
        if self._team is None:
            self._team = Team(num_envs)
        self._team.add(held)
        self._buffered += 1
        if self._buffered >= min(CHUNK_STEPS, max(_TEAM_ELEMENTS // num_envs, 1)):
            self._fold()

    def _hold(self, part: Any) -> Any:
        """Return something that keeps a part as it is now; a backend refuses what it could not keep."""
        try:
            return self._holder.hold(part)
        except InvalidValue as error:
            raise InvalidValue(f"record_transition: {error}") from None

    def _check(self, step: Sequence[tuple[Any, ...]], *, team: bool) -> int:
        """Check a step that may be unlike those before, and return its number of environments.

        Args:
            step: rewards, terminated, truncated, and whatever goes with them, of each agent.
            team: whether they came as a dict by agent.
        """
        num_envs = _size(step[0][0])
        if self._resumed and (num_envs != self._num_envs or team != (self._team is not None)):
            self._start_other_envs()
        self._resumed = False
        for rewards, terminated, truncated, *valid in step:
            expected = self._num_envs or num_envs
            _check_sizes(expected, rewards=rewards, terminated=terminated, truncated=truncated)
            if valid and valid[0] is not True:  # which stands for all of a team's rows
                _check_sizes(expected, valid=valid[0])
            if not is_real(kind := rewards if is_array(rewards) else np.asarray(rewards)):
                raise InvalidValue(f"record_transition got rewards of dtype {dtype_name(kind)}; allowed: real numbers")
        if self._num_envs is None:
            self._set_num_envs(num_envs)
            self._total.start(num_envs)
            self._ended = np.zeros(num_envs, bool)
        elif team != (self._team is not None):
            forms = "a dict by agent", "an array"
            now, before = forms if team else reversed(forms)
            raise InvalidValue(f"record_transition got rewards as {now}, and as {before} before; allowed: one of both")
        return num_envs

    def _start_other_envs(self) -> None:
        """Forget the running episodes of a resumed run, which goes on in another number of environments."""
        if running := self._total.drop():
            warn(f"the run goes on in another number of environments; {running} running episode(s) are not counted")
        self._num_envs = self._team = None

    def _set_num_envs(self, num_envs: int | None) -> None:
        self._num_envs = num_envs
        self._chunk = max(1, min(CHUNK_STEPS, _CHUNK_ELEMENTS // max(num_envs or 1, 1)))

    def _fold(self) -> None:
        if not self._buffered:
            return
        self._buffered = 0
        try:
            if self._layout is None and self._team is not None:
                self._work_off_team(self._team)
            else:
                self._work_off_buffer()
        except UsageError as error:
            raise UsageError(f"record_transition: {error}") from None
        self._tell()

    def _work_off_buffer(self) -> None:
        masks, self._masks = self._masks, {}
        rewards, done = self._buffer.take()
        given = self._mask(masks, rewards.shape) if masks else None
        for start in range(0, len(rewards), self._chunk):
            chunk = slice(start, start + self._chunk)
            self._work_off(rewards[chunk], done[chunk], None if given is None else given[chunk])

    def _mask(self, held: Mapping[int, Any], shape: tuple[int, ...]) -> Flags:
        """Return whether the caller calls each row a transition."""
        given = np.ones(shape, bool)
        given[list(held)] = [truth(mask) for mask in self._holder.fetch(list(held.values()))]
        return given

    def _work_off(self, rewards: NDArray[Any], done: Flags, given: Flags | None) -> None:
        valid = given
        if self._mode == "next_step":
            resets = reset_rows(done if given is None else done & given, self._ended)
            if resets.any():
                self._look_for_rewards(rewards, resets if given is None else resets & given)
                valid = ~resets if given is None else given & ~resets
        elif self._mode is None and self._resemblance.watching and given is None:
            self._resemblance.look(rewards, done, self._ended)
        if valid is not None:
            done = done & valid
        self._ended = done[-1].copy()
        self._total.work_off(rewards, done, valid)

    def _look_for_rewards(self, rewards: NDArray[Any], resets: Flags) -> None:
        """Note whether rows that are left out look like transitions.

        Their rewards are not 0 then, nor what wrappers make of that, which is always the same.
        """
        found = rewards[resets]
        if found.size and not self._told and not self._contradicted:
            if self._reset_reward is None:
                self._reset_reward = 0.0 if self._by_setting else float(found[0])
            self._contradicted = bool((found != self._reset_reward).any())

    def _work_off_team(self, team: Team) -> None:
        steps = team.take(self._holder)
        resetting = self._mode == "next_step"
        for start in range(0, len(steps), self._chunk):
            chunk = steps.part(slice(start, start + self._chunk))
            rewards, over, counted = team.work_off(chunk, self._ended if resetting else None)
            self._ended = over[-1].copy()
            self._total.work_off(rewards, over, counted)

    def _tell(self) -> None:
        """Warn of what was noticed in the steps, once each, now that they are counted."""
        if self._contradicted:
            self._contradicted, self._told = False, True
            told = "`autoreset` is set to it" if self._by_setting else "the environment says"
            warn(
                "rows that follow the end of an episode have rewards, and are left out: environments that reset in the "
                f"next step, as {told}, give none there. If these rows are transitions, because the environment resets "
                'in the step that ends an episode, or you leave resets out yourself, set `autoreset` to "same_step"'
            )
        self._resemblance.tell()
        if self._team is not None:
            self._team.tell()

    def reset(self, envs: Any = None) -> None:
        """Forget the running episodes of environments that were reset in mid-run.

        Args:
            envs: a mask of (num_envs,), or the numbers of the environments; all of them if None.

        Raises:
            InvalidValue: if it is neither, or there is no such environment.
        """
        self._fold()
        if self._num_envs is not None:
            places = slice(None) if envs is None else environments(envs, self._num_envs)
            self._total.drop(places)
            self._ended[places] = False
            if self._team is not None:
                self._team.drop(places)

    def merge(self, episodes: EpisodeAggregate) -> None:
        """Add the steps of environments that were added up elsewhere, together with their running episodes."""
        self._fold()
        self._total.merge(episodes)

    def statistics(self) -> dict[str, float]:
        """Return the interval's statistics, nothing for what has no data, and start the next interval."""
        self._fold()
        self.ended_in_last_interval = self._total.ended
        return {tag: value for running in self._all() for tag, value in running.statistics().items()}

    def share(self) -> list[tuple[str | None, dict[str, Any]]]:
        """Return the interval of each agent, and of all under None, in plain numbers, and start the next one."""
        self._fold()
        agents = {} if self._team is None else self._team.episodes
        return [(None, self._total.share()), *((agent, running.share()) for agent, running in agents.items())]

    def joined(self, shares: Iterable[tuple[str | None, Mapping[str, Any]]]) -> tuple[dict[str, float], dict[str, int]]:
        """Return the statistics of what several trackers shared, and how many values were not finite, by tag."""
        whole: dict[str | None, RunningEpisodes] = {None: RunningEpisodes()}
        for agent, share in shares:
            if agent not in whole:
                whole[agent] = RunningEpisodes(agent)
            whole[agent].join(share)
        self.ended_in_last_interval = whole[None].ended
        found = {tag: value for running in whole.values() for tag, value in running.statistics().items()}
        return found, {tag: count for running in whole.values() for tag, count in running.take_nonfinite().items()}

    def _all(self) -> list[RunningEpisodes]:
        return [self._total, *(() if self._team is None else self._team.episodes.values())]

    def take_nonfinite(self) -> dict[str, int]:
        """Return how many values of each tag were not finite since this was last asked."""
        return {tag: count for running in self._all() for tag, count in running.take_nonfinite().items()}

    @property
    def pending(self) -> bool:
        """Say whether any step of the interval was recorded."""
        return bool(self._buffered) or any(running.pending for running in self._all())

    def state_dict(self) -> dict[str, Any]:
        """Return everything the interval holds so far, and the running episodes, as a tree."""
        self._fold()
        return {
            "num_envs": self._num_envs,
            **self._total.state_dict(),
            "after_end": self._ended.copy(),
            "team": None if self._team is None else self._team.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, running: bool = True) -> None:
        """Take back what `state_dict` returned, in the place of whatever was recorded.

        Args:
            state: what it returned.
            running: whether the running episodes go on, as they do where the environments' state comes back.
        """
        self._layout, self._buffer, self._buffered, self._masks = None, HeldSteps(self._holder), 0, {}
        self._set_num_envs(state["num_envs"])
        self._total.load_state_dict(state)
        if self._num_envs is not None and self._total.num_envs != self._num_envs:
            raise InvalidValue(f"episodes of {self._total.num_envs} environments are told of {self._num_envs}")
        self._ended = np.array(state.get("after_end", np.zeros(self._num_envs or 0)), bool)
        self._team = None
        if (team := state.get("team")) is not None:
            self._team = Team(self._num_envs or 1)
            self._team.load_state_dict(team)
        if not running:
            self.reset()
        self._resumed = self._num_envs is not None


def _layout(rewards: Any, terminated: Any, truncated: Any) -> tuple[Any, ...]:
    """Return what the steps of one buffer have in common."""
    try:
        kinds = type(rewards), type(terminated), type(truncated)
        return kinds, rewards.dtype, rewards.shape, terminated.shape, truncated.shape
    except Exception:  # noqa: BLE001  (a part is a plain number, a list, or nothing that can be looked at)
        step = (rewards, terminated, truncated)
        return (*map(type, step), *map(_shape, step))


def _as_parts(rewards: Any, *flags: Any) -> tuple[Any, ...]:
    return _as_array(rewards), *(_as_flags(_as_array(part)) for part in flags)


def _as_flags(part: Any) -> Any:
    """Return what may be true or false in each place; of objects, whether they are."""
    if not is_array(part) or is_real(part):
        return part
    try:
        if getattr(part.dtype, "hasobject", False):
            return part.astype(bool)
    except Exception as error:
        raise InvalidValue(f"{as_given(part)} is neither true nor false: {error}") from error
    raise InvalidValue(f"record_transition got flags of dtype {dtype_name(part)}; allowed: True and False, or numbers")


def _shape(part: Any) -> Any:
    try:
        return getattr(part, "shape", None)
    except Exception:  # noqa: BLE001  (a nested tensor of PyTorch has none)
        return None


def _as_array(part: Any) -> Any:
    """Return an array, or a number that stands for one of a single environment, as it is, and a list as an array."""
    if is_array(part) or isinstance(part, bool | int | float):
        return part
    try:
        return np.asarray(part)
    except Exception as error:
        raise InvalidValue(f"no array can be made of {as_given(part)}: {error}") from error


def _size(part: Any) -> int:
    try:
        return int(np.prod(tuple(part.shape))) if hasattr(part, "shape") else int(np.size(_as_array(part)))
    except InvalidValue:
        raise
    except Exception as error:
        raise InvalidValue(f"no array can be made of {as_given(part)}: {error}") from error


def _check_sizes(expected: int, **parts: Any) -> None:
    if any(_size(part) != expected for part in parts.values()):
        given = ", ".join(f"{name} {tuple(getattr(part, 'shape', np.shape(part)))}" for name, part in parts.items())
        raise ShapeMismatch(
            f"record_transition got {given}; expected {expected} element(s) in each, one for each environment, "
            f"of shape ({expected},) or ({expected}, 1)"
        )
    if expected == 0:
        raise ShapeMismatch("record_transition got no environment; expected at least 1 element in each part")
