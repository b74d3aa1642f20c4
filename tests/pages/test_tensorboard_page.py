"""TensorBoard's page of the demo, in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages.browser import needs_browser, shown

pytestmark = [needs_browser, pytest.mark.needs("torch", "tensorboard", "gymnasium")]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a TensorBoard that shows a run of the demo."""
    demo = [sys.executable, "-m", "keepfast.cli", "demo", "--backend", "torch", "--timesteps", "300"]
    subprocess.run([*demo, "--directory", str(tmp_path)], check=True, capture_output=True, timeout=300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", str(port)]
    running = subprocess.Popen(board, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        running.terminate()
        running.wait(30)


def test_tensorboard_shows_the_curves_of_the_demo(address: str) -> None:
    """Its page has a card for each tag's group."""
    page = shown(f"{address}#timeseries", 1600, 30_000)
    assert "Total reward (mean)" in page
    assert "Policy loss" in page
