"""Where a start of a run comes from, in words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from keepfast.provenance.starts import ENDED, PROVENANCE

_SHOWN = ("torch", "jax", "flax", "numpy", "gymnasium")
"""The packages that are shown by name."""


def described(start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known of a start, each fact with its label; what a file has in another form is left out."""
    told = _mapping(start.get(PROVENANCE))
    yield from _moments(start)
    if isinstance(command := told.get("command"), list):
        yield "command", shlex.join(map(str, command))
    if "directory" in told:
        yield "started in", str(told["directory"])
    yield from _code(_mapping(told.get("git")))
    yield from _machine(_mapping(told.get("machine")), _mapping(told.get("python")))
    for name, about in _mapping(told.get("frameworks")).items():
        yield str(name), ", ".join(f"{key} {value}" for key, value in _mapping(about).items())
    if packages := _mapping(told.get("packages")):
        some = ", ".join(f"{name} {packages[name]}" for name in _SHOWN if name in packages)
        yield "packages", f"{len(packages)}" + (f", among them {some}" if some else "")
    if "environment" in told:
        yield "environment", str(told["environment"])
    if seeds := _mapping(told.get("seeds")):
        yield "seeds", ", ".join(f"{name} {value}" for name, value in seeds.items())
    if resumed := _mapping(start.get("resumed")):
        digest = f" ({resumed['digest']})" if resumed.get("digest") else ""
        yield "resumed from", f"{resumed.get('checkpoint')} of {resumed.get('run')}{digest}"


def _moments(start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "time" in start:
        yield "started", str(start["time"])
    ended = _mapping(start.get(ENDED))
    if isinstance(seconds := ended.get("seconds"), int | float):
        yield "took", f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    if isinstance(memory := ended.get("peak_memory"), int):
        yield "most memory", f"{memory / 2**20:.0f} MB"


def _code(git: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not git:
        return
    branch = f" on {git['branch']}" if git.get("branch") else ""
    yield "commit", f"{git.get('commit') or 'none yet'}{branch} in {git.get('root')}"
    if "diff" in git:
        lines = str(git["diff"]).count("\n")
        more = "" if git.get("diff_is_whole", True) else " and more"
        yield "changes", f"{lines} lines{more} of difference to it, `--diff` prints them" if lines else "none"
    if isinstance(names := git.get("untracked"), list) and names:
        more = "" if git.get("untracked_is_whole", True) else " and more"
        yield "untracked", ", ".join(map(str, names[:10])) + (f" ... ({len(names)}{more})" if len(names) > 10 else "")
    if "problem" in git:
        yield "changes", str(git["problem"])


def _machine(machine: Mapping[str, Any], python: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if machine:
        memory = machine.get("memory")
        size = f", {memory / 2**30:.0f} GB" if isinstance(memory, int) else ""
        yield (
            "machine",
            f"{machine.get('host')}, {machine.get('system')}, {machine.get('cpu')}, {machine.get('cores')} cores{size}",
        )
    if isinstance(gpus := machine.get("gpus"), list):
        yield "GPUs", f"{', '.join(map(str, gpus))} (driver {machine.get('driver', 'not known')})"
    if python:
        yield "Python", f"{python.get('version')}, {python.get('executable')}"


def _mapping(told: object) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}
