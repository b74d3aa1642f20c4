"""Writers that keep what they get, fail or block, for the tests of those that call them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import keepfast


class ListWriter(keepfast.Writer):
    """Keeps what it gets in lists."""

    def __init__(self) -> None:
        self.scalars: list[tuple[int, dict[str, float]]] = []
        self.arrays: list[Any] = []
        self.calls: list[str] = []

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.scalars]

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.scalars.append((step, dict(scalars)))

    def write_histogram(self, tag: str, values: Any, step: int, wall_time: float, *, bins: Any = "tensorflow") -> None:
        self.arrays.append((tag, values, bins))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")

    def state_dict(self) -> dict[str, Any]:
        return {"written": len(self.scalars)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls.append(f"load {state['written']}")


class FailingWriter(keepfast.Writer):
    """Raises as long as `error` is set."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.asked = 0
        self.calls: list[str] = []

    def close(self) -> None:
        self.calls.append("close")

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


class GatedWriter(keepfast.Writer):
    """Blocks in each write until its gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.steps: list[int] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.entered.set()
        self.gate.wait()
        self.steps.append(step)


def write(writer: keepfast.Writer, steps: int) -> None:
    for step in range(steps):
        writer.write_scalars({"a": step / 2}, step, 1.0)
