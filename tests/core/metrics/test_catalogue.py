"""The table of what each agent tracks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast
from keepfast import metrics, plugins
from keepfast.cli.inspection.expected import as_markdown

AGENTS = {"A2C", "AMP", "CEM", "DDPG", "DDQN", "DQN", "PPO", "Q-learning", "SAC", "SARSA", "TD3", "TRPO"}

PPO_ALWAYS = {
    *(f"Episode / Total timesteps ({statistic})" for statistic in ("max", "min", "mean")),
    *(f"Reward / Instantaneous reward ({statistic})" for statistic in ("max", "min", "mean")),
    *(f"Reward / Total reward ({statistic})" for statistic in ("max", "min", "mean")),
    "Loss / Policy loss",
    "Loss / Value loss",
    "Policy / Standard deviation",
}


def test_the_table_covers_every_agent() -> None:
    """The table has the twelve agents, and no row twice."""
    assert {row.agent for row in metrics.catalogue} == AGENTS
    assert len({(row.agent, row.group, row.metric) for row in metrics.catalogue}) == len(metrics.catalogue) == 92


def test_every_agent_tracks_rewards_and_episodes() -> None:
    """Rewards and episode lengths are tracked by every agent, each as maximum, minimum and mean."""
    for agent in AGENTS:
        assert {tag for tag in PPO_ALWAYS if "(" in tag} <= set(metrics.tags(agent))


def test_the_tags_of_an_agent() -> None:
    """The tags of PPO are those of the table, with and without those that must be enabled."""
    assert set(metrics.tags("PPO", enabled=False)) == PPO_ALWAYS
    assert set(metrics.tags("ppo")) - PPO_ALWAYS == {"Learning / Learning rate", "Loss / Entropy loss"}


def test_an_unknown_agent_is_told_with_the_nearest() -> None:
    """The error about an unknown agent lists the known ones and the nearest."""
    with pytest.raises(keepfast.InvalidValue, match=r"unknown agent `PP0`; known: A2C.*Did you mean `PPO`"):
        metrics.tags("PP0")


def test_check_tells_missing_from_disabled() -> None:
    """A report tells what is missing, what is merely not enabled, what is there, and what is there besides."""
    report = metrics.check((PPO_ALWAYS - {"Loss / Value loss"}) | {"Resource / CPU usage"}, "PPO")
    assert report.missing == ("Loss / Value loss",)
    assert set(report.disabled) == {"Learning / Learning rate", "Loss / Entropy loss"}
    assert set(report.present) == PPO_ALWAYS - {"Loss / Value loss"}
    assert report.further == ("Resource / CPU usage",)
    assert not report
    assert str(report) == "PPO: missing Loss / Value loss"
    assert metrics.check(PPO_ALWAYS, "PPO")


def test_check_reads_a_run(tmp_path: Path) -> None:
    """A run's directory is checked by the tags found in it."""
    line = {"step": 1, "wall_time": 1.0, "scalars": dict.fromkeys(PPO_ALWAYS, 1.0)}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert metrics.check(tmp_path, "PPO").missing == ()


def test_a_metric_under_another_name_is_told() -> None:
    """With a statistic at its end, in another case, or nearly the same within its group."""
    always = set(metrics.tags("DDPG", enabled=False))
    noise = "Exploration / Exploration noise"
    found = always - {noise, "Loss / Critic loss", "Loss / Policy loss"}
    report = metrics.check([*found, f"{noise} (max)", f"{noise} (mean)", "loss / critic loss", "Loss / Other"], "DDPG")
    assert report.missing == ("Loss / Policy loss",)
    assert report.respelled == {noise: f"{noise} (mean)", "Loss / Critic loss": "loss / critic loss"}
    assert report.extra == ("Loss / Other",)
    assert set(report.further) == {f"{noise} (max)", f"{noise} (mean)", "loss / critic loss", "Loss / Other"}
    assert f"there is `{noise} (mean)` for `{noise}`" in str(report)
    cem = metrics.check(["Coefficient / Mean discounted returns"], "CEM")
    assert cem.respelled == {"Coefficient / Mean disc. returns": "Coefficient / Mean discounted returns"}
    assert cem.extra == ()


def test_what_is_there_under_another_name_is_not_missing() -> None:
    """A run that skrl's DDPG really writes has all that the table asks for."""
    always = metrics.tags("DDPG", enabled=False)
    plain = [tag for tag in always if tag.split(" / ")[0] in ("Exploration", "Q-network", "Target")]
    real = [tag for tag in always if tag not in plain] + [f"{tag} ({way})" for tag in plain for way in ("max", "mean")]
    report = metrics.check(real, "DDPG")
    assert report
    assert (report.missing, report.extra) == ((), ())
    assert set(report.respelled) == set(plain)


@pytest.fixture
def mine() -> Iterator[Callable[[str, Any], None]]:
    """Return what adds an agent as a plugin does, until the end of the test."""
    known = []

    def add(name: str, rows: Any) -> None:
        @keepfast.hookimpl
        def keepfast_agents() -> Any:
            return {name: lambda: rows}

        known.append(SimpleNamespace(keepfast_agents=keepfast_agents))
        plugins.registry().register(known[-1], f"agents-{len(known)}")

    yield add
    for each in known:
        plugins.registry().unregister(each)


def test_a_plugin_adds_an_agent(mine: Callable[[str, Any], None]) -> None:
    """Its tags are asked for and checked as those of the table are."""
    mine("Walker", [metrics.CataloguedMetric("Walker", "Loss", "Step loss", always=True)])
    assert metrics.agents()[-1] == "Walker"
    assert metrics.tags("walker") == ("Loss / Step loss",)
    assert metrics.check(["Loss / Step loss"], "Walker")
    assert len(metrics.catalogue) == 93
    with pytest.raises(keepfast.InvalidValue, match="Did you mean `Walker`"):
        metrics.tags("Walkr")


@pytest.mark.parametrize(
    ("name", "rows", "error", "told"),
    [
        ("ppo", [], keepfast.PluginConflict, "the agent `ppo` of agents-1 is in the table already"),
        ("Walker", ["Loss / Step loss"], keepfast.InvalidValue, "the agent `Walker` of agents-1 gives"),
        ("Walker", [metrics.CataloguedMetric("Runner", "Loss", "x", always=True)], keepfast.InvalidValue, "of it"),
    ],
)
def test_an_agent_that_makes_no_sense_is_told(
    mine: Callable[[str, Any], None], name: str, rows: Any, error: type[Exception], told: str
) -> None:
    """By its name, and that of the plugin that adds it."""
    mine(name, rows)
    with pytest.raises(error, match=told):
        metrics.tags("PPO")


def test_the_page_has_the_table(project: Path) -> None:
    """As `keepfast metrics --format markdown` prints it."""
    page = (project / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert as_markdown(list(metrics.catalogue)) in page
