"""Images by Pillow: videos as animated GIFs, which is how TensorBoard keeps them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast import MissingDependency, ShapeMismatch


def encode_gif(video: NDArray[Any], fps: float) -> tuple[bytes, tuple[int, int, int]]:
    """Return videos as one animated GIF, several of them side by side in a grid.

    The libraries leave this to moviepy, which PyTorch's cannot use in its present versions.

    Args:
        video: of shape (N, T, C, H, W), with 1 or 3 channels; uint8 in 0 to 255, or floats in 0 to 1.
        fps: frames per second.

    Returns:
        The file, and the height, width and channels of its frames.

    Raises:
        ShapeMismatch: if the shape is another one.
        MissingDependency: if Pillow is not installed.
    """
    if video.ndim != 5 or video.shape[2] not in (1, 3) or 0 in video.shape:
        raise ShapeMismatch(f"a video has the shape {video.shape}; allowed: (N, T, C, H, W) with 1 or 3 channels")
    frames = [pillow().fromarray(frame) for frame in _grid(_as_bytes(video))]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=max(1, round(1000 / fps)), loop=0)
    return file.getvalue(), (frames[0].height, frames[0].width, 3)


def pillow() -> Any:
    """Return Pillow's module of images, which both libraries need for images, and we for videos.

    Raises:
        MissingDependency: if it is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingDependency("images and videos need Pillow; run: pip install pillow") from None
    return Image


def _as_bytes(video: NDArray[Any]) -> NDArray[np.uint8]:
    if video.dtype == np.uint8:
        return video
    return (np.nan_to_num(video.astype(np.float32)) * 255).clip(0, 255).astype(np.uint8)


def _grid(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames of shape (T, rows * H, columns * W, 3)."""
    count, length, channels, height, width = video.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, length, channels, height, width), np.uint8)
    cells[:count] = video
    cells = cells.reshape(rows, columns, length, channels, height, width).transpose(2, 0, 4, 1, 5, 3)
    return np.ascontiguousarray(np.broadcast_to(cells, (*cells.shape[:-1], 3))).reshape(
        length, rows * height, columns * width, 3
    )
