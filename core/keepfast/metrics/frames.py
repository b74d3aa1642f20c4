"""What a run tracked, as a mapping that shows itself and turns into tables of other libraries."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.notebook.tables import text
from keepfast.errors import MissingDependency, shown

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
"""How many characters a curve in a line of text has."""


@final
class Series(NamedTuple):
    """The values of one tag, by step.

    Attributes:
        steps: int64, of shape (n,).
        values: float64, of shape (n,).
        wall_times: float64 seconds since the epoch, of shape (n,).
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    wall_times: NDArray[np.float64]


@final
class Metrics(dict[str, Series]):
    """The scalars of a run: each tag with its steps, values and wall times, by rising step.

    In a notebook it is a table with a small curve of each tag.

    Example:
        >>> frame = keepfast.read_metrics("runs/my_run").to_pandas()  # doctest: +SKIP
    """

    def to_pandas(self) -> Any:
        """Return a DataFrame of pandas: a row for each step, a column for each tag, NaN where a tag has no value.

        Of several values of a tag at one step it is the last.

        Raises:
            MissingDependency: if pandas is not installed.
        """
        pandas = _imported("pandas", "pip install pandas")
        steps, columns = self._wide()
        return pandas.DataFrame(columns, index=pandas.Index(steps, name="step"))

    def to_polars(self) -> Any:
        """Return a DataFrame of polars: a column ``step`` and one for each tag, null where a tag has no value.

        Raises:
            MissingDependency: if polars is not installed.
        """
        polars = _imported("polars", 'pip install "keepfast[data]"')
        steps, columns = self._wide()
        present = {tag: np.isin(steps, series.steps) for tag, series in self.items()}
        made = {
            tag: polars.Series(tag, values).set(~polars.Series(present[tag]), None) for tag, values in columns.items()
        }
        return polars.DataFrame([polars.Series("step", steps), *made.values()])

    def rows(self) -> list[tuple[int, float, str, float]]:
        """Return step, wall time, tag and value of each value, by step and tag."""
        found = [
            (int(step), float(wall_time), tag, float(value))
            for tag, series in self.items()
            for step, value, wall_time in zip(*series, strict=True)
        ]
        return sorted(found, key=lambda row: (row[0], row[2]))

    def _wide(self) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
        parts = [series.steps for series in self.values()]
        steps = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        columns = {}
        for tag, series in self.items():
            columns[tag] = np.full(len(steps), np.nan)
            columns[tag][np.searchsorted(steps, series.steps)] = series.values
        return steps, columns

    def __repr__(self) -> str:
        names = {tag: shown(tag) for tag in self}
        longest = max(map(len, names.values()), default=0)
        lines = [
            f"{names[tag]:<{longest}}  {blocks(series.values):<{_WIDTH}}  {series.values[-1]:.6g} at {series.steps[-1]}"
            for tag, series in self.items()
        ]
        return "\n".join([f"{len(self)} tags", *lines])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{text(tag)}</td><td>{_drawn(series)}</td>"
            f"<td>{series.values[-1]:.6g}</td><td>{series.steps[-1]}</td></tr>"
            for tag, series in self.items()
        )
        head = "<tr><th>tag</th><th>curve</th><th>latest</th><th>step</th></tr>"
        return f"<table>{head}{rows}</table>"


def _imported(package: str, install: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependency(f"this needs {package}, which is not installed; run: {install}") from error


def _thinned(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return at most so many of the finite values, evenly spread, the first and the last among them."""
    finite = values[np.isfinite(values)]
    if len(finite) <= count:
        return finite
    chosen: NDArray[np.float64] = finite[np.linspace(0, len(finite) - 1, count).round().astype(int)]
    return chosen


def _levels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values between 0, the lowest, and 1, the highest; of very large ones too."""
    scaled = values / max(np.abs(values).max(), np.finfo(float).tiny)
    low, high = scaled.min(), scaled.max()
    levels: NDArray[np.float64] = (scaled - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return levels


def blocks(values: NDArray[np.float64]) -> str:
    """Return a small picture of values in a line of text; those that are not finite are left out."""
    thinned = _thinned(values, _WIDTH)
    if not len(thinned):
        return ""
    return "".join(_BLOCKS[round(level * (len(_BLOCKS) - 1))] for level in _levels(thinned))


def _drawn(series: Series) -> str:
    thinned = _thinned(series.values, 100)
    if not len(thinned):
        return ""
    across = np.linspace(0, 120, len(thinned)) if len(thinned) > 1 else np.array([60.0])
    points = " ".join(f"{x:.1f},{22 - 20 * y:.1f}" for x, y in zip(across, _levels(thinned), strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="currentColor"/>'
    return f'<svg width="122" height="24" role="img" aria-label="curve">{line}</svg>'
