"""What a process takes of its machine, read from the operating system at each write."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

_MEBI = 2**20


@final
class Resources:
    """Measures, between two calls, what the process and the machine were busy with.

    Nothing is measured that the operating system does not tell.
    """

    def __init__(self) -> None:
        self._before = time.perf_counter(), time.process_time()
        self._gpus: Callable[[], Iterator[tuple[str, float]]] = _gpus()

    def measure(self) -> dict[str, float]:
        """Return what there is to tell, by tag.

        Percentages of CPU are of one processor: a process that keeps two of them busy uses 200.
        """
        now = time.perf_counter(), time.process_time()
        elapsed, busy = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        found: dict[str, float] = {}
        if elapsed > 0:
            found["Resource / CPU usage (%)"] = 100 * busy / elapsed
        with contextlib.suppress(OSError, ValueError, KeyError):
            found["Resource / Memory (MB)"] = _kibibytes("/proc/self/status")["VmRSS"] / 1024
        with contextlib.suppress(OSError, ValueError, KeyError):
            machine = _kibibytes("/proc/meminfo")
            found["Resource / Machine's memory (%)"] = 100 * (1 - machine["MemAvailable"] / machine["MemTotal"])
        with contextlib.suppress(OSError, AttributeError):
            found["Resource / Machine's load"] = os.getloadavg()[0]
        found.update(self._gpus())
        return found


def _kibibytes(path: str) -> dict[str, float]:
    """Return the rows of one of Linux's tables that are kibibytes."""
    rows = (line.split() for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines())
    return {row[0].rstrip(":"): float(row[1]) for row in rows if len(row) == 3 and row[2] == "kB"}


def _gpus() -> Callable[[], Iterator[tuple[str, float]]]:
    """Return what measures NVIDIA's GPUs; nothing where there is none, or its library (`nvidia-ml-py`) is missing."""
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
        handles = [library.nvmlDeviceGetHandleByIndex(number) for number in range(library.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001  (a driver that is missing or broken is none of the run's business)
        return lambda: iter(())
    return lambda: _measured(library, handles)


def _measured(library: Any, handles: list[Any]) -> Iterator[tuple[str, float]]:
    for number, handle in enumerate(handles):
        with contextlib.suppress(library.NVMLError):
            used = library.nvmlDeviceGetMemoryInfo(handle).used
            yield f"Resource / GPU {number} usage (%)", float(library.nvmlDeviceGetUtilizationRates(handle).gpu)
            yield f"Resource / GPU {number} memory (MB)", used / _MEBI
