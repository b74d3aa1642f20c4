"""The model card of a run: what it is, how well it does, and how it is loaded, for people and for the Hub."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from keyword import iskeyword
from typing import Any, final

import numpy as np

from keepfast._version import __version__
from keepfast.errors import shown
from keepfast.metrics.frames import Series

_LONGEST_TEXT, _LONGEST_CELL = 200, 1000
_WIDTH, _HEIGHT, _EDGE = 640, 320, 48


@final
@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Attributes:
        repo_id: the repository.
        checkpoint: the name of the checkpoint's file.
        backend: what the modules are of.
        modules: their names.
        agent: the algorithm.
        environment: where it was trained; "" where nothing tells.
        results: what `results.json` holds.
    """

    repo_id: str
    checkpoint: str
    backend: str
    modules: Sequence[str]
    agent: str
    environment: str
    results: Mapping[str, Any]

    @property
    def score(self) -> str:
        """Return the score as it is shown."""
        mean, deviation = self.results.get("mean_reward"), self.results.get("std_reward")
        return "not known" if mean is None else f"{mean:.2f} +/- {deviation or 0:.2f}"


def card(facts: Facts, *, curve: bool) -> str:
    """Return the card, in Markdown behind the metadata that the Hub reads.

    Args:
        facts: what it tells.
        curve: whether there is a picture of the reward.
    """
    agent, environment = _cell(facts.agent), _cell(facts.environment)
    title = f"{agent} on {environment}" if environment else agent
    parts = [f"---\n{_metadata(facts)}---\n", f"# {title}", f"Mean reward: **{facts.score}**"]
    parts += ["![the reward over the training](curve.svg)"] if curve else []
    rows = {"Algorithm": agent, "Environment": environment or "not known"}
    modules = _cell(", ".join(facts.modules), _LONGEST_CELL)
    rows |= {"Modules": modules, "Timestep": facts.results.get("timestep", "not known")}
    parts.append("\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]))
    parts.append(f"## Loading it\n\n{_loading(facts)}")
    parts.append(f"Made with Keepfast {__version__}.")
    return "\n\n".join(parts) + "\n"


def _cell(text: str, most: int = _LONGEST_TEXT) -> str:
    """Return text of a run as it stands in a card: short, on one line, in one cell of a table."""
    return shown(text, most).replace("|", "\\|")


def _loading(facts: Facts) -> str:
    """Return how it is loaded: four lines for each framework, the other one's by migration."""
    address = f"hf://{facts.repo_id}/{facts.checkpoint}"
    module = facts.modules[0] if facts.modules else "policy"
    first = module if module.isidentifier() and not iskeyword(module) and len(module) < _LONGEST_TEXT else "policy"
    name = json.dumps(shown(module))
    load = f'keepfast.load({first}, "{address}", modules=[{name}])'
    migrate = f'keepfast.migrate({{{name}: {first}}}, "{address}")'
    return "\n\n".join(
        f"{title}:\n\n```python\nimport keepfast\nfrom my_networks import {first}\n\n"
        f"report = {load if facts.backend in (backend, 'plain') else migrate}\n```"
        for title, backend in (("PyTorch", "torch"), ("JAX", "jax"))
    )


def _metadata(facts: Facts) -> str:
    """Return the front matter; JSON is YAML, so each value is written as JSON."""
    agent, environment = shown(facts.agent), shown(facts.environment)
    tags = [environment, "reinforcement-learning", "deep-reinforcement-learning", "keepfast"]
    metric = {"type": "mean_reward", "value": facts.score, "name": "mean_reward", "verified": False}
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": environment or "not known", "type": environment or "not known"},
        "metrics": [metric],
    }
    rows = {
        "library_name": "keepfast",
        "tags": [tag for tag in tags if tag],
        "model-index": [{"name": agent, "results": [result]}],
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in rows.items())


def evaluation(facts: Facts) -> str:
    """Return the results in the newer form that the Hub reads from ``.eval_results``.

    The form is that of https://huggingface.co/docs/hub/eval-results.
    """
    row: dict[str, Any] = {
        "dataset": {"id": shown(facts.environment) or "unknown", "task_id": "reinforcement-learning"},
        "value": facts.results.get("mean_reward"),
    }
    with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):  # it is told of none, or of none there is
        time = facts.results["time"]
        row["date"] = datetime.fromtimestamp(time, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    deviation, episodes = facts.results.get("std_reward"), facts.results.get("episodes")
    told = [
        "mean_reward",
        *([] if deviation is None else [f"standard deviation {deviation:g}"]),
        *([str(facts.results["of"])] if "of" in facts.results else []),
        *([] if episodes is None else [f"over {episodes} episodes"]),
    ]
    return f"- {json.dumps({**row, 'notes': ', '.join(told)})}\n"


def curve(series: Series, title: str) -> str:
    """Return a picture of a metric over the timesteps, as SVG."""
    steps, values = series.steps.astype(float), series.values
    kept = np.isfinite(values)
    steps, values = steps[kept], values[kept]
    across = _scaled(steps, _EDGE, _WIDTH - _EDGE)
    down = _scaled(values, _HEIGHT - _EDGE, _EDGE)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    labels = [
        (_WIDTH / 2, 24, title),
        (_EDGE, _HEIGHT - 16, f"{steps[0] if len(steps) else 0:g}"),
        (_WIDTH - _EDGE, _HEIGHT - 16, f"{steps[-1] if len(steps) else 0:g}"),
        (24, _EDGE, f"{high:g}"),
        (24, _HEIGHT - _EDGE, f"{low:g}"),
    ]
    texts = "".join(
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" font-size="12">{_escaped(text)}</text>'
        for x, y, text in labels
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<polyline fill="none" stroke="#1f6feb" stroke-width="2" points="{points}"/>{texts}</svg>\n'
    )


def _scaled(numbers: Any, low: float, high: float) -> Any:
    if not len(numbers):
        return numbers
    span = float(numbers.max() - numbers.min()) or 1.0
    return low + (numbers - numbers.min()) / span * (high - low)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
