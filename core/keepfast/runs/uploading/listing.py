"""The runs of a directory on an object store, listed through one object there.

Each run keeps a line of its own up to date (``.keepfast.lines/NAME``), which nobody else writes. Who lists runs, and
each run at its end, folds the lines that are new into the index, an object of the layout that the index of a local
directory has. Runs of many machines that fold at one moment may undo each other, which the next folding makes good.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import final
from urllib.parse import quote, unquote

from keepfast._system.remote.addresses import Address, as_address, is_below
from keepfast._system.remote.lease import LEASE, leased_until
from keepfast._system.remote.store import Store, patiently
from keepfast.errors import KeepfastError, NotFound
from keepfast.provenance.ending import RUNNING
from keepfast.runs.listing.index import INDEX, Problem, entries_of, index_text, line_of, name_order
from keepfast.runs.reading import Run, is_run, read_run
from keepfast.runs.uploading.layout import copy_at

_LINES, _KILLED = ".keepfast.lines", "killed"
_EVERY_SECONDS, _SHARE = 300.0, 100
"""How often a run's line is made anew while it runs, and what part of the time that may take."""


@final
class Line:
    """Keeps the line of one run.

    Args:
        runs: the directory of runs on the store.
        name: the run's name below it.
        directory: the run's directory on this machine.
    """

    def __init__(self, runs: Address, name: str, directory: Path) -> None:
        self._store, self._name, self._directory = Store(runs), name, directory
        self._due = 0.0

    def keep(self, last: bool) -> None:
        """Make the line anew where it is time to; at the end of a run, fold it into the index too."""
        began = time.monotonic()
        if (began < self._due and not last) or not is_run(self._directory):
            return
        _put(self._store, self._name, read_run(self._directory))
        self._due = began + max(_EVERY_SECONDS, _SHARE * (time.monotonic() - began))
        if last:
            with contextlib.suppress(OSError, KeepfastError):  # whoever lists runs does it else
                _fold(self._store)


def holds_runs(address: Address) -> bool:
    """Say whether an address is of a directory that runs were written in, or were listed."""
    try:
        return not {_LINES, INDEX}.isdisjoint(patiently(Store(address).children))
    except FileNotFoundError:
        return False


def unfinished(address: Address, own: str, agent: str, timesteps: int | None) -> Iterator[str]:
    """Yield the names of an agent's runs that did not reach their end and have no owner, the newest first.

    Args:
        address: the directory of runs.
        own: the name of the run that asks.
        agent: the agent's name.
        timesteps: the length of training of runs that do not tell theirs.
    """
    store = Store(address)
    runs = _runs(store, patiently(lambda: _fold(store)))
    above = f"{Path(as_address(address))}/"
    for run in sorted(runs, key=lambda run: run.began or 0.0, reverse=True):
        name, length = str(run.path).removeprefix(above), run.timesteps or timesteps
        is_over = length is not None and (run.steps or 0) >= length
        if name != own and run.agent == agent and run.steps and not is_over and run.status != RUNNING:
            yield name


def list_remote_runs(address: Address, on_problem: Problem, *, rebuild: bool = False) -> list[Run]:
    """Return the runs of a directory on an object store, by name.

    Where no run ever kept a line there, as where runs were copied, and with `rebuild`, each is read.

    Raises:
        NotFound: if there are none.
        RemoteError: if the store refuses or cannot be reached.
    """
    store = Store(address)
    found = {} if rebuild else patiently(lambda: _fold(store))
    if not found:
        _read_each(store, on_problem)
        found = patiently(lambda: _fold(store))
    if not found:
        raise NotFound(f"there are no runs at `{address}`")
    return _runs(store, found)


def _runs(store: Store, found: Mapping[str, tuple[str, Callable[[Path], Run]]]) -> list[Run]:
    runs = [make(Path(f"{store.address}/{name}")) for name, (_, make) in found.items()]
    return _with_owners(store, list(found), runs)


def _fold(store: Store) -> dict[str, tuple[str, Callable[[Path], Run]]]:
    """Return the line of each run, and what makes the run of it; those that the index lacks are put into it."""
    try:
        known = dict(entries_of(store.read(INDEX).decode("ascii").splitlines()))
    except (FileNotFoundError, ValueError):
        known = {}
    listing = store.listed(_LINES)
    named = {unquote(name.rpartition("/")[2]): about for name, about in listing.items()}
    signatures = {name: _signature(about.tag) for name, about in named.items() if is_below(name)}
    stale = [name for name, signature in signatures.items() if name not in known or known[name][0][1:17] != signature]
    contents = store.read_all(_place(name) for name in stale)
    lines = {name: contents[_place(name)].decode("ascii", "replace") for name in stale if _place(name) in contents}
    fresh = dict(entries_of([f'"{signatures[name]}"{line[18:]}' for name, line in lines.items()]))
    every = {name: row for name, row in {**known, **fresh}.items() if name in signatures}
    found = {name: every[name] for name in sorted(every, key=name_order)}
    if stale or known.keys() - signatures.keys():
        with contextlib.suppress(OSError, KeepfastError):  # somebody may read there and not write
            store.write(INDEX, index_text(line for line, _ in found.values()))
    return found


def _signature(tag: str) -> str:
    told = tag.encode()
    return f"{zlib.crc32(told):08x}{zlib.adler32(told):08x}"


def _place(name: str) -> str:
    return f"{_LINES}/{quote(name, safe='')}"


def _put(store: Store, name: str, run: Run) -> None:
    store.write(_place(name), line_of(name, run, "-" * 16).encode("ascii"))


def _read_each(store: Store, on_problem: Problem) -> None:
    """Have a line of every run right below a directory."""
    try:
        children = store.children()
    except FileNotFoundError:
        raise NotFound(f"there is nothing at `{store.address}`") from None
    for name, about in children.items():
        if about is None and not name.startswith("."):
            try:
                copy = copy_at(store.address / name, metrics=True)
                if is_run(copy):
                    _put(store, name, read_run(copy))
            except Exception as error:  # noqa: BLE001  (whatever it holds, the others are listed; this is told)
                on_problem(Path(as_address(store.address / name)), error)


def _with_owners(store: Store, names: list[str], runs: list[Run]) -> list[Run]:
    """Return runs that told of no end as running where somebody owns them still."""
    asked = [name for name, run in zip(names, runs, strict=True) if run.status == _KILLED]
    leases = store.read_all(f"{name}/{LEASE}" for name in asked)
    alive = {name.removesuffix(f"/{LEASE}") for name, lease in leases.items() if leased_until(lease) > time.time()}
    return [replace(run, status=RUNNING) if name in alive else run for name, run in zip(names, runs, strict=True)]
