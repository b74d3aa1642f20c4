"""The index believes no lie: a row that no checkpoint of ours could have is passed over."""

from __future__ import annotations

import json
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keepfast
from keepfast.checkpoints import index
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import (
    IndexedCheckpoint,
    exclusive,
    file_digest,
    index_problem,
    read_index,
    write_index,
)
from keepfast.checkpoints.retention import Retention
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
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
}


def test_a_row_of_our_making_is_believed() -> None:
    """Also one from before superseded checkpoints were marked."""
    assert IndexedCheckpoint.from_json(ROW).timestep == 100
    older = {key: value for key, value in ROW.items() if key != "superseded"}
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


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"superseded": True},
        {"own": False, "metric": None, "modules": [], "time": 0.0},
        {"best": True, "files": {"agent": {**FILE, "name": "best_agent.pt"}}},
        {"files": {"policy": {**FILE, "name": "policy_100_previous.pt", "digest": "crc32:00000001"}}},
        {"segments": ["memory_log/segment_100_0123abcd.npz"]},
        {"timestep": 10**17, "files": {"ü_1": {**FILE, "name": f"ü_1_{10**17}.pt"}}, "time": 1.1},
    ],
)
@pytest.mark.parametrize("going", [False, True])
def test_what_was_written_is_known_as_it_would_be_read(tmp_path: Path, change: dict[str, Any], going: bool) -> None:
    """A run reads its own index all the time, and does not parse what it has written."""
    checkpoint = IndexedCheckpoint.from_json({**ROW, **change})
    write_index(tmp_path, [replace(checkpoint, going=going), IndexedCheckpoint.from_json(ROW | OTHER)])
    for name in checkpoint.names:
        (tmp_path / name).touch()
    known = read_index(tmp_path)
    index._known.clear()
    assert known == read_index(tmp_path)
    assert len(known) == 2
    assert [each.going for each in known] == ([False, True] if going else [False, False])


OTHER = {"timestep": 3, "files": {"agent": {**FILE, "name": "agent_3.pt"}}}


@pytest.mark.timing
@pytest.mark.parametrize("keep_last", [None, 1])
def test_a_checkpoint_among_ten_times_as_many_takes_no_hundred_times_as_long(
    tmp_path: Path, keep_last: int | None
) -> None:
    """Also where all of them were superseded, which an index may say, and a run that is started anew does."""

    def seconds(count: int) -> float:
        path = tmp_path / str(count)
        path.mkdir()
        names = {timestep: f"agent_{timestep}.pt" for timestep in range(10, count + 10)}
        rows: list[dict[str, Any]] = [
            {**ROW, "superseded": True, "timestep": timestep, "files": {"agent": {**FILE, "name": name}}}
            for timestep, name in names.items()
        ]
        (path / "index.json").write_text(json.dumps({"version": 1, "checkpoints": rows}))
        for name in names.values():
            (path / name).write_bytes(b"x")
        directory, before = CheckpointDirectory(path), time.process_time()
        metadata = CheckpointMetadata(timestep=5, modules=("policy",), resume={})
        retention = Retention(keep_last, None, 1, "max")
        state = {"policy": {"w": np.zeros(3, np.float32)}}
        directory.write(state, metadata, SafetensorsStore(), separately=False, best=False, retention=retention)
        return time.process_time() - before

    seconds(1)
    assert seconds(3000) < 25 * seconds(300)
