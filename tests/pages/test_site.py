"""The documentation, in a browser."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages.browser import look, needs_browser

pytestmark = [
    needs_browser,
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs, which the session installs"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the documentation as it is built."""
    project = Path(__file__).parents[2]
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("width", [400, 1000, 1600])
@pytest.mark.parametrize("page", ["index", "getting-started", "configuration", "command-line", "plugins"])
def test_a_page_fits_its_window(site: Path, page: str, width: int) -> None:
    """Nothing hangs over, nothing comes from elsewhere, no picture is missing."""
    found = look(site / f"{page}.html", width)
    assert found["needed"] <= found["width"]
    assert found["broken"] == []
    assert [address for address in found["loaded"] if not address.startswith("file:")] == []
    assert found["text"] > 500
