"""The index believes no lie: a row that no checkpoint of ours could have is passed over."""

from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedCheckpoint, exclusive, file_digest, index_problem, read_index
from keepfast.checkpoints.retention import Retention
from keepfast.interfaces.checkpoint_store import CheckpointMetadata

FILE = {"name": "agent_100.pt", "size": 1, "digest": ""}
ROW: dict[str, Any] = {
    "timestep": 100,
    "best": False,
    "files": {"agent": FILE},
    "modules": ["policy"],
    "metric": {"tag": "x", "value": 1.0},
    "time": 1.0,
    "versions": {"format": 1},
    "own": True,
    "superseded": False,
    "going": False,
}


def test_a_row_of_our_making_is_believed() -> None:
    """Also one from before superseded checkpoints were marked."""
    assert IndexedCheckpoint.from_json(ROW).timestep == 100
    older = {key: value for key, value in ROW.items() if key not in ("superseded", "going")}
    assert IndexedCheckpoint.from_json(older) == IndexedCheckpoint.from_json(ROW)


@pytest.mark.parametrize("name", ["best_agent.pt", "best_agent_100.pt"])
def test_the_best_have_their_timestep_in_the_name_or_not(name: str) -> None:
    """The very best has the plain name."""
    row = {**ROW, "best": True, "files": {"agent": {**FILE, "name": name}}}
    assert IndexedCheckpoint.from_json(row).names == {name}


LIES: list[dict[str, Any]] = [
    {"timestep": "100"},
    {"timestep": True},
    {"timestep": -1},
    {"timestep": 100.0},
    {"timestep": 200},
    {"timestep": None},
    {"best": 1},
    {"best": True},
    {"files": {}},
    {"files": []},
    {"files": {"agent": "agent_100.pt"}},
    {"files": {"policy": FILE}},
    {"files": {"agent": {**FILE, "name": "agent.pt"}}},
    {"files": {"agent": {**FILE, "size": -1}}},
    {"files": {"agent": {**FILE, "size": "1"}}},
    {"files": {"agent": {**FILE, "digest": None}}},
    {"modules": 5},
    {"modules": [1]},
    {"metric": {"tag": "x", "value": "high"}},
    {"metric": {"tag": "x", "value": None}},
    {"metric": {"tag": "x", "value": True}},
    {"metric": {"tag": "x", "value": 10**400}},
    {"metric": {"tag": 1, "value": 1.0}},
    {"metric": 1.0},
    {"time": "now"},
    {"versions": None},
    {"own": "yes"},
    {"superseded": None},
    {"going": "no"},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_row_that_lies_is_passed_over(tmp_path: Path, lie: dict[str, Any]) -> None:
    """Whatever is wrong with it, the other rows count and the problem is told."""
    with pytest.raises(keepfast.InvalidValue, match="a row of the index"):
        IndexedCheckpoint.from_json({**ROW, **lie})
    other = {**ROW, "timestep": 200, "files": {"agent": {**FILE, "name": "agent_200.pt"}}}
    (tmp_path / "index.json").write_text(json.dumps({"version": 1, "checkpoints": [{**ROW, **lie}, other]}))
    assert [checkpoint.timestep for checkpoint in read_index(tmp_path)] == [200]
    assert "index.json` is damaged: a row of the index" in str(index_problem(tmp_path))


ELSEWHERE = ["../notes_100.txt", "/tmp/notes_100.txt", "..", ".", "", "a/agent_100.pt", "agent_100.pt\0", "index.json"]


@pytest.mark.parametrize("name", [*ELSEWHERE, "notes.txt", "agent.pt", ".agent_100.pt"])
@pytest.mark.parametrize("key", ["agent", "../notes", "a/agent", ""])
def test_retention_removes_no_file_that_no_checkpoint_has(tmp_path: Path, key: str, name: str) -> None:
    """An index that names other files, in the directory or outside, leads to none of them."""
    directory = CheckpointDirectory(tmp_path / "run" / "checkpoints")
    directory.path.mkdir(parents=True)
    innocent = [directory.path / "notes.txt", directory.path / "agent.pt", directory.path.parent / "notes_100.txt"]
    for path in innocent:
        path.write_text("somebody's own")
    row = {**ROW, "files": {key: {**FILE, "name": name}}}
    (directory.path / "index.json").write_text(json.dumps({"version": 1, "checkpoints": [row]}))
    directory.adopt()
    store = keepfast.plugins.registry().get("checkpoint format", "pt")()
    for timestep in (200, 300):
        metadata = CheckpointMetadata(timestep=timestep, modules=("policy",), resume={})
        keep = Retention(1, None, 1, "max")
        directory.write({"policy": {"w": 1}}, metadata, store, separately=False, best=False, retention=keep)
    assert all(path.exists() for path in innocent)
    assert [checkpoint.timestep for checkpoint in read_index(directory.path)] == [300]


def test_the_digest_of_a_large_file_is_of_all_of_it(tmp_path: Path) -> None:
    """However many parts it is read in."""
    content = bytes(range(256)) * 20_000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == f"crc32:{zlib.crc32(content):08x}"


def test_an_index_is_changed_by_one_at_a_time(tmp_path: Path) -> None:
    """Whoever reads, changes and commits it has it alone; the next one sees what came of it."""
    entered = threading.Event()

    def enter() -> None:
        with exclusive(tmp_path):
            entered.set()

    other = threading.Thread(target=enter)
    with exclusive(tmp_path):
        other.start()
        assert not entered.wait(0.2)
    assert entered.wait(30)
    other.join()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "agent", "x"]), below),
    max_leaves=8,
)


@given(lie=st.dictionaries(st.sampled_from([*ROW]), JSON) | JSON)
def test_no_row_does_more_than_be_passed_over(lie: Any) -> None:
    """Any JSON in the place of anything is one kind of error, or a checkpoint whose fields are what they should be."""
    row = {**ROW, **lie} if isinstance(lie, dict) else lie
    try:
        made = IndexedCheckpoint.from_json(row)
    except keepfast.InvalidValue:
        return
    assert made.names == {"agent_100.pt"}
    assert made.timestep == 100
    assert made.score is None or isinstance(made.score, float)


@pytest.mark.parametrize("content", ["", "[" * 100_000, "[]", "{}", '{"checkpoints": 5}', "\0"])
def test_an_index_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    """It counts as none; one that is not there is no problem."""
    assert index_problem(tmp_path) is None
    (tmp_path / "index.json").write_text(content)
    assert read_index(tmp_path) == []
    assert "index.json` cannot be read" in str(index_problem(tmp_path))
