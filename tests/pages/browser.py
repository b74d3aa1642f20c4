"""Chromium, which shows a page and says how it looks."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is here, so no page was looked at in a browser")

_MEASURE = """
<script>addEventListener("load", () => {
  const root = document.documentElement, style = getComputedStyle(document.body);
  const seen = [...document.querySelectorAll("svg, img")].map(each => each.getBoundingClientRect());
  const labels = [...document.querySelectorAll("svg text")].map(each => each.getBoundingClientRect().height);
  parent.postMessage(JSON.stringify({
    address: location.href, width: innerWidth,
    needed: root.scrollWidth, height: root.scrollHeight, title: document.title,
    ground: style.backgroundColor, ink: style.color, text: document.body.innerText.length,
    pictures: seen.filter(box => box.width > 50 && box.height > 20).length, of: seen.length,
    smallest: labels.length ? Math.min(...labels) : null,
    loaded: performance.getEntriesByType("resource").map(each => each.name),
    broken: [...document.images].filter(each => each.complete && !each.naturalWidth).map(each => each.src),
  }), "*");
});</script>
"""

_FRAME = """<!doctype html><meta charset="utf-8">
<script>
  const told = [];
  addEventListener("message", each => {
    told.push(JSON.parse(each.data)); document.documentElement.dataset.found = JSON.stringify(told);
  });
</script>
FRAMES
"""
"""What holds pages, since the window of a browser without a screen is no narrower than 500 pixels."""


def _run(address: str, width: int, *arguments: str, dark: bool = False) -> str:
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="keepfast-browser-") as profile:
        command = [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--window-size={width},1000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", *arguments, "--dump-dom", address,
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def shown(address: str, width: int = 1000, milliseconds: int = 10_000) -> str:
    """Return the document of an address as it is after some time of the page's own."""
    return _run(address, width, f"--virtual-time-budget={milliseconds}")


def photograph(address: str, path: Path, width: int, height: int) -> None:
    """Write a picture of an address, as a window of a size shows it, into a PNG file."""
    sized = f"--window-size={width},{height}"
    _run(address, width, sized, f"--screenshot={path}", "--hide-scrollbars", "--virtual-time-budget=60000")


def look(page: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Return how a page looks in a window of a width, with no network: sizes, colours, pictures, what it loads."""
    (found,) = look_at_all([page], width, dark=dark)
    return found


def look_at_all(pages: Sequence[Path], width: int, *, dark: bool = False) -> list[dict[str, Any]]:
    """Return how each of several pages looks, as `look` has it, in the order in which they came to be shown."""
    frames = []
    for page in pages:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
        copy = page.with_name(f"looked-at-{page.name}")
        copy.write_text(text.replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
        frames.append(f'<iframe src="{copy.as_uri()}" style="width:{width}px;height:1000px;border:0"></iframe>')
    frame = pages[0].with_name("frame-of-it.html")
    frame.write_text(_FRAME.replace("FRAMES", "\n".join(frames)), encoding="utf-8")
    document = _run(frame.as_uri(), width + 100, f"--virtual-time-budget={10_000 + 1000 * len(pages)}", dark=dark)
    found = re.search(r'data-found="([^"]*)"', document)
    assert found is not None, "no page did load"
    told: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    assert len(told) == len(pages)
    return told
