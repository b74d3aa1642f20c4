"""CsvWriter: one value a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import final

import keepfast
from keepfast_writers._line_file import open_lines

FILE_NAME = "metrics.csv"
HEADER = ("step", "wall_time", "tag", "value")


@final
class CsvWriter(keepfast.Writer):
    """Appends a row to ``metrics.csv`` for each value: step, wall time, tag, value.

    A tag that appears late makes new rows and never a new column, so what was written is never touched again;
    ``frame.pivot(index="step", columns="tag", values="value")`` in pandas makes a column of each tag. Values that are
    not finite are ``nan``, ``inf`` and ``-inf``. Each row is in the file when its write returns; one that a kill tore
    is cut off at the next start. A run that goes on from a checkpoint cuts off every row of a later step.

    Args:
        context: the experiment.
        file_name: the file's name in the experiment's directory.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, context: keepfast.WriterContext, file_name: str = FILE_NAME) -> None:
        path, last = context.directory / file_name, context.resume_step
        self._file = open_lines(path, None if last is None else lambda line: _within(line, last), _rows([HEADER]))

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Append a row for each value, all in one go."""
        rows = [(int(step), repr(float(wall_time)), tag, repr(float(value))) for tag, value in scalars.items()]
        self._file.append(_rows(rows))

    def flush(self) -> None:
        """Return when all rows are on disk."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; one without any value is removed."""
        self._file.close()
        self._file.remove_if_grown_no_further_than(len(_rows([HEADER])))


def _rows(rows: Sequence[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    # A line break within a tag would make one row two lines, which a cut at a resume could part.
    cells = [[str(cell).replace("\r", " ").replace("\n", " ") for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _within(line: bytes, last: int) -> bool:
    try:
        return int(line.partition(b",")[0]) <= last
    except ValueError:
        return line.startswith(b"step,")
