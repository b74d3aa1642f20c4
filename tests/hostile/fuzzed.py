"""The child process of the fuzz: reads one changed file after another under limits, and says what became of them.

Its output has a line for each file that it has read, in order, so that the first without one is what ended it.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import signal
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any, final

import numpy as np

import keepfast
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.plugins import registry
from keepfast.tree import nodes_of
from tests.hostile import MEMORY
from tests.hostile.child import STOPS, became, stop
from tests.hostile.doors import DOORS
from tests.hostile.fuzz import SECONDS, content_of
from tests.hostile.honest import Honest, emptied, honest

CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)
"""What no reading does; events of the interpreter's own audit."""


@final
class _Watch:
    """Notes whether code ran since it was asked last."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CODE or (event == "exec" and not _is_of_a_module(arguments[0])):
            self.seen.append(f"{event} {arguments!r:.100}")

    def taken(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


def _is_of_a_module(code: Any) -> bool:
    return isinstance(code, types.CodeType) and code.co_filename.startswith(("/", "<frozen", "<attrs", "<string>"))


def _digest(value: Any) -> str:
    """Return a digest of what was read: every path, kind, shape and number."""
    digest = hashlib.blake2b()
    if isinstance(value, Checkpoint):
        value = [value.state, value.metadata]
    if isinstance(value, MemorySnapshot):
        value = [dict(value.tensors), value.memory_index, value.filled, value.metadata]
    for path, node in nodes_of(value):
        digest.update(f"{path} {type(node).__name__}".encode(errors="backslashreplace"))
        if isinstance(node, np.ndarray):
            digest.update(f"{node.dtype} {node.shape}".encode() + np.ascontiguousarray(node).tobytes())
        elif not isinstance(node, dict | list | tuple):
            digest.update(repr(node).encode(errors="backslashreplace"))
    return digest.hexdigest()


def _read(each: Honest, path: Path) -> Any:
    value = DOORS[each.reader](path)
    if each.reader == "memory":
        value = keepfast.read_memory(path)
    return value


def _outcome(each: Honest, content: bytes, scratch: Path, whole: str) -> str:
    """Return what became of a case: ``refused``, ``value``, ``same``, ``noticed``, or a fault."""
    path = each.place(emptied(scratch), content)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        error, value = became(lambda at: _read(each, at), path, MEMORY, SECONDS)
    if error:
        return f"fault: {error}" if error.startswith("raised") else "refused"
    if not each.sealed:
        return "value"
    if _digest(value) == whole:
        return "same"
    noticed = any(issubclass(each.category, keepfast.KeepfastWarning) for each in told)
    return "noticed" if noticed else "fault: another value than was sealed, and nothing is told"


def main() -> None:
    """Read the cases that standard input tells of."""
    asked = json.loads(sys.stdin.read())
    registry()
    for number in STOPS:
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="fuzzed") as made:
        scratch = Path(made)
        known = {each.name: each for each in honest(emptied(scratch / "honest"))}
        chosen = [known[name] for name in asked["names"]]
        sums = {each.name: _sum(each, each.place(emptied(scratch / "x"), each.content)) for each in chosen}
        watch = _Watch()
        for index, number in asked["cases"]:
            each = chosen[index]
            faulthandler.dump_traceback_later(6 * SECONDS, exit=True)  # where no signal is looked at, for C is at work
            what = _outcome(each, content_of(each, number), scratch / "x", sums[each.name])
            print(json.dumps(f"fault: it ran {seen}" if (seen := watch.taken()) else what), flush=True)


def _sum(each: Honest, path: Path) -> str:
    value = _read(each, path)
    return _digest(value) if each.sealed else ""


if __name__ == "__main__":
    main()
