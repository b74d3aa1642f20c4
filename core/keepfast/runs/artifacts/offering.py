"""Offering: checkpoints and exported memories, to the writers that keep files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import final

from keepfast._system.disk.directories import make_directory
from keepfast.config import Artifacts
from keepfast.memories.memory import Memory
from keepfast.runs.artifacts.promised import Durable
from keepfast.tracking.multi_writer import MultiWriter

WAITING = ".artifacts"
"""The folder of a run where files wait for a writer to take them."""

_TIMESTEP = re.compile(r"_\d+$")


@final
class Offering:
    """Hands each writer that keeps files those it is to have, behind training, once they are durable.

    What a run replaces or removes while a writer is at work stays for the writer what it was: the file has a second
    name until the writer is done, where the file system has such. What fails is counted as any failure of the writer
    is, and the file is where it was.

    Args:
        table: which files each writer gets, by its name.
        writer: the writers behind one.
        directory: returns the run's directory.
        completed: returns the completed timesteps.
    """

    def __init__(
        self,
        table: Mapping[str, Artifacts],
        writer: MultiWriter,
        directory: Callable[[], Path],
        completed: Callable[[], int],
    ) -> None:
        self._table, self._writer, self._directory, self._completed = table, writer, directory, completed
        self._numbers = count()

    def listen(self, memories: Iterable[Memory]) -> None:
        """Be told of each file that memories export from now on, where a writer is to have them."""
        if "all" in self._table.values():
            for memory in memories:
                memory.when_exported(self.offer_memory)

    def offer_checkpoint(self, durable: Durable) -> None:
        """Offer a checkpoint that is on disk."""
        asked = {"best", "checkpoints", "all"} if durable.is_best else {"checkpoints", "all"}
        for path in durable.paths:
            name = _TIMESTEP.sub("", path.stem)
            self._offer(asked, path, durable.timestep, name, "checkpoint")

    def offer_memory(self, path: Path) -> None:
        """Offer the file of an exported memory."""
        self._offer({"all"}, path, self._completed(), "memory", "memory")

    def _offer(self, asked: set[str], path: Path, timestep: int, name: str, kind: str) -> None:
        for writer, choice in self._table.items():
            if choice in asked and self._writer.keeps_files(writer):
                place = self._place()
                own = _named_again(path, place)
                self._writer.offer(writer, own, timestep, name=name, kind=kind, after=partial(_remove, place))

    def _place(self) -> Path:
        """Return where the next file waits; what a killed run left there is removed first."""
        number = next(self._numbers)
        folder = self._directory() / WAITING
        if not number:
            shutil.rmtree(folder, ignore_errors=True)
        return folder / str(number)


def _named_again(path: Path, place: Path) -> Path:
    """Return another name of a file, or of a directory's, or its own where there can be no other."""
    own = place / path.name
    try:
        make_directory(place)
        if path.is_dir():
            shutil.copytree(path, own, copy_function=os.link)
        else:
            os.link(path, own)
    except OSError:
        return path
    return own


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):  # others wait there yet
        place.parent.rmdir()
