"""Objects that show themselves: short in a prompt, a table in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keepfast


def test_what_users_hold_says_what_it_is(net: Callable[..., Any], tmp_path: Path) -> None:
    """An experiment, an agent, a report and a memory, each in one line, whatever they hold."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "write_interval": 5}
    agent = keepfast.Agent({"policy": net()}, cfg={"experiment": {**cfg, "best_metric": "a"}})
    assert repr(agent) == f"Agent(policy; not started, {str(tmp_path / 'run')!r})"
    agent.init({"timesteps": 20})
    for timestep in range(10):
        agent.track_data("a", 2.5)
        agent.post_interaction(timestep, 20)
    experiment = f"Experiment('Agent' in {str(tmp_path / 'run')!r}: 10 of 20 timesteps, best 2.5)"
    assert repr(agent.experiment) == experiment
    assert repr(agent) == f"Agent(policy; {experiment})"
    path = agent.save(tmp_path / "agent.safetensors")
    report = agent.load(path)
    assert repr(report) == f"LoadReport({str(path)!r}, timestep 10: {len(report.loaded)} entries loaded, 0 not)"
    agent.close()
    memory = keepfast.MemorySnapshot({"<i>": np.zeros((4, 2, 3))}, 0, 0, filled=True)
    assert repr(memory) == "MemorySnapshot(8 samples of 4 x 2: <i>: float64(4, 2, 3))"
    assert "<td>&lt;i&gt;</td><td>float64</td>" in memory._repr_html_()
    assert "0 not" in report._repr_html_()
