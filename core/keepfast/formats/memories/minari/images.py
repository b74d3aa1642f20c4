"""Images that Minari has compressed as JPEG, each an array of its pixels when it is asked for."""

from __future__ import annotations

import io
import math
from typing import Any, final

import h5py
import numpy as np
from numpy.typing import NDArray

from keepfast.errors import MissingDependency, Unreadable, shown
from keepfast.formats.files.sealed import Damage

COMPRESSION = 1100
"""How many times smaller than its pixels an image can be; JPEG has a few bits for a block of 8 x 8 at the least."""


@final
class Images:
    """A dataset of images, with the shape, dtype and rows that the decoded ones have.

    Args:
        dataset: the dataset.
        count: how many images belong there.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Any, count: int) -> None:
        self._dataset, self.name = dataset, dataset.name
        self.nbytes = dataset.id.get_storage_size()
        if len(dataset) != count:
            raise Damage(f"dataset `{self.name}`", f"has {len(dataset)} values where {count} belong")
        self.shape = (count, *(self._image(0).shape if count else ()))

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Return the pixels of some images, as `Minari` gives them."""
        found = [self._image(index) for index in range(*part.indices(len(self._dataset)))]
        if {image.shape for image in found} != {self.shape[1:]}:
            raise Damage(f"dataset `{self.name}`", "has images of different sizes")
        return np.stack(found)

    def _image(self, index: int) -> NDArray[np.uint8]:
        return image_of(self._dataset[index].tobytes(), f"dataset `{shown(self.name)}`")


def image_of(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG image, as Minari gives them.

    Args:
        content: the image.
        where: what holds it, as errors tell.

    Raises:
        Damage: if it is none.
        MissingDependency: without pillow.
        Unreadable: if it has more pixels than an image of so many bytes may have.
    """
    try:
        from PIL import Image
    except ImportError:
        what = f"the {where} holds JPEG images, which `pillow` reads"
        raise MissingDependency(f"{what}, and it is not installed; run: pip install pillow") from None
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG",))
        if math.prod(image.size) * len(image.getbands()) > COMPRESSION * len(content):
            raise Unreadable(f"the {where} has an image of {image.size} in {len(content)} bytes")
        return np.array(image, np.uint8)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"the {where} has a larger image than `pillow` reads ({error})") from error
    except OSError as error:
        raise Damage(where, "has what is no whole JPEG image") from error


def are_compressed(dataset: Any) -> bool:
    """Say whether a dataset holds images as Minari compresses them: of different lengths, or told by their ends."""
    if h5py.check_vlen_dtype(dataset.dtype) == np.uint8:
        return True
    if dataset.dtype != np.uint8 or dataset.ndim != 2 or not dataset.size:
        return False
    ends = dataset[0, :3].tobytes() + dataset[0, -2:].tobytes()
    return bool(ends == b"\xff\xd8\xff\xff\xd9")
