"""Whatever lies in the spool of this machine, what asks it answers, and looks at nothing beside it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepfast._system.remote.record import Record
from keepfast._system.remote.spool import address_at, kept

PART = {"digest": "crc32:0", "size": 3, "inner": ["a"]}
GOOD: dict[str, Any] = {
    "address": "memory://b/run", "parts": {"checkpoints/agent_2.dcp": PART}, "files": {"config.json": [1, 2]},
    "tags": {"config.json": "x"}, "index": "", "pending": "", "token": "", "is_complete": True, "leased_until": 1.5,
}  # fmt: skip
ODD: list[Any] = [None, True, 10**400, float("nan"), ["x"], [[1]], {"a": None}, {"a": ["x"]}, "x", 1.5]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty spool."""
    monkeypatch.setenv("KEEPFAST_SPOOL", str(tmp_path / "spool"))
    (tmp_path / "spool" / "b").mkdir(parents=True)
    return tmp_path / "spool"


def record(spool: Path, document: Any, name: str = ".run.remote") -> Record:
    (spool / "b" / name).mkdir(exist_ok=True)
    (spool / "b" / name / "record.json").write_text(json.dumps(document))
    return Record.of(spool / "b" / "run")


def test_a_record_of_the_right_kinds_is_taken(spool: Path) -> None:
    """With all that it tells."""
    assert record(spool, GOOD).is_complete


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_record_of_another_kind_is_none(spool: Path, odd: Any) -> None:
    """Each thing in it is of its kind, or nothing is known of the run."""
    fits = {"is_complete": bool, "leased_until": float, "address": str, "index": str, "pending": str, "token": str}
    for key in GOOD:
        if type(odd) is not fits.get(key) or odd != odd:
            assert record(spool, {**GOOD, key: odd}) == Record(), key
    for key in ("digest", "size", "inner"):
        fits_a_part = (key == "digest" and odd == "x") or (key == "inner" and odd in (None, ["x"]))
        if not fits_a_part:
            assert record(spool, {**GOOD, "parts": {"checkpoints/a": {**PART, key: odd}}}) == Record(), key
    for key in ("files", "tags"):
        if not (key == "tags" and odd == "x"):
            assert record(spool, {**GOOD, key: {"config.json": odd}}) == Record(), key


@pytest.mark.parametrize("name", ["..remote", "...remote", "....remote"])
def test_no_record_is_of_what_all_lie_in(spool: Path, name: str) -> None:
    """Nor of what has no name."""
    record(spool, GOOD)
    record(spool, GOOD, name)
    assert [directory for directory, _ in kept()] == [spool / "b" / "run"]


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "no end": lambda path: path.symlink_to("/dev/zero"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "long": lambda path: path.write_bytes(b"memory://" + b"x" * 10**6 + b"\xff"),
    "NUL": lambda path: path.write_bytes(b"memory\0://b"),
}


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="as Linux names what has no end")
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_address_stands_for_none(spool: Path, kind: str) -> None:
    """Nobody waits for it, and it is not read to an end that it has not."""
    SPECIAL[kind](spool / "b" / ".address")
    found = address_at(spool / "b" / "run")
    assert len(str(found)) < 20_000
    assert (found is None) == (kind != "long")
    SPECIAL[kind](spool / "b" / ".run.remote")
    (spool / "b" / ".run.remote").unlink()
    (spool / "b" / ".run.remote").mkdir()
    SPECIAL[kind](spool / "b" / ".run.remote" / "record.json")
    assert Record.of(spool / "b" / "run") == Record()
