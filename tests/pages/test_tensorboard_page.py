"""TensorBoard's page of the demo, in a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages.board import served
from tests.pages.browser import needs_browser, shown

pytestmark = [needs_browser, pytest.mark.needs("torch", "tensorboard", "gymnasium")]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a TensorBoard that shows a run of the demo."""
    demo = [sys.executable, "-m", "keepfast.cli", "demo", "--backend", "torch", "--timesteps", "300"]
    subprocess.run([*demo, "--directory", str(tmp_path)], check=True, capture_output=True, timeout=300)
    with served(tmp_path) as shown_at:
        yield shown_at


def test_tensorboard_shows_the_curves_of_the_demo(address: str) -> None:
    """Its page has their cards in groups, the first of them open, with the last value."""
    page = re.sub(r"<style.*?</style>|<[^>]+>", " ", shown(f"{address}#timeseries", 1600, 60_000), flags=re.DOTALL)
    text = " ".join(page.split())
    assert "Episode 3 cards" in text
    assert "Reward 6 cards" in text
    assert re.search(r"Episode / Total timesteps \(mean\) .* 300 \d", text)
