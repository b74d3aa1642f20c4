"""Reads the files that its input names, one a line, under limits; its output tells what became of each.

Usage: ``python -m tests.hostile.child MEMORY SECONDS WARM [MODULE ...]``.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keepfast
from keepfast.plugins import registry
from tests.hostile import BEGUN, TIMES
from tests.hostile.doors import DOORS
from tests.hostile.honest import LINES, emptied, honest, within

STOPS = signal.SIGXCPU, signal.SIGALRM
"""What ends a reading: the processor was busy with it for too long, or it waits for what does not come."""

_WAITING = 60
"""How many times as long as the processor may be busy with a file it may take, on a machine with much else to do."""


class TooLong(BaseException):
    """The time is over; no error of reading, so that no reader takes it for damage."""


def main() -> None:
    """Read what standard input names."""
    memory, seconds, warm = map(int, sys.argv[1:4])
    warnings.simplefilter("ignore")
    registry()
    for name in sys.argv[4:]:
        importlib.import_module(name)
    if warm:
        _warm_up()
    for number in STOPS:
        signal.signal(number, stop)
    print(BEGUN, flush=True)
    for line in sys.stdin:
        kind, path = json.loads(line)
        print(json.dumps(_became(DOORS[kind], Path(path), memory, seconds)), flush=True)


def _warm_up() -> None:
    """Read honest files, which loads all that is loaded when it is needed."""
    with tempfile.TemporaryDirectory() as made:
        for each in honest(emptied(Path(made, "honest"))):
            DOORS[each.reader](each.place(emptied(Path(made, "read")), each.content))
        run = within("run", "metrics.jsonl")(Path(made), LINES)
        for name in ("start", "index", "show", "inspect"):
            DOORS[name](run)


def stop(_number: int, _frame: Any) -> None:
    """End what takes too long."""
    raise TooLong("it takes too long")


def _became(read: Callable[[Path], Any], path: Path, memory: int, seconds: int) -> str:
    return became(read, path, memory, seconds)[0] or "value"


def became(read: Callable[[Path], Any], path: Path, memory: int, seconds: int) -> tuple[str, Any]:
    """Read a file under limits; return the error as text, or no text and the value."""
    size = sum(file.lstat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    limit(resource.RLIMIT_AS, address_space() + memory + TIMES * size)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)
    signal.alarm(_WAITING * seconds)
    try:
        return "", read(path)
    except keepfast.KeepfastError as error:
        return f"{type(error).__name__}: {error}"[:2000], None
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told)
        return f"raised {type(error).__name__}: {error}"[:2000], None
    finally:
        signal.alarm(0)
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
