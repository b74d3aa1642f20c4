"""Memory: a buffer of samples whose content leaves for files, and comes back."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from keepfast._version import __version__
from keepfast.errors import UsageError
from keepfast.memories.export import MemoryExport
from keepfast.memories.files import read_memory
from keepfast.memories.fitting import Fit
from keepfast.memories.sampling import SampledBuffer
from keepfast.plugins.formats import exporter_named


class Memory(SampledBuffer):
    """A memory of the newest samples, exported at each filling cycle where that is asked for.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live; None is the framework's default.
        export: whether to export the memory at each filling cycle, before anything is overwritten. What is written is
            a copy, and the file is made behind training; a memory that fills again before it is done waits for it.
        export_format: the memory format of exports and of `save`: ``pt``, ``np``, ``csv``, or another that a plugin
            provides.
        export_directory: where the files go, made where it is missing.
        replacement: whether `sample` may return one sample several times. Without, a batch larger than what the
            memory holds is cut to that.
        export_keep: how many exported cycles stay on disk, the newest; None keeps all.

    Attributes:
        metadata: what else the files tell of this memory (its agent, say); yours to fill.

    Raises:
        InvalidValue: if a size is no positive whole number.
        UnknownPlugin: if nobody provides the export format.
        DirectoryError: if files cannot be written into the directory, and `export` is on.
    """

    def __init__(
        self,
        memory_size: int,
        num_envs: int = 1,
        device: Any = None,
        export: bool = False,
        export_format: str = "pt",
        export_directory: str | os.PathLike[str] = "memory",
        replacement: bool = True,
        export_keep: int | None = None,
    ) -> None:
        super().__init__(memory_size, num_envs, device, replacement)
        self.export = export
        self.metadata: dict[str, Any] = {}
        self._exports = MemoryExport(export_format, export_directory, export_keep)
        if export:
            self._exports.prepare()

    @property
    def export_format(self) -> str:
        """Return the format of exports and of `save`."""
        return self._exports.format

    @property
    def export_directory(self) -> Path:
        """Return where the files go."""
        return self._exports.directory

    def _complete_cycle(self) -> None:
        super()._complete_cycle()
        self._exports.report()
        self._exports.cycles += 1
        if self.export:
            self._exports.submit(self.snapshot())

    def _describe(self) -> dict[str, Any]:
        return {
            **super()._describe(),
            "format_version": 1,
            "time": datetime.now(UTC).isoformat(),
            "cycle": self._exports.cycles,
            "versions": {"keepfast": __version__, "numpy": np.__version__, **self._versions()},
            **self.metadata,
        }

    def _versions(self) -> dict[str, str]:
        """Return the versions of the framework's packages."""
        return {}

    def save(self, directory: str | os.PathLike[str] = "", format: str | None = None) -> Path:  # noqa: A002  (the design's name)
        """Write the memory, full or not, into a new file, and return its path once it is on disk.

        Args:
            directory: where to; the directory of exports by default.
            format: the memory format; that of exports by default.

        Raises:
            UnknownPlugin: if nobody provides the format.
            UsageError: if the memory has no tensors.
            WriteFailed: if the operating system refused.
        """
        if not self._specs:
            raise UsageError("the memory has no tensors to save; `create_tensor` makes one")
        chosen = exporter_named(format or self.export_format)
        path = self._exports.unused_path(Path(directory) if directory else self.export_directory, chosen)
        chosen.save(self.snapshot(), path)
        return path

    def load(self, path: str | os.PathLike[str], fit: Fit = "error") -> None:
        """Replace every sample by those of a file, of any format and written on any framework.

        Args:
            path: a memory file. Where this memory has no tensors, it gets the file's.
            fit: what to do with a file of another memory size or number of environments: ``"error"``; keep the
                ``"newest"`` samples that fit, or the ``"oldest"``.

        Raises:
            NotFound: if there is no such file.
            CorruptMemory: if the file is damaged.
            LoadMismatch: if the file does not fit; lists every difference. The memory is unchanged in each case.
        """
        self.restore(read_memory(path), fit)

    def wait(self) -> None:
        """Return when every export that was begun is on disk; warns of one that failed."""
        self._exports.wait()

    def close(self) -> None:
        """Finish every export, and tell how many failed; closing twice is fine."""
        self._exports.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
