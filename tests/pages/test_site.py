"""The documentation, in a browser."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages.browser import look_at_all, needs_browser

pytestmark = [
    needs_browser,
    pytest.mark.skipif(
        importlib.util.find_spec("zensical") is None, reason="needs zensical, which the session installs"
    ),
]


PROJECT = Path(__file__).parents[2]
PACKAGES = ("core", "backends", "writers")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the documentation as it is built."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "docs", folder / "docs")
    shutil.copy(PROJECT / "mkdocs.yml", folder)
    for name in PACKAGES:
        (folder / name).symlink_to(PROJECT / name)
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder / "site"


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_every_page_fits_its_window(site: Path, width: int) -> None:
    """Nothing hangs over, nothing comes from elsewhere, no picture is missing."""
    pages = sorted(path for path in site.rglob("*.html") if not path.name.startswith(("looked-at-", "frame-", "404")))
    assert len(pages) == len(list((PROJECT / "docs").rglob("*.md")))
    for found in look_at_all(pages, width):
        page = found["address"].rpartition("/site/")[2]
        assert (page, found["needed"]) <= (page, found["width"])
        assert (page, found["broken"]) == (page, [])
        assert [address for address in found["loaded"] if not address.startswith("file:")] == []
        assert (page, found["text"] > 300) == (page, True)
