"""What is kept of a start of a run: where it comes from, what it was warned of, what it went on from, how it ended."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, final

from keepfast._system.warnings import listen
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.config import MASK, masked
from keepfast.errors import shown
from keepfast.plugins.backends import told
from keepfast.provenance.code import CODE
from keepfast.provenance.ending import ending
from keepfast.provenance.machine import call, machine, packages, python
from keepfast.provenance.secrets import masked_text
from keepfast.provenance.starts import ENDED, PROVENANCE
from keepfast.provenance.surroundings import environment_id, seeds_of

Setting = bool | Literal["without_changes"]

TOKEN = secrets.token_hex(8)
"""What tells this process from another one of its number on a machine of its name, as containers have them."""

_MOST_WARNINGS, _LONGEST_WARNING = 100, 500

_END_SECONDS = 2.0
"""How long the end of a run waits for what git is still asked."""


def this_process() -> dict[str, Any]:
    """Return what tells this process from others."""
    return {"pid": os.getpid(), "token": TOKEN}


@final
class Origin:
    """Collects what is kept of one start; all of it is at hand at once but for what git and drivers are asked.

    Args:
        setting: the setting ``provenance``.
        config: returns the run's configuration.
        environment: returns the environment, or None where nobody told it.
    """

    def __init__(
        self,
        setting: Setting,
        config: Callable[[], Mapping[str, Any]],
        environment: Callable[[], object],
    ) -> None:
        self._setting, self._config, self._environment = setting, config, environment
        self._began = time.monotonic()
        self._warnings: dict[str, int] = {}
        self._resumed: dict[str, Any] | None = None
        self._ended: dict[str, Any] | None = None
        self._known: tuple[tuple[Any, ...], tuple[object, ...]] | None = None
        self._found: dict[str, Any] = {}
        if setting:
            CODE.begin()
        self._waits = bool(setting) and not CODE.is_known
        listen(self._note_warning)

    def begin(self, news: Callable[[], object]) -> None:
        """Be told that training begins; a method is called, from another thread, once what git was asked is known."""
        if self._waits:
            self._waits = False
            CODE.tell(news)

    @property
    def has_ended(self) -> bool:
        """Say whether the start ended."""
        return self._ended is not None

    def _note_warning(self, message: str) -> None:
        text = masked_text(shown(message, _LONGEST_WARNING))
        if not self.has_ended and (text in self._warnings or len(self._warnings) < _MOST_WARNINGS):
            self._warnings[text] = self._warnings.get(text, 0) + 1

    def note_resumed(self, path: Path, timestep: int | None) -> None:
        """Take note of the checkpoint that the start goes on from."""
        run = path.parent.parent
        known = CheckpointDirectory(path.parent).checkpoints()
        digests = [file.digest for each in known for file in each.files.values() if file.name == path.name]
        self._resumed = {
            "run": str(run.absolute()),
            "checkpoint": path.name,
            "timestep": timestep,
            "digest": next(iter(digests), None),
        }

    def end(self, signal_number: int | None, completed: int | None, *, interrupted: bool) -> None:
        """Take note that the start ends now, by what is being raised if anything is."""
        error = sys.exc_info()[1]
        if self._setting:
            CODE.settle(_END_SECONDS)
        seconds = round(time.monotonic() - self._began, 3)
        about = {"seconds": seconds, "timestep": completed, "peak_memory": _peak_memory()}
        self._ended = {**ending(error, signal_number, interrupted=interrupted), **about}

    def end_with_process(self) -> None:
        """Take note that the process ends, and nobody told that the run does."""
        error = getattr(sys, "last_value", None)
        self._ended = {**ending(error, None), "seconds": round(time.monotonic() - self._began, 3)}

    def document(self) -> dict[str, Any]:
        """Return what is kept of the start, as it is known by now."""
        found: dict[str, Any] = {"process": this_process(), ENDED: self._ended}
        if self._resumed is not None:
            found["resumed"] = self._resumed
        if self._warnings:
            found["warnings"] = dict(self._warnings)
        if self._setting:
            found[PROVENANCE] = self._provenance()
        return found

    def _provenance(self) -> dict[str, Any]:
        """Return where the start comes from, found anew where something of it is new: every checkpoint asks."""
        facts = told(), CODE.machine, CODE.told(changes=self._setting is True)
        objects = self._environment(), self._config()
        if self._known is None or facts != self._known[0] or tuple(map(id, objects)) != tuple(map(id, self._known[1])):
            self._found, self._known = self._provenance_of(*facts, *objects), (facts, objects)
        return self._found

    def _provenance_of(
        self,
        frameworks: Mapping[str, Mapping[str, Any]],
        drivers: Mapping[str, Any],
        git: Mapping[str, Any],
        environment: object,
        config: Mapping[str, Any],
    ) -> dict[str, Any]:
        found = {
            **call(),
            "python": python(),
            "machine": {**machine(), **drivers},
            "git": git,
            "environment": None if environment is None else environment_id(environment),
            "seeds": {key: seed for key, seed in seeds_of(masked(config), frameworks).items() if seed != MASK},
            "frameworks": {name: dict(about) for name, about in frameworks.items()},
            "packages": packages(),
        }
        return {key: value for key, value in found.items() if value}


def _peak_memory() -> int | None:
    """Return the most bytes that the process has had in memory, where the operating system tells."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
