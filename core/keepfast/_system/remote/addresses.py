"""Addresses of places that are not on this machine, as fsspec has them: ``s3://bucket/runs``."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from typing import final

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(.*)", re.DOTALL)
"""A scheme of at least two letters, so that no drive is taken for one; `pathlib` makes one slash of several."""

_ELSEWHERE = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|[\0\\]")
"""What a name has that leads out of where it stands, or that no file can have."""

_SCHEMES = {
    "abfs", "abfss", "adl", "az", "file", "gcs", "gs", "hdfs", "http", "https", "local", "memory", "oss", "s3", "s3a",
    "sftp", "smb", "ssh", "webhdfs",
}  # fmt: skip
"""What is told as an address also where fsspec is not installed."""

_ROOTED = {"file", "local", "sftp", "ssh", "smb"}
"""Schemes whose places begin with a slash."""

_BUCKETS = "buckets/"
"""How the places of the Hub begin that are written to as others are; models there are fetched by its client."""


@final
@dataclass(frozen=True)
class Address:
    """A place elsewhere.

    Attributes:
        scheme: how it is reached.
        place: what stands behind the scheme.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    def __truediv__(self, name: str) -> Address:
        return Address(self.scheme, f"{self.place.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """Return the last part of the place."""
        return self.place.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """Return the place above."""
        return Address(self.scheme, self.place.rpartition("/")[0])


def address_of(given: str | os.PathLike[str]) -> Address | None:
    """Return the address that a path is, or None for one on this machine; a model of the Hub is none."""
    text = os.fspath(given)
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None or not _is_known(found[1], found[2]) or os.path.exists(text):  # noqa: PTH110  (as it was given)
        return None
    place = found[2].strip("/")
    return Address(found[1], f"/{place}" if found[1] in _ROOTED else place)


def is_below(name: str) -> bool:
    """Say whether a name is of something below where it stands, whoever wrote it: no part is empty, "." or ".."."""
    return _ELSEWHERE.search(name) is None


def _is_known(scheme: str, place: str) -> bool:
    if scheme == "hf":
        return place.lstrip("/").startswith(_BUCKETS)
    if scheme in _SCHEMES:
        return True
    if importlib.util.find_spec("fsspec") is None:
        return False
    import fsspec

    return scheme in fsspec.available_protocols() or scheme in fsspec.registry


def as_address(path: object) -> str:
    """Return a path as text, that of an address with the slashes which `pathlib` took from it."""
    address = address_of(str(path))
    return str(path) if address is None else str(address)
