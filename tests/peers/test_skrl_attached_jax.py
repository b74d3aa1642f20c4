"""The agents that skrl has on JAX, of both its lines, attached in skrl's own trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.peers import attached
from tests.peers import skrl_jax as zoo

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


@pytest.fixture(autouse=True)
def _clip_of_older_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give JAX the names back that skrl 1.4.3 calls it by."""
    monkeypatch.setattr(zoo.jnp, "clip", zoo.clip_as_before)


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_an_attached_agent_is_the_agent_and_all_of_it_is_kept(kind: str, tmp_path: Path, tabled: Any) -> None:
    """It becomes what it becomes alone; its tags, checkpoints and memories are there; a killed one goes on exactly."""
    tabled(f"skrl {zoo.skrl_torch.skrl.__version__} on JAX", kind, attached.held(zoo, kind, tmp_path))
