"""Reads the files that its input names, one a line, under limits; its output tells what became of each.

Usage: ``python -m tests.hostile.child MEMORY SECONDS``.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keepfast
from keepfast.migration.calls import read_foreign
from keepfast.migration.layers import layers_of, side_of
from keepfast.plugins import registry
from keepfast.plugins.formats import read_checkpoint
from keepfast.runs.reading import find_runs, read_run
from tests.hostile import TIMES


def _checkpoint(path: Path) -> Any:
    return read_checkpoint(path)


def _memory(path: Path) -> Any:
    snapshot = keepfast.read_memory(path)
    return [snapshot.chronological(), snapshot.histories(), snapshot.seams, snapshot.metadata]


def _foreign(path: Path) -> Any:
    """Ask every reader of another library, and take what was read apart into layers."""
    known = registry().provided("checkpoint reader")
    readers = [reader for provided in known if (reader := registry().make(provided)) is not None]
    read = [reader.read(path) for reader in readers if reader.recognizes(path)]
    layers = [layers_of(name, tree, side_of(tree)) for found in read for name, tree in found.modules.items()]
    return [layers, read_foreign(path)]


READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": _checkpoint,
    "memory": _memory,
    "foreign": _foreign,
    "metrics": keepfast.read_metrics,
    "run": read_run,
    "runs": lambda path: [read_run(found) for found in find_runs(path)],
}
"""How files are read, by name: as users do."""


class TooLong(BaseException):
    """The time is over; no error of reading, so that no reader takes it for damage."""


def main() -> None:
    """Read what standard input names."""
    memory, seconds = map(int, sys.argv[1:])
    warnings.simplefilter("ignore")
    registry()
    signal.signal(signal.SIGXCPU, stop)
    for line in sys.stdin:
        kind, path = json.loads(line)
        print(json.dumps(_became(READERS[kind], Path(path), memory, seconds)), flush=True)


def stop(_number: int, _frame: Any) -> None:
    """End what takes too long."""
    raise TooLong("it takes too long")


def _became(read: Callable[[Path], Any], path: Path, memory: int, seconds: int) -> str:
    return became(read, path, memory, seconds)[0] or "value"


def became(read: Callable[[Path], Any], path: Path, memory: int, seconds: int) -> tuple[str, Any]:
    """Read a file under limits; return the error as text, or no text and the value."""
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    limit(resource.RLIMIT_AS, address_space() + memory + TIMES * size)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)
    try:
        return "", read(path)
    except keepfast.KeepfastError as error:
        return f"{type(error).__name__}: {error}"[:2000], None
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told)
        return f"raised {type(error).__name__}: {error}"[:2000], None
    finally:
        limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)


def limit(which: int, most: int) -> None:
    """Set a limit of this process, which it may raise again."""
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))


def address_space() -> int:
    """Return how much address space this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not tell how much memory the process has")


if __name__ == "__main__":
    main()
