"""What secrets are called in configurations."""

from __future__ import annotations

import functools
import re

_SECRET = re.compile(
    r"(^|_)((api|access|private|secret|auth)_?keys?|token|secrets?|password|passwd|passphrase|authorization|credentials?)$"
)


@functools.lru_cache(maxsize=1024)
def names_a_secret(key: str) -> bool:
    """Say whether a key is that of a secret, ``wandbApiKey`` and ``HF-TOKEN`` too."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key).lower()
    return _SECRET.search(re.sub(r"[^a-z0-9]+", "_", words).strip("_")) is not None
