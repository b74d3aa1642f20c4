"""The latest values in a notebook's cell."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

import keepfast


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return what the cells of a notebook show, each with all that it showed."""
    shown: list[list[str]] = []

    def display(content: Any, *, display_id: bool) -> Any:
        assert display_id
        shown.append([content._repr_html_()])
        return types.SimpleNamespace(update=lambda new, cell=shown[-1]: cell.append(new._repr_html_()))

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return shown


def test_a_notebook_has_one_table_that_changes(
    cells: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the place of a line a write, in the cell that made the experiment."""
    cfg = {"directory": str(tmp_path), "experiment_name": "<run>", "writers": ["console"], "write_interval": 1}
    with keepfast.Experiment(cfg, timesteps=3) as experiment:
        for timestep in range(3):
            experiment.track_data("Loss / <b>", float(timestep))
            experiment.step(timestep)
    (cell,) = cells
    assert len(cell) == 4
    assert "<td>Loss / &lt;b&gt;</td><td>2</td>" in cell[-1]
    assert "&lt;run&gt;  step 3" in cell[-1]
    assert capsys.readouterr() == ("", "")
