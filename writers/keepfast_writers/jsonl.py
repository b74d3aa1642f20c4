"""JsonlWriter: one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, final

import keepfast
from keepfast.codec import plain
from keepfast_writers._line_file import open_lines

FILE_NAME = "metrics.jsonl"


@final
class JsonlWriter(keepfast.Writer):
    """Appends a line to ``metrics.jsonl`` for each write; needs nothing beyond Python.

    A line is ``{"step": 100, "wall_time": 1700000000.5, "scalars": {"Loss / Policy loss": 0.25}}``, in strict JSON:
    values that are not finite are the strings "NaN", "Infinity" and "-Infinity", also within lists. Texts and
    hyperparameters make lines with the keys "texts", or "hparams" and "metrics", in the place of "scalars". Each line
    is in the file when its write returns; one that a kill tore is cut off at the next start. A run that goes on from a
    checkpoint cuts off every line of a later step.

    Args:
        context: the experiment.
        file_name: the file's name in the experiment's directory.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, context: keepfast.WriterContext, file_name: str = FILE_NAME) -> None:
        last = context.resume_step
        self._file = open_lines(
            context.directory / file_name, None if last is None else lambda line: _step_of(line) <= last
        )

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Append the values of one step as one line."""
        self._append(step, wall_time, scalars=plain({tag: float(value) for tag, value in scalars.items()}))

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Append a line with the key "texts"."""
        self._append(step, wall_time, texts={tag: text})

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Append a line with the keys "hparams" and "metrics"."""
        named = {} if run_name is None else {"run_name": run_name}
        self._append(step, wall_time, hparams=plain(hparams), metrics=plain(metrics), **named)

    def _append(self, step: int, wall_time: float, **content: Any) -> None:
        entry = {"step": int(step), "wall_time": float(wall_time), **content}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        self._file.append(line.encode("utf-8", "backslashreplace") + b"\n")

    def flush(self) -> None:
        """Return when all lines are on disk."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; an empty one is removed."""
        self._file.close()
        self._file.remove_if_grown_no_further_than(0)


def _step_of(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf  # no line of ours: it goes
