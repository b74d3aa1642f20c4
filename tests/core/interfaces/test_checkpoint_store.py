"""What a checkpoint tells of itself: the same keys in every file, checked where they are read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keepfast
from keepfast.checkpoints.inspection import inspect
from keepfast.interfaces.checkpoint_store import LAST_TIMESTEP, Checkpoint, CheckpointMetadata
from keepfast.plugins.formats import format_of, read_checkpoint

FIRST = ["format_version", "keepfast", "backend", "modules", "time"]

Net = Any


def run(net: Net, directory: Path, **settings: Any) -> Path:
    """Train for ten timesteps, the last interval the best; return the directory of the checkpoints."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "best_metric": "a", **settings}
    with keepfast.Experiment(cfg, timesteps=10) as experiment:
        experiment.register(policy=net, value=net)
        for timestep in range(10):
            net.arrays["body"]["bias"] += 1.0  # what did not change would not be written again where files are separate
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)
    return directory / "run" / "checkpoints"


def keys(path: Path) -> list[str]:
    return list(read_checkpoint(path).metadata)


def test_the_keys_of_every_kind_of_file_stay_as_they_are(net: Callable[..., Net], tmp_path: Path) -> None:
    """Files of today are read tomorrow: periodic ones, the best, those of single modules, and of one module alone."""
    together, apart = run(net(), tmp_path / "a"), run(net(), tmp_path / "b", store_separately=True)
    assert keys(together / "agent_10.safetensors") == [*FIRST, "timestep", "resume"]
    assert keys(together / "best_agent.safetensors") == [*FIRST, "timestep", "metric", "resume"]
    # The best of the same time is there before, and has the value's file for the periodic one, too.
    assert keys(apart / "policy_10.safetensors") == [*FIRST, "timestep", "resume", "set", "module", "unchanged"]
    assert keys(apart / "best_value.safetensors") == [*FIRST, "timestep", "metric", "resume", "set", "module"]
    assert keys(keepfast.save(net(), tmp_path / "one.safetensors")) == [*FIRST, "module"]
    agent = keepfast.Agent({"policy": net()})
    assert keys(agent.save(tmp_path / "agent.safetensors")) == [*FIRST, "timestep"]


def test_what_a_file_tells_is_read_as_it_was_written(net: Callable[..., Net], tmp_path: Path) -> None:
    """Each value has its kind: names are a tuple, the timestep a number, the metric a tag with its value."""
    told = read_checkpoint(run(net(), tmp_path, store_separately=True) / "best_value.safetensors").about
    assert (told.format_version, told.keepfast, told.backend) == (1, keepfast.__version__, "numpy")
    assert (told.modules, told.module, told.timestep) == (("policy", "value"), "value", 10)
    assert told.metric == {"tag": "a", "value": 9.0}
    assert told.resume is not None
    assert set(told.resume) == {"random", "recorder", "best", "improvement"}
    assert told.written_by_keepfast


def test_the_state_of_the_recorder_holds_what_a_resume_reads(net: Callable[..., Net], tmp_path: Path) -> None:
    """The tracker and the writers, and nothing that nobody asks for."""
    told = read_checkpoint(run(net(), tmp_path) / "agent_10.safetensors").about
    assert told.resume is not None
    assert set(told.resume["recorder"]) == {"tracker", "writers"}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_another_tool_tells_nothing(suffix: str, tmp_path: Path) -> None:
    """It says so itself, as does one that an older layout left without metadata."""
    path = tmp_path / f"policy{suffix}"
    format_of("checkpoint format", path).save(Checkpoint({"policy": {"w": np.ones(2)}}), path)
    told = read_checkpoint(path).about
    assert told == CheckpointMetadata()
    assert not told.written_by_keepfast
    assert told.as_mapping() == {}
    assert not inspect(path).metadata.written_by_keepfast


def test_keys_that_nobody_knows_are_passed_over() -> None:
    """A later version may tell more; what is told here is understood all the same."""
    told = CheckpointMetadata.of({"timestep": 5, "weather": "fine", "metric": {"tag": "a", "value": 1, "unit": "m"}})
    assert told == CheckpointMetadata(timestep=5, metric={"tag": "a", "value": 1.0})


