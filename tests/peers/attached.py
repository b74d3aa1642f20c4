"""What every attached agent of skrl is held to, whatever its framework."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keepfast
from keepfast.metrics import MetricsReport, check
from keepfast.testing.checkpoint_store import assert_same

TIMESTEPS, HALF = 128, 64
PAGE = Path(__file__).parents[2] / "docs" / "adopt" / "skrl.md"


def held(zoo: ModuleType, kind: str, directory: Path) -> dict[str, str]:
    """Train an agent alone, attached with its features on and off, and resumed; return what is the same, for the table.

    Raises:
        AssertionError: if anything is not as it should be.
    """
    found: dict[str, str] = {}
    for enabled in (True, False):
        at = directory / ("on" if enabled else "off")
        expected = trained_alone(zoo, kind, at / "alone", enabled=enabled)
        agent, experiment = trained_attached(zoo, kind, at / "attached", enabled=enabled)
        assert_same(zoo.state(agent), expected)
        report = check(experiment.directory, kind)
        found[f"tags {at.name}"] = told(report)
        require_on_page(kind, report)
        taken = experiment.directory / "checkpoints" / f"agent_{HALF}{zoo.EXTENSION}"
        assert_same(zoo.state(resumed(zoo, kind, at / "resumed", taken, enabled=enabled)), expected)
        experiment.close()
    found["results"] = found["resumed"] = "bit for bit"
    found["its own load"] = loaded(zoo, kind, directory / "loaded", agent, experiment)
    found["memory"] = "comes back" if memory_returns(zoo, kind, directory / "memory", agent) else "has none"
    return found


def trained_alone(zoo: ModuleType, kind: str, directory: Path, *, enabled: bool) -> Any:
    agent, env = zoo.agent_and_env(kind, directory, enabled=enabled, write_interval=0, checkpoint_interval=0)
    zoo.train(agent, env, 0, TIMESTEPS)
    return zoo.state(agent)


def trained_attached(zoo: ModuleType, kind: str, directory: Path, *, enabled: bool) -> tuple[Any, Any]:
    agent, env = zoo.agent_and_env(kind, directory, enabled=enabled)
    kind_of_agent = type(agent)
    experiment = keepfast.attach(agent, {"writers": ["jsonl"], "checkpoint_interval": HALF}, env=env)
    zoo.train(agent, env, 0, TIMESTEPS)
    experiment.wait()
    assert type(agent) is kind_of_agent
    return agent, experiment


def resumed(zoo: ModuleType, kind: str, directory: Path, taken: Path, *, enabled: bool) -> Any:
    """Return a fresh agent that went on from a checkpoint, before its `init`."""
    agent, env = zoo.agent_and_env(kind, directory, enabled=enabled)
    with keepfast.attach(agent, {"writers": ["jsonl"], "checkpoint_interval": HALF}, env=env) as experiment:
        assert experiment.resume(taken) == HALF
        zoo.train(agent, env, HALF, TIMESTEPS)
        assert experiment.completed == TIMESTEPS
    return agent


def loaded(zoo: ModuleType, kind: str, directory: Path, agent: Any, experiment: Any) -> str:
    """Load a checkpoint with skrl's own `load`, and compare the models."""
    fresh, _ = zoo.agent_and_env(kind, directory, enabled=False)
    fresh.load(str(experiment.directory / "checkpoints" / f"agent_{TIMESTEPS}{zoo.EXTENSION}"))
    assert_same(zoo.models(fresh), zoo.models(agent))
    return "takes it"


def memory_returns(zoo: ModuleType, kind: str, directory: Path, agent: Any) -> bool:
    """Export a memory of skrl in each format, and import it into that of another agent."""
    if agent.memory is None:
        return False
    for form in ("pt", "npz", "safetensors"):
        source, env = zoo.agent_and_env(kind, directory / form / "source", enabled=False)
        with keepfast.attach(source, {"writers": [], "checkpoint_interval": 0}, env=env):
            zoo.train(source, env, 0, HALF // 2 + 3)
            path = source.memory.save(str(directory / form), format=form)
            rows = zoo.rows(source.memory)
        assert len(keepfast.read_memory(path)) == len(source.memory)
        other, env = zoo.agent_and_env(kind, directory / form / "other", enabled=False)
        with keepfast.attach(other, {"writers": [], "checkpoint_interval": 0}, env=env):
            zoo.trainer_of(other, env, HALF)
            other.memory.load(path)
            assert_same(zoo.rows(other.memory), rows)
            assert (other.memory.memory_index, other.memory.filled) == (
                source.memory.memory_index,
                source.memory.filled,
            )
    return True


def told(report: MetricsReport) -> str:
    parts = [f"{len(report.missing)} missing"] * bool(report.missing)
    parts += [f"{len(report.respelled)} otherwise spelled"] * bool(report.respelled)
    extra = [tag for tag in report.extra if not tag.startswith("Stats /")]
    parts += [f"{len(extra)} more"] * bool(extra)
    return ", ".join(parts) or "as in the table"


def require_on_page(kind: str, report: MetricsReport) -> None:
    """Check that the page has a row for each difference between an agent and the table."""
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith((f"| {kind} |", "| all |"))
    ]
    different = {*report.missing, *report.respelled, *report.extra}
    plain = {tag if tag.endswith("(ms)") else _STATISTIC.sub("", tag) for tag in different}
    assert [tag for tag in sorted(plain) if not any(f"`{tag}`" in row for row in rows)] == []


_STATISTIC = re.compile(r" \((?:max|min|mean)\)$")

KILLED = """
import os, signal
from pathlib import Path
import keepfast
from tests.peers import {zoo} as zoo

agent, env = zoo.agent_and_env({kind!r}, Path({directory!r}))
experiment = keepfast.attach(agent, {{"writers": ["jsonl"], "checkpoint_interval": {half}}}, env=env)
experiment.when_durable(lambda durable: durable.is_best or os.kill(os.getpid(), signal.SIGKILL))
zoo.train(agent, env, 0, {timesteps})
"""


def killed_and_resumed(zoo: ModuleType, kind: str, directory: Path) -> None:
    """Kill a process once a checkpoint is durable, go on in its directory, and compare with one that was not killed."""
    name = zoo.__name__.rpartition(".")[2]
    script = KILLED.format(zoo=name, kind=kind, directory=str(directory), half=HALF, timesteps=TIMESTEPS)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    expected = trained_alone(zoo, kind, directory / "alone", enabled=True)
    agent, env = zoo.agent_and_env(kind, directory)
    with keepfast.attach(agent, {"writers": ["jsonl"], "checkpoint_interval": HALF}, env=env) as experiment:
        start = experiment.resume()
        assert start == HALF
        zoo.train(agent, env, start, TIMESTEPS)
    assert_same(zoo.state(agent), expected)
    steps = keepfast.read_metrics(experiment.directory)["Reward / Instantaneous reward (mean)"].steps
    assert list(steps) == list(range(16, TIMESTEPS + 1, 16))
