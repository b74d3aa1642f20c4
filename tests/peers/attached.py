"""What every attached agent of skrl is held to, whatever its framework."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import keepfast
from keepfast.metrics import MetricsReport, check
from keepfast.testing.checkpoint_store import assert_same

TIMESTEPS, HALF = 128, 64
PAGE = Path(__file__).parents[2] / "docs" / "adopt" / "skrl.md"


def held(zoo: ModuleType, kind: str, directory: Path) -> dict[str, str]:
    """Train an agent alone, attached, and killed and resumed; return what is the same, for the table.

    All of that with its features on and off; with them off what is resumed was not killed.

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
        if enabled:
            killed(zoo, kind, at / "killed")
            resumed(zoo, kind, at / "killed", None, expected, enabled=True)
        else:
            taken = experiment.directory / "checkpoints" / f"agent_{HALF}{zoo.EXTENSION}"
            resumed(zoo, kind, at / "resumed", taken, expected, enabled=False)
        experiment.close()
    found["results"] = found["killed and resumed"] = "bit for bit"
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


def killed(zoo: ModuleType, kind: str, directory: Path) -> None:
    """Train in a process of its own, which is killed by SIGKILL as soon as its first checkpoint is durable."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(zoo.PRELOADED))
    process = processes.Process(target=_trained_and_killed, args=(zoo.__name__, kind, directory))
    process.start()
    process.join(900)
    assert process.exitcode == -signal.SIGKILL


def _trained_and_killed(zoo_name: str, kind: str, directory: Path) -> None:
    zoo = importlib.import_module(zoo_name)
    zoo.prepare()
    agent, env = zoo.agent_and_env(kind, directory)
    experiment = keepfast.attach(agent, {"writers": ["jsonl"], "checkpoint_interval": HALF}, env=env)
    experiment.when_durable(lambda durable: durable.is_best or os.kill(os.getpid(), signal.SIGKILL))
    zoo.train(agent, env, 0, TIMESTEPS)


def resumed(zoo: ModuleType, kind: str, directory: Path, taken: Path | None, expected: Any, *, enabled: bool) -> None:
    """Go on from a checkpoint, or in the directory of the run that was killed, and end as what was not interrupted."""
    agent, env = zoo.agent_and_env(kind, directory, enabled=enabled)
    with keepfast.attach(agent, {"writers": ["jsonl"], "checkpoint_interval": HALF}, env=env) as experiment:
        assert (experiment.resume() if taken is None else experiment.resume(taken)) == HALF
        zoo.train(agent, env, HALF, TIMESTEPS)
        assert experiment.completed == TIMESTEPS
    assert_same(zoo.state(agent), expected)
    if taken is None:
        steps = keepfast.read_metrics(experiment.directory)["Reward / Instantaneous reward (mean)"].steps
        assert list(steps) == list(range(16, TIMESTEPS + 1, 16))


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
    source, env = zoo.agent_and_env(kind, directory / "source", enabled=False)
    with keepfast.attach(source, {"writers": [], "checkpoint_interval": 0}, env=env):
        zoo.train(source, env, 0, HALF // 2 + 3)
        paths = [source.memory.save(str(directory / form), format=form) for form in ("pt", "npz", "safetensors")]
        rows = zoo.rows(source.memory)
    for path in paths:
        assert len(keepfast.read_memory(path)) == len(source.memory)
        other, env = zoo.agent_and_env(kind, directory / f"into {path.suffix}", enabled=False)
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
