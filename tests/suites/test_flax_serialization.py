"""Flax's own tests of its serialization, where bytes go through a `.msgpack` of Keepfast's, written and read by it."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest
from flax import serialization

from keepfast.formats.checkpoints.msgpack import MsgpackStore
from keepfast.interfaces.checkpoint_store import Checkpoint
from tests.suites import sources

sources.package(sources.source("flax") / "tests", "flax_tests")
TESTS = __import__("importlib").import_module("flax_tests.serialization_test")

ORIGINAL_SERIALIZE, ORIGINAL_RESTORE = serialization.msgpack_serialize, serialization.msgpack_restore


def written(state: Any) -> bytes:
    """Return the file that Keepfast writes of a state dict."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.msgpack")
        MsgpackStore().save(Checkpoint(ORIGINAL_RESTORE(ORIGINAL_SERIALIZE(state)), {"timestep": 1}), path)
        return path.read_bytes()


def read(content: bytes) -> Any:
    """Return what Keepfast reads of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.msgpack")
        path.write_bytes(content)
        return MsgpackStore().load(path).state


def restored(content: bytes) -> Any:
    """Return what Flax restores of our file; a leaf that is the whole state stands there under a key."""
    found = ORIGINAL_RESTORE(content)
    return found["value"] if isinstance(found, dict) and list(found) == ["value"] else found


@pytest.mark.parametrize("ours", ["written by Keepfast", "read by Keepfast"])
@pytest.mark.parametrize(("case", "method"), sources.parameters({"serialization": TESTS}))
def test_flax_serialization(
    case: type[unittest.TestCase], method: str, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Flax serializes is restored from our file by Flax, and from Flax's file by us."""
    if ours == "written by Keepfast":
        monkeypatch.setattr(serialization, "msgpack_serialize", lambda state, in_place=False: written(state))
        monkeypatch.setattr(serialization, "to_bytes", lambda target: written(serialization.to_state_dict(target)))
        monkeypatch.setattr(serialization, "msgpack_restore", restored)
    else:
        monkeypatch.setattr(serialization, "msgpack_restore", read)
    sources.run(case, method)