LIES: list[tuple[str, Any]] = [
    ("format_version", "one"), ("format_version", -1), ("keepfast", 1), ("backend", ["torch"]),
    ("modules", "policy"), ("modules", [1]), ("modules", 5), ("time", "now"), ("time", True),
    ("timestep", "abc"), ("timestep", -5), ("timestep", 1.5), ("timestep", True),
    ("timestep", 10**18), ("timestep", 2**63), ("timestep", 10**400), ("timestep", float("nan")), ("timestep", [5]),
    ("metric", 3), ("metric", {}), ("metric", {"tag": "a"}), ("metric", {"tag": 1, "value": 1.0}),
    ("metric", {"tag": "a", "value": "high"}), ("metric", {"tag": "a", "value": 10**400}),
    ("resume", []), ("resume", 1), ("set", 1), ("module", 4),
]  # fmt: skip


@pytest.mark.parametrize(("key", "lie"), LIES, ids=str)
def test_a_value_of_another_kind_is_refused_by_its_key(key: str, lie: Any) -> None:
    """The error has the key, the value, and what is allowed."""
    with pytest.raises(keepfast.InvalidValue, match=rf"`{key}` is .*; allowed: a "):
        CheckpointMetadata.of({key: lie})


@pytest.mark.parametrize("lie", [None, [], "text", 5], ids=str)
def test_metadata_is_a_mapping(lie: Any) -> None:
    """A list or a text in its place is refused."""
    with pytest.raises(keepfast.InvalidValue, match=r"the metadata is .*; allowed: a mapping"):
        CheckpointMetadata.of(lie)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_sealed_file_that_makes_no_sense_counts_as_damaged(
    suffix: str, net: Callable[..., Net], tmp_path: Path
) -> None:
    """Its bytes are whole; a load names file and key and changes nothing, and a resume goes on with the one before."""
    checkpoints = run(net(1), tmp_path, checkpoint_format=suffix[1:], checkpoint_interval=5)
    path = checkpoints / f"agent_10{suffix}"
    checkpoint = read_checkpoint(path)
    format_of("checkpoint format", path).save(
        Checkpoint(checkpoint.state, {**checkpoint.metadata, "timestep": "abc"}), path
    )
    own = net(2)
    with pytest.raises(keepfast.CorruptCheckpoint, match=rf"agent_10{suffix}` is damaged: its metadata .*`timestep`"):
        keepfast.load(own, path, modules=["policy"])
    np.testing.assert_array_equal(own.arrays["body"]["weight"], net(2).arrays["body"]["weight"])
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "best_metric": "a", "writers": []}
    with keepfast.Experiment(cfg) as experiment:
        experiment.register(policy=own, value=net())
        with pytest.warns(keepfast.KeepfastWarning, match=r"skipped .*`timestep`.* going on with agent_5"):
            assert experiment.resume() == 5
    np.testing.assert_array_equal(own.arrays["body"]["weight"], net(1).arrays["body"]["weight"])


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "format_version": st.integers(0, 9),
    "keepfast": st.text(),
    "backend": st.text(),
    "modules": st.lists(st.text()).map(tuple),
    "time": st.floats(allow_nan=False),
    "timestep": st.integers(0, LAST_TIMESTEP),
    "metric": st.fixed_dictionaries({"tag": st.text(), "value": st.floats(allow_nan=False)}),
    "resume": st.dictionaries(st.text(), st.integers()),
    "set": st.text(),
    "module": st.text(),
}


@given(told=st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_written_is_what_is_read(told: dict[str, Any]) -> None:
    """Of every metadata comes a mapping that gives it again, its keys in one order."""
    metadata = CheckpointMetadata(**told)
    mapping = metadata.as_mapping()
    assert CheckpointMetadata.of(mapping) == metadata
    assert set(mapping) == set(told)
    assert list(mapping) == [field.name for field in dataclasses.fields(metadata) if field.name in told]


def test_no_room_spells_the_keys_by_hand(project: Path) -> None:
    """Whoever wants what a checkpoint tells asks `Checkpoint.about`."""
    by_hand = re.compile(r"""\bmetadata(\.get\(|\[)|["'] in [\w.]*metadata\b""")
    core = project / "core" / "keepfast"
    rooms = [path for room in ("checkpoints", "modules", "runs") for path in (core / room).glob("*.py")]
    files = [*rooms, core / "agent.py", core / "experiment.py", core / "cli" / "checkpoints.py"]
    assert [path.name for path in files if by_hand.search(path.read_text(encoding="utf-8"))] == []


def test_a_file_of_one_module_has_that_module() -> None:
    """Its state is the module's own, under the name that the file tells; else there is one for each name."""
    state = {"weight": np.ones(2)}
    assert Checkpoint(state, {"module": "policy"}).modules == {"policy": state}
    assert Checkpoint({"policy": state, "value": state}).modules == {"policy": state, "value": state}
