"""What checkpoints hold of a memory: the rows that were added, in segments, out of which the whole comes back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keepfast
from keepfast.checkpoints import segments
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import read_index
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.verification import verify
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, CheckpointMetadata
from keepfast.interfaces.loading.memory_log import MOST_SEGMENTS, MemoryLog, Segment
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.tensors.additions import RowLog
from keepfast.plugins.discovery import registry

Make = Callable[..., Any]


def assert_same(found: MemorySnapshot, expected: MemorySnapshot) -> None:
    """Compare two memories: every sample bit for bit, where the next one goes, and what follows what."""
    assert found.ring == expected.ring
    assert found.seams == expected.seams
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].tobytes() == tensor.tobytes(), name


@dataclass
class Run:
    """A memory, and a directory of checkpoints that it is stored in."""

    path: Path
    memory: Any
    keep_last: int | None = None
    log: RowLog = field(default_factory=RowLog)
    kept: dict[int, MemorySnapshot] = field(default_factory=dict)
    timestep: int = 0

    def __post_init__(self) -> None:
        self.directory = CheckpointDirectory(self.path)
        self.store = registry().get("checkpoint format", "safetensors")()

    def checkpoint(self) -> tuple[dict[str, tuple[int, int]], int]:
        """Write one; return which places of each tensor were written, and how many bytes of rows."""
        self.timestep += 1
        state, rows = self.log.take(self.memory, segments.present(self.path))
        about = CheckpointMetadata(format_version=FORMAT_VERSION, keepfast="1", timestep=self.timestep, resume={})
        retention = Retention(self.keep_last, None, 1, "max")
        self.directory.write(
            {"memory": state},
            about,
            self.store,
            separately=False,
            best=False,
            retention=retention,
            rows={"memory": rows},
        )
        self.kept[self.timestep] = self.memory.snapshot()
        return dict(rows.parts), sum(values.nbytes for values in rows.rows.values())

    def assert_whole(self, make: Make, directory: Path | None = None) -> None:
        """Every checkpoint that is there gives the memory of its time, and no segment is there that none needs."""
        path = directory or self.path
        there = CheckpointDirectory(path).checkpoints()
        assert there
        for checkpoint in there:
            memory = make()
            memory.load_state_dict(CheckpointDirectory(path).read(checkpoint).modules["memory"])
            assert_same(memory.snapshot(), self.kept[checkpoint.timestep or 0])
        assert [verdict.problem for verdict in verify(path) if verdict.problem] == []
        assert segments.present(path) == segments.needed(there)


@pytest.fixture
def make(numpy_memory: type[keepfast.Memory]) -> Make:
    def made(memory_size: int = 5, num_envs: int = 2) -> Any:
        memory = numpy_memory(memory_size, num_envs)
        memory.create_tensor("states", 3)
        memory.create_tensor("rewards", 1, dtype=np.float64)
        return memory

    return made


@pytest.fixture
def run(make: Make, tmp_path: Path) -> Run:
    return Run(tmp_path / "checkpoints", make())


_number = iter(range(1, 1 << 30))


def add(memory: Any, count: int, **more: Any) -> None:
    """Add samples of environments, one after the other, no two of them alike."""
    for _ in range(count):
        value = float(next(_number))
        memory.add_samples(states=np.full(3, value, np.float32), rewards=np.full(1, -value), **more)


def refused(run: Run, calls: int) -> None:
    """Write a checkpoint at whose n-th call of the disk, from 0 on, that is full: files are synced, then renamed."""
    left = iter(range(calls))

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            return real(*args)

        return call

    with mock.patch("os.replace", refusing(os.replace)), mock.patch("os.fsync", refusing(os.fsync)):
        try:
            run.checkpoint()
        except OSError:
            run.kept[run.timestep] = run.memory.snapshot()  # it may be there nevertheless


def change_in_place(memory: Any) -> None:
    value = next(_number)
    memory.get_tensor_by_name("states")[value % memory.memory_size, -1] = float(value)


def add_with_marks(memory: Any) -> None:
    value = float(next(_number))
    memory.add_samples(
        states=np.full((2, 3), value, np.float32), rewards=np.full((2, 1), value), valid=np.array([True, False])
    )


def set_rewards(memory: Any) -> None:
    whole = memory.get_tensor_by_name("rewards")
    memory.set_tensor_by_name("rewards", np.full_like(whole, float(next(_number))))


def load_another(memory: Any) -> None:
    other = memory.snapshot()
    memory.reset()
    add(memory, 1)
    memory.restore(other)


STEPS: dict[str, Callable[[Run], object]] = {
    "add one": lambda run: add(run.memory, 1),
    "add some": lambda run: add(run.memory, 3),
    "add a row": lambda run: run.memory.add_samples(states=np.full((2, 3), float(next(_number)), np.float32)),
    "go round": lambda run: add(run.memory, 11),
    "mark": lambda run: add_with_marks(run.memory) if run.memory.env_index == 0 else None,
    "change in place": lambda run: change_in_place(run.memory),
    "set": lambda run: set_rewards(run.memory),
    "load": lambda run: load_another(run.memory),
    "forget": lambda run: run.memory.reset(),
    "move": lambda run: setattr(run.memory, "memory_index", 1),
    "part": lambda run: run.memory.reset_episodes(),
    "checkpoint": lambda run: run.checkpoint(),
    **{f"a disk full at call {calls}": lambda run, calls=calls: refused(run, calls) for calls in range(9)},
}
"""What may become of a memory and its checkpoints."""

CHECKPOINTS = st.sampled_from(["checkpoint", *STEPS])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(CHECKPOINTS, max_size=40), keep_last=st.sampled_from([None, 1, 2]))
def test_every_kept_checkpoint_gives_the_memory_of_its_time(
    make: Make, tmp_path_factory: pytest.TempPathFactory, steps: Sequence[str], keep_last: int | None
) -> None:
    """Whatever is added, changed, refused and removed before it and after it, from where it lies and from a copy."""
    path = tmp_path_factory.mktemp("run") / "checkpoints"
    run = Run(path, make(), keep_last)
    with mock.patch("os.fsync"):
        for step in (*steps, "checkpoint"):
            STEPS[step](run)
        run.directory.sweep()
        CheckpointDirectory(path).adopt()
        run.assert_whole(make)
        shutil.copytree(path, path.with_name("copy"))
        (path.with_name("copy") / "index.json").unlink()
        rebuild(path.with_name("copy"))
        run.assert_whole(make, path.with_name("copy"))
    shutil.rmtree(path.parent)


def test_a_checkpoint_writes_the_new_rows_alone(run: Run) -> None:
    """Also where they go round, and nothing where there are none."""
    add(run.memory, 6)
    assert run.checkpoint()[0] == {"states": (0, 6), "rewards": (0, 6)}
    add(run.memory, 2)
    assert run.checkpoint()[0] == {"states": (6, 2), "rewards": (6, 2)}
    add(run.memory, 4)
    assert run.checkpoint()[0] == {"states": (8, 4), "rewards": (8, 4)}
    assert run.checkpoint() == ({}, 0)
    assert len(segments.present(run.path)) == 3


def test_segments_that_no_kept_checkpoint_needs_are_removed(run: Run) -> None:
    """Once their rows were overwritten in all that are kept, or the memory was written whole."""
    run.keep_last = 2
    counts = []
    for _ in range(12):
        add(run.memory, 2)
        run.checkpoint()
        counts.append(len(segments.present(run.path)))
    assert counts == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6]
    run.memory.reset()
    add(run.memory, 1)
    run.checkpoint()
    run.checkpoint()
    assert len(segments.present(run.path)) == 1


def test_a_memory_that_hardly_grows_is_of_few_segments(make: Make) -> None:
    """After so many it is written whole again."""
    memory, log, there = make(1000, 1), RowLog(), set[str]()
    for number in range(MOST_SEGMENTS + 1):
        add(memory, 1)
        _, rows = log.take(memory, there)
        assert rows.parts["states"] == ((0, number + 1) if number in (0, MOST_SEGMENTS) else (number, 1))
        there.add(f"memory_log/segment_{number}_00000000.pt")
        rows.durable(rows.log.with_segment(Segment(f"memory_log/segment_{number}_00000000.pt", 1, "", rows.parts)))


CHANGES: dict[str, tuple[Callable[[Any], object], set[str]]] = {
    "a view that is given out": (change_in_place, {"states"}),
    "the storage": (lambda memory: memory.storage.buffers["rewards"].fill(7.0), {"rewards"}),
    "what `sample_all` gives": (lambda memory: memory.sample_all(["states"])[0][0].fill(5.0), {"states"}),
    "a tensor that is set": (set_rewards, {"rewards"}),
    "a new tensor": (lambda memory: memory.create_tensor("late", 2), {"late"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_otherwise_is_written_whole(run: Run, make: Make, name: str) -> None:
    """A tensor whose memory was given out is looked at; the others are taken by their new rows."""
    change, changed = CHANGES[name]
    run.memory.get_tensor_by_name("states")
    add(run.memory, 10)
    run.checkpoint()
    add(run.memory, 1)
    change(run.memory)
    parts, _ = run.checkpoint()
    if name not in ("what `sample_all` gives", "the storage"):  # nothing was known of it before it was given out
        assert {tensor for tensor, (_, count) in parts.items() if count == 10} == changed
    found = run.directory.read(read_index(run.path)[-1]).modules["memory"]["tensors"]
    for tensor, values in run.memory.snapshot().tensors.items():
        assert found[tensor].tobytes() == values.tobytes()


def test_a_view_that_nobody_writes_to_costs_a_look(run: Run) -> None:
    """Of a tensor that was given out and not changed, new rows alone are written."""
    run.memory.get_tensor_by_name("states")
    add(run.memory, 10)
    run.checkpoint()
    add(run.memory, 2)
    assert run.checkpoint()[0] == {"states": (0, 2), "rewards": (0, 2)}


def test_rows_of_a_checkpoint_that_was_refused_are_in_the_next(run: Run, make: Make) -> None:
    """None of them are lost, and what was written in vain is removed."""
    add(run.memory, 2)
    run.checkpoint()
    add(run.memory, 2)
    refused(run, 4)
    assert len(segments.present(run.path)) == 2
    add(run.memory, 2)
    assert run.checkpoint()[0]["states"] == (2, 4)
    run.assert_whole(make)


def test_a_segment_that_vanished_is_written_again(run: Run, make: Make) -> None:
    """The memory is whole in the next checkpoint."""
    add(run.memory, 4)
    run.checkpoint()
    shutil.rmtree(run.path / "memory_log")
    add(run.memory, 2)
    assert run.checkpoint()[0]["states"] == (0, 6)
    memory = make()
    memory.load_state_dict(run.directory.read(read_index(run.path)[-1]).modules["memory"])
    assert_same(memory.snapshot(), run.memory.snapshot())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-3])])
def test_damage_of_a_segment_is_noticed(run: Run, harm: Callable[[Path], object]) -> None:
    """By whoever reads the memory, by `verify` and by `index --rebuild`, which name the file."""
    for _ in range(2):
        add(run.memory, 2)
        run.checkpoint()
    (newest,) = segments.needed(read_index(run.path)[1:]) - segments.needed(read_index(run.path)[:1])
    harm(run.path / newest)
    first, second = read_index(run.path)
    assert run.directory.read(first).modules["memory"]["tensors"]["states"].shape == (5, 2, 3)
    with pytest.raises(keepfast.CorruptCheckpoint, match=newest):
        run.directory.read(second)
    assert [verdict.path for verdict in verify(run.path) if verdict.problem] == [run.path / newest]
    (run.path / "index.json").unlink()
    found, damaged = rebuild(run.path)
    assert [checkpoint.timestep for checkpoint in found] == [1]
    assert newest in damaged[run.path / "agent_2.safetensors"]


def test_what_a_kill_left_is_swept(run: Run) -> None:
    """Segments of a checkpoint that never came to be go at the next start; while one cannot be read, none do."""
    add(run.memory, 2)
    run.checkpoint()
    (only,) = segments.present(run.path)
    lost = run.path / "memory_log" / "segment_9_00000000.safetensors"
    shutil.copyfile(run.path / only, lost)
    broken = run.path / "agent_7.safetensors"
    broken.write_bytes(b"broken")
    CheckpointDirectory(run.path).adopt()
    assert lost.exists()
    broken.unlink()
    CheckpointDirectory(run.path).adopt()
    assert segments.present(run.path) == {only}


def test_other_modules_are_read_without_the_rows(run: Run) -> None:
    """A checkpoint that was moved without its segments says which is missing, unless nobody asks for the memory."""
    add(run.memory, 2)
    run.checkpoint()
    shutil.rmtree(run.path / "memory_log")
    with pytest.raises(
        keepfast.CorruptCheckpoint, match=r"segment_2_.*is missing, which `agent_1.*folder `memory_log`"
    ):
        keepfast.read_checkpoint(run.path / "agent_1.safetensors")
    assert "tensors" not in run.directory.read(read_index(run.path)[0], wanted={"policy"}).modules["memory"]


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "another file": lambda log: log["segments"][0].update(file="../../etc/passwd"),
    "a part outside": lambda log: log["segments"][0].update(parts={"states": [10, 1]}),
    "no count": lambda log: log.update(memory_size=-1),
    "no dtype": lambda log: log["tensors"].update(states=[3, [3]]),
    "no segments": lambda log: log.pop("segments"),
    "a part of other rows": lambda log: log["segments"][0].update(parts={"states": [0, 3]}),
    "an unknown dtype": lambda log: log["tensors"].update(states=["nonsense", [3]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_log_that_makes_no_sense_is_refused(run: Run, name: str) -> None:
    """And no other file is opened for it."""
    add(run.memory, 2)
    run.checkpoint()
    path = run.path / "agent_1.safetensors"
    found = run.store.load(path)
    WRONG[name](found.metadata["logs"]["memory"])
    run.store.save(found, path)
    with pytest.raises(keepfast.CorruptCheckpoint, match="the memory `memory` cannot be put together"):
        keepfast.read_checkpoint(path)


def test_a_log_drops_what_is_covered() -> None:
    """A segment is let go once nothing of it is left to see, tensor by tensor."""

    def segment(number: int, **parts: tuple[int, int]) -> Segment:
        return Segment(f"memory_log/segment_{number}_00000000.pt", 1, "", parts)

    log = MemoryLog(10, 1, {"a": ("float32", (1,)), "b": ("float32", (1,))})
    log = log.with_segment(segment(1, a=(0, 4), b=(0, 4)))
    log = log.with_segment(segment(2, a=(2, 3)))
    log = log.with_segment(segment(3, a=(8, 4)))
    assert len(log.segments) == 3  # of the first, `b` is left
    log = log.with_segment(segment(4, b=(9, 5)))
    assert [each.file[19] for each in log.segments] == ["2", "3", "4"]
