"""Makes the pictures of the documentation, with Chromium: ``python -m tests.pages.screenshots``.

Two runs of the demo, their report, and TensorBoard's page of them; each is photographed as a person sees it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.pages.board import served
from tests.pages.browser import photograph

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
COLOURS = 128
"""How many a picture has, so that it stays small."""


def keepfast(*arguments: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "keepfast.cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def take(address: str, name: str, width: int, height: int) -> None:
    """Photograph a page into the folder of pictures, so much of it as a size says."""
    path = PICTURES / f"{name}.png"
    photograph(address, path, width, 1000)
    Image.open(path).crop((0, 0, width, height)).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Make every picture anew."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder, "runs")
        for seed in (0, 1):
            keepfast("demo", "--seed", seed, "--directory", runs)
        keepfast("report", runs, "-o", Path(folder, "report.html"))
        take(Path(folder, "report.html").as_uri(), "report", 1100, 1000)
        with served(runs) as address:
            take(f"{address}#histograms", "tensorboard", 1300, 425)


if __name__ == "__main__":
    main()
