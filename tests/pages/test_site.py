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
    pytest.mark.skipif(
        importlib.util.find_spec("zensical") is None, reason="needs zensical, which the session installs"
    ),
]


PROJECT = Path(__file__).parents[2]
SOURCES = ("mkdocs.yml", "docs", "core", "backends", "writers")

PAGES = sorted(
    path.relative_to(PROJECT / "docs").with_suffix("").as_posix() for path in (PROJECT / "docs").rglob("*.md")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the documentation as it is built."""
    folder = tmp_path_factory.mktemp("site")
    for name in SOURCES:
        (folder / name).symlink_to(PROJECT / name)
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder / "site"


@pytest.mark.parametrize("width", [400, 1000, 1600])
@pytest.mark.parametrize(
    "page", ["index", "configuration", "command-line", "how-to/troubleshooting", "reference/experiment"]
)
def test_a_page_fits_its_window(site: Path, page: str, width: int) -> None:
    """Nothing hangs over, nothing comes from elsewhere, no picture is missing."""
    found = look(site / f"{page}.html", width)
    assert found["needed"] <= found["width"]
    assert found["broken"] == []
    assert [address for address in found["loaded"] if not address.startswith("file:")] == []
    assert found["text"] > 500


@pytest.mark.parametrize("page", PAGES)
def test_every_page_fits_a_phone(site: Path, page: str) -> None:
    """Each of them, of whatever kind."""
    found = look(site / f"{page}.html", 400)
    assert found["needed"] <= found["width"]
    assert found["broken"] == []
