"""`keepfast hub`: runs to the Hub and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.hub import hub_fixtures
from tests.core.hub.hub_server import Hub

pytestmark = pytest.mark.needs("huggingface_hub")

Called = tuple[int, str, str]
hub, run = hub_fixtures.hub, hub_fixtures.run


def test_the_command_line_pushes_and_pulls(call: Callable[..., Called], hub: Hub, run: Path, tmp_path: Path) -> None:
    """`keepfast hub push`, `pull` and `card`."""
    assert call("hub", "push", run, "org/cli", "--environment", "Pendulum-v1")[0] == 0
    code, out, _ = call("hub", "card", run, "org/cli")
    assert code == 0
    assert "# PPO" in out
    code, out, _ = call("hub", "pull", "org/cli", tmp_path / "here")
    assert code == 0
    assert (tmp_path / "here" / "results.json").exists()
    code, _, err = call("hub", "pull", "org/missing", tmp_path / "there")
    assert code == 1
    assert "check the name" in err


def test_commands_take_addresses(call: Callable[..., Called], hub: Hub, run: Path) -> None:
    """`inspect` and `verify` read a checkpoint on the Hub as they do one on this machine."""
    assert call("hub", "push", run, "org/cli")[0] == 0
    name = next(name for name in hub.files["org/cli"] if name.startswith("agent."))
    code, out, _ = call("inspect", f"hf://org/cli/{name}")
    assert code == 0
    assert "policy" in out
    assert call("verify", f"hf://org/cli/{name}")[0] == 0
