"""Images and figures, as trackers take them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def channels_last(image: NDArray[Any], dataformats: str) -> NDArray[Any]:
    """Return images of shape (N, H, W, C), uint8 in 0 to 255."""
    missing = [axis for axis in "NHWC" if axis not in dataformats]
    expanded = image.reshape(*image.shape, *(1 for _ in missing))
    order = [(dataformats + "".join(missing)).index(axis) for axis in "NHWC"]
    ordered = expanded.transpose(order)
    return ordered if ordered.dtype == np.uint8 else (ordered * 255).clip(0, 255).astype(np.uint8)


def picture_of(image: NDArray[Any]) -> Any:
    """Return an image of shape (H, W, C) as one of Pillow's."""
    from PIL import Image

    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def picture_of_figure(figure: Any) -> Any:
    """Return a matplotlib figure as an image of Pillow's."""
    from PIL import Image

    png = io.BytesIO()
    figure.savefig(png, format="png")
    return Image.open(png)


def close_figures(figures: list[Any]) -> None:
    """Close figures of matplotlib."""
    from matplotlib import pyplot as plt

    for one in figures:
        plt.close(one)
