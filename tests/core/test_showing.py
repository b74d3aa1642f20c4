"""Objects that show themselves: short in a prompt, a table in a notebook."""

from __future__ import annotations

import html.parser
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
from keepfast._system.notebook.tables import table
from keepfast.interfaces.loading.report import Entry, LoadReport

EVIL = "<script>alert(1)</script>\x1b[2J & \u202e'"


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
    assert "<th>loaded</th>" in report._repr_html_()


def shown_objects(net: Callable[..., Any], directory: Path) -> dict[str, Any]:
    """Return one of everything that shows itself, each with a name of its own that is no harmless text."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    agent = keepfast.Agent({"policy": net()}, cfg={"experiment": cfg})
    not_started = repr(agent), agent._repr_html_()
    agent.init({"timesteps": 2})
    for timestep in range(2):
        agent.track_data(EVIL, timestep)
        agent.post_interaction(timestep, 2)
    agent.wait()
    checkpoint = keepfast.Checkpoint({EVIL: {"a": np.ones(3), "b": EVIL}}, {"timestep": 3, "keepfast": EVIL})
    metrics = keepfast.read_metrics(agent.experiment_dir)
    entry = keepfast.MigratedEntry(EVIL, "a", "missing", (2,), (EVIL,), why=EVIL)
    found = {
        "experiment": agent.experiment,
        "agent": agent,
        "agent that was not started": types.SimpleNamespace(_repr_html_=lambda: not_started[1]),
        "metrics": metrics,
        "metrics report": keepfast.metrics.check([EVIL], "PPO"),
        "checkpoint": checkpoint,
        "content": keepfast.read_checkpoint(agent.save(directory / "a.safetensors")),
        "load report": LoadReport(Path(EVIL), (Entry(EVIL, "a", "missing"),), skipped={Path(EVIL): EVIL}),
        "migration": keepfast.MigrationReport(Path(EVIL), EVIL, entries=(entry,), unused=(EVIL,), warnings=(EVIL,)),
        "snapshot": keepfast.MemorySnapshot({EVIL: np.zeros((4, 2, 3))}, 0, 0, True, {EVIL: EVIL}),
    }
    agent.close()
    return found


class Balanced(html.parser.HTMLParser):
    """Takes HTML in which every element is closed, and none is a script."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag != "script"
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_users_hold_is_a_table_in_a_notebook(net: Callable[..., Any], tmp_path: Path) -> None:
    """Of whole elements, with every text escaped, whoever wrote it; a prompt has one short line of it."""
    for name, each in shown_objects(net, tmp_path).items():
        page = each._repr_html_()
        parser = Balanced()
        parser.feed(page)
        assert parser.open == [], name
        assert "<table>" in page, name
        assert "\x1b" not in page, name
        if name != "agent that was not started":
            assert "\x1b" not in repr(each), name
            assert "\n" not in repr(each) or name == "metrics", name


def test_metrics_have_a_small_picture(net: Callable[..., Any], tmp_path: Path) -> None:
    """In what notebooks ask for, and blocks in a prompt."""
    bundle = shown_objects(net, tmp_path)["metrics"]._repr_mimebundle_()
    assert "<svg" in bundle["text/html"]
    assert "\u2588" in bundle["text/plain"]


def test_a_long_table_is_cut() -> None:
    """It says how much more there is."""
    assert table(("a",), ((number,) for number in range(1000))).endswith("<p>and 800 more</p>")
