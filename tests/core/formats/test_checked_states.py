"""What a format can hold is told before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast import Checkpoint, InvalidValue
from keepfast.plugins.formats import stores

LEAVES: dict[str, Any] = {
    "texts": np.array(["a", "bc"]),
    "bytes": np.array([b"a"]),
    "times": np.zeros(2, "M8[s]"),
    "durations": np.zeros(2, "m8[ns]"),
    "structures": np.zeros(2, [("a", "f4")]),
    "objects": np.array([object()]),
    "extended": np.zeros(2, np.longdouble),
    "extended and complex": np.zeros(2, np.clongdouble),
    "a scalar": np.longdouble(1),
    "of the other order": np.zeros(2, ">f4"),
    "an object": object(),
    "a function": len,
    "a set of objects": {1, object()},
    "a key that is an object": {object(): 1},
    "a range": range(3),
    "a number": 2**200,
    "a text": "a\ud800",
    "a slice": slice(1),
}


EXTENSIONS = [
    pytest.param(extension, marks=[pytest.mark.needs(package)] if package else [])
    for extension, package in ((".pt", ""), (".safetensors", ""), (".msgpack", "msgpack"), (".pickle", "msgpack"))
]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("name", LEAVES)
def test_what_is_refused_is_what_cannot_be_written(name: str, extension: str, tmp_path: Path) -> None:
    """Each built-in format refuses the same leaves with the same words, whether they are checked or written."""
    store, state, told = stores()[extension], {"policy": {"inner": [LEAVES[name]]}}, []
    for call in (lambda: store.check(state), lambda: store.save(Checkpoint(state), tmp_path / f"x{extension}")):
        try:
            call()
            told.append("")
        except InvalidValue as error:
            told.append(str(error))
            assert "policy.inner.0" in told[0]
    assert told[0] == told[1]
