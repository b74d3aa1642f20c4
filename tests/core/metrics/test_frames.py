"""What a run tracked as tables of other libraries, and as it shows itself."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast


@pytest.fixture
def metrics(tmp_path: Path) -> keepfast.metrics.Metrics:
    rows = [
        (1, {"a": 1.0, "b <i>": 5.0}),
        (3, {"a": 2.0}),
        (3, {"a": 2.5}),
        (7, {"a": float("nan"), "b <i>": 4.0}),
    ]
    lines = [
        json.dumps({"step": step, "wall_time": 1.5, "scalars": {tag: plain(value) for tag, value in scalars.items()}})
        for step, scalars in rows
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return keepfast.read_metrics(tmp_path)


def plain(value: float) -> Any:
    return value if math.isfinite(value) else "NaN"


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("pandas", "polars")]
)
def test_a_table_has_a_row_for_each_step_and_a_column_for_each_tag(
    library: str, metrics: keepfast.metrics.Metrics
) -> None:
    """A tag without a value at a step has none there, which is not NaN where the library tells them apart."""
    if library == "pandas":
        frame = metrics.to_pandas()
        assert list(frame.index) == [1, 3, 7]
        assert list(frame.columns) == ["a", "b <i>"]
        np.testing.assert_array_equal(frame["b <i>"].to_numpy(), [5.0, np.nan, 4.0])
        np.testing.assert_array_equal(frame["a"].to_numpy(), [1.0, 2.5, np.nan])
    else:
        frame = metrics.to_polars()
        assert frame["step"].to_list() == [1, 3, 7]
        assert frame["b <i>"].to_list() == [5.0, None, 4.0]
        assert math.isnan(frame["a"].to_list()[2])


def test_no_value_makes_an_empty_table() -> None:
    """And not an error."""
    nothing = keepfast.metrics.Metrics()
    assert nothing.rows() == []
    assert repr(nothing) == "0 tags"


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_library_that_is_missing_is_named(
    package: str, call: str, metrics: keepfast.metrics.Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(keepfast.MissingDependency, match=f"needs {package}, .*run: pip install"):
        getattr(metrics, call)()


def test_metrics_show_themselves(metrics: keepfast.metrics.Metrics) -> None:
    """Each tag with a small curve and its latest value; in a notebook as a table, foreign text escaped."""
    assert metrics == dict(metrics)
    first, a, b = repr(metrics).splitlines()
    assert first == "2 tags"
    assert a.split() == ["a", "▁▆█", "nan", "at", "7"]
    assert b.split() == ["b", "<i>", "█▁", "4", "at", "7"]
    shown = metrics._repr_html_()
    assert "<td>b &lt;i&gt;</td>" in shown
    assert shown.count("<polyline") == 2
    huge = keepfast.metrics.Series(np.arange(3), np.array([-1e308, 0.0, 1e308]), np.zeros(3))
    assert "▁▅█" in repr(keepfast.metrics.Metrics(a=huge)) or "▁▄█" in repr(keepfast.metrics.Metrics(a=huge))
    void = keepfast.metrics.Series(np.arange(1), np.array([np.nan]), np.zeros(1))
    assert "nan at 0" in repr(keepfast.metrics.Metrics(a=void))
