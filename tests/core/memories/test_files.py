"""Memory files without a live memory."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast.errors import CorruptMemory, InvalidValue, LoadMismatch, MissingDependency, NotFound
from keepfast.formats.memories import header as headers
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.files import inspect_memory, memory_paths, verify_memories
from keepfast.plugins import registry
from keepfast.plugins.formats import exporter_named, format_of, numeric_order
from keepfast.testing.memory_exporter import assert_same

FORMATS = ("pt", "npz", pytest.param("csv", marks=pytest.mark.needs("polars")), "safetensors")


def _memory(first, memory_index=0, filled=True, envs=2):
    values = (first + np.arange(3, dtype=np.float32))[:, None, None] * np.ones((3, envs, 1), np.float32)
    return MemorySnapshot({"steps": values}, memory_index, 0, filled, {"agent": "PPO"})


def test_files_come_in_the_order_of_time(tmp_path):
    """Numbers in names are sorted as numbers, and each file is read only when it is asked for."""
    for number in (10, 9, 100):
        exporter_named("npz").save(_memory(number), tmp_path / f"22-01-09_memory_{number}.npz")
    found = list(keepfast.iter_memories(tmp_path / "*.npz"))
    assert [path.stem.rpartition("_")[2] for path, _ in found] == ["9", "10", "100"]
    assert [snapshot.tensors["steps"][0, 0, 0] for _, snapshot in found] == [9, 10, 100]
    assert numeric_order(tmp_path / "a2") < numeric_order(tmp_path / "a10")


def test_nothing_found_is_an_error(tmp_path):
    """A pattern that matches no file, and a path that is none, raise NotFound."""
    with pytest.raises(NotFound, match="no memory file matches"):
        next(keepfast.iter_memories(tmp_path / "*.npz"))
    with pytest.raises(NotFound, match="there is no memory file"):
        keepfast.read_memory(tmp_path / "absent.npz")


def test_memories_come_by_pattern_by_path_and_by_list(tmp_path):
    """A path may look like a pattern; a list is gone through in its order, each file once."""
    exporter = exporter_named("npz")
    for name in ("a/1.npz", "a/2.npz", "b/1.npz", "b/[1].npz"):
        exporter.save(_memory(1), tmp_path / name)

    def names(pattern):
        return [str(path.relative_to(tmp_path)) for path, _ in keepfast.iter_memories(pattern)]

    assert names(str(tmp_path / "a" / "*")) == ["a/1.npz", "a/2.npz"]
    assert names(tmp_path / "a" / "2.npz") == ["a/2.npz"]
    assert names(tmp_path / "b" / "[1].npz") == ["b/[1].npz"]
    assert names([tmp_path / "b" / "1.npz", f"{tmp_path}/a/*"]) == ["b/1.npz", "a/1.npz", "a/2.npz"]
    assert names(iter([tmp_path / "a" / "*", tmp_path / "a" / "2.npz"])) == ["a/1.npz", "a/2.npz"]
    assert names([]) == []


def test_a_memory_is_asked_for_its_tensors_by_name(tmp_path):
    """As a dict of them is; what is not there is told with the nearest."""
    exporter_named("npz").save(_memory(5), tmp_path / "m.npz")
    ((_, memory),) = keepfast.iter_memories(tmp_path / "m.npz")
    assert memory["steps"][0, 0, 0] == 5
    assert ("steps" in memory, "x" in memory, list(memory), list(memory.keys())) == (True, False, ["steps"], ["steps"])
    assert {**memory}.keys() == {"steps"}
    with pytest.raises(KeyError, match="Did you mean `steps`"):
        memory["step"]


def test_a_memory_that_cannot_be_read_is_passed_over_and_named(tmp_path):
    """Whatever is wrong with it, the others are there."""
    exporter_named("npz").save(_memory(1), tmp_path / "1.npz")
    (tmp_path / "2.npz").write_bytes(b"no zip")
    (tmp_path / "3.pt").write_bytes((tmp_path / "1.npz").read_bytes()[:90])
    exporter_named("npz").save(_memory(4), tmp_path / "4.npz")
    with pytest.warns(keepfast.KeepfastWarning) as told:
        found = [path.name for path, _ in keepfast.iter_memories(tmp_path / "*")]
    assert found == ["1.npz", "4.npz"]
    assert [str(one.message).split("`")[1] for one in told] == [str(tmp_path / "2.npz"), str(tmp_path / "3.pt")]


def test_chronological_rows_begin_with_the_oldest():
    """The rows of a full memory are turned so that the oldest comes first, each environment for itself."""
    values = np.arange(6).reshape(3, 2, 1)
    snapshot = MemorySnapshot({"x": values}, 1, 1, filled=True)
    assert snapshot.chronological()["x"][..., 0].tolist() == [[4, 3], [0, 5], [2, 1]]
    half = MemorySnapshot({"x": values}, 1, 1, filled=False)
    assert half.chronological()["x"][..., 0].tolist() == [[0, 1]]
    assert (len(snapshot), len(half)) == (6, 3)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_any_format_becomes_any_other(tmp_path, source, target):
    """Converting changes the format and nothing else, and tells its progress."""
    exporter_named(source).save(_memory(1, memory_index=1), tmp_path / f"a.{source}")
    steps = []
    keepfast.convert_memory(tmp_path / f"a.{source}", tmp_path / f"b.{target}", lambda *done: steps.append(done))
    assert_same(keepfast.read_memory(tmp_path / f"b.{target}"), _memory(1, memory_index=1))
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_a_target_of_no_format_is_refused_before_anything_is_read(tmp_path):
    """An extension that no format has is an error that lists those there are."""
    with pytest.raises(InvalidValue, match=r"`.*b\.npx` has the extension of no memory format; known: .*\.npz"):
        keepfast.convert_memory(tmp_path / "absent.pt", tmp_path / "b.npx")


@pytest.mark.needs("polars")
def test_merging_puts_the_oldest_first(tmp_path):
    """The complete rows of all files follow one another in one full memory."""
    exporter_named("npz").save(_memory(1, memory_index=1), tmp_path / "m_1.npz")
    exporter_named("csv").save(_memory(11, memory_index=2, filled=False), tmp_path / "m_2.csv")
    keepfast.merge_memories(tmp_path / "m_*", tmp_path / "all.pt")
    merged = keepfast.read_memory(tmp_path / "all.pt")
    assert merged.tensors["steps"][:, 1, 0].tolist() == [2, 3, 1, 11, 12]
    assert (merged.memory_size, merged.memory_index, merged.filled) == (5, 0, True)


def test_merged_files_do_not_follow_one_another(tmp_path):
    """Where one file ends and the next begins is remembered as a seam, beside those that the files had."""
    values = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    exporter_named("npz").save(MemorySnapshot({"x": values}, 1, 0, True, {"seams": [1, 4]}), tmp_path / "m_1.npz")
    exporter_named("npz").save(MemorySnapshot({"x": values}, 2, 1, False, {"seams": [0, 4]}), tmp_path / "m_2.npz")
    merged = keepfast.merge_memories(tmp_path / "m_*", tmp_path / "all.npz")
    assert merged.tensors["x"][..., 0].tolist() == [[2, 3], [4, 5], [0, 1], [0, 1], [2, 3]]
    # rows 1 of environment 0 and 2 of environment 1 of the first file, its last row, and row 0 of the second file
    assert merged.metadata["seams"] == [2, 4, 5, 6]


def test_only_like_memories_merge(tmp_path):
    """A file with another number of environments is named, and nothing is written."""
    exporter_named("npz").save(_memory(1), tmp_path / "m_1.npz")
    exporter_named("npz").save(_memory(1, envs=3), tmp_path / "m_2.npz")
    with pytest.raises(LoadMismatch, match=r"m_2\.npz` holds"):
        keepfast.merge_memories(tmp_path / "m_*", tmp_path / "all.pt")
    assert not (tmp_path / "all.pt").exists()


def test_a_file_is_described(tmp_path):
    """A description tells the sizes, the tensors and the metadata."""
    exporter_named("npz").save(_memory(1, memory_index=2, filled=False), tmp_path / "m.npz")
    found = inspect_memory(tmp_path / "m.npz")
    assert (found.memory_size, found.num_envs, found.samples, found.filled) == (3, 2, 4, False)
    assert found.tensors == {"steps": ("float32", (1,))}
    assert found.metadata == {"agent": "PPO"}
    assert found.nbytes == (tmp_path / "m.npz").stat().st_size


def test_verifying_tells_the_damaged_from_the_intact(tmp_path):
    """Each file is read whole; what is wrong with it is returned, not raised."""
    for name in ("a", "b"):
        exporter_named("npz").save(_memory(1), tmp_path / f"{name}.npz")
    damaged = bytearray((tmp_path / "b.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "b.npz").write_bytes(damaged)
    results = verify_memories(tmp_path / "*.npz")
    assert results[tmp_path / "a.npz"] is None
    assert isinstance(results[tmp_path / "b.npz"], CorruptMemory)


def test_files_of_plain_numpy_and_pytorch_are_read(tmp_path):
    """A file that `numpy.savez` wrote is a full memory; one whose tensors do not belong together is refused."""
    np.savez(tmp_path / "plain.npz", states=np.ones((4, 2, 3), np.float32))
    assert keepfast.read_memory(tmp_path / "plain.npz").filled
    np.savez(tmp_path / "none.npz", states=np.ones((4, 2)), actions=np.ones((5, 2)))
    with pytest.raises(CorruptMemory, match="holds no memory"):
        keepfast.read_memory(tmp_path / "none.npz")


def test_pickled_arrays_are_refused(tmp_path):
    """An array of objects, which NumPy would unpickle, is never loaded."""
    np.savez(tmp_path / "objects.npz", states=np.array([[{"a": 1}]], dtype=object))
    with pytest.raises(CorruptMemory, match="objects"):
        keepfast.read_memory(tmp_path / "objects.npz")


def test_other_byte_orders_of_other_tools_are_read(tmp_path):
    """Numbers in the byte order of another machine are read as this machine's; what is no number is refused."""
    np.savez(tmp_path / "big.npz", states=np.arange(8, dtype=">f4").reshape(4, 2))
    states = keepfast.read_memory(tmp_path / "big.npz").tensors["states"]
    assert (states.dtype, states.tolist()) == (np.dtype(np.float32), [[0, 1], [2, 3], [4, 5], [6, 7]])
    np.savez(tmp_path / "text.npz", states=np.array([["a", "b"]]))
    with pytest.raises(CorruptMemory, match="`states` is an array of <U1, not a tensor of numbers"):
        keepfast.read_memory(tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_index", 3), ("memory_index", -1), ("memory_index", "x"), ("env_index", 2), ("filled", 1)],
)
def test_a_position_beyond_the_memory_is_damage(tmp_path, name, value, monkeypatch):
    """A file whose next sample would go nowhere is refused, instead of failing when that sample comes."""
    header = headers.header_of(_memory(1))
    monkeypatch.setattr(headers, "header_of", lambda _: {**header, name: value})
    exporter_named("npz").save(_memory(1), tmp_path / "m.npz")
    with pytest.raises(CorruptMemory, match=r"m\.npz` is damaged: its"):
        keepfast.read_memory(tmp_path / "m.npz")


@pytest.mark.parametrize(("memory_index", "env_index", "filled"), [(1, 1, True), (2, 0, True), (2, 1, False)])
def test_blocks_are_the_chronological_rows(memory_index, env_index, filled):
    """Row by row, or all at once: the same rows in the same order."""
    values = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    snapshot = MemorySnapshot({"x": values, "y": values + 8}, memory_index, env_index, filled)
    whole = snapshot.chronological()
    for nbytes in (1, 32, 1 << 20):
        blocks = list(snapshot.chronological_blocks(nbytes))
        for name, tensor in whole.items():
            np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), tensor)
    assert len(list(snapshot.chronological_blocks(1))) == len(whole["x"])


def test_strangers_are_passed_over(tmp_path):
    """Files of no memory format between memories are not read; where there is nothing else, that is told."""
    exporter_named("npz").save(_memory(1), tmp_path / "a" / "m.npz")
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert [path.name for path, _ in keepfast.iter_memories(tmp_path / "**")] == ["m.npz"]
    with pytest.raises(InvalidValue, match=r"notes\.txt` has the extension of no memory format"):
        next(keepfast.iter_memories(tmp_path / "a" / "*.txt"))
    with pytest.raises(InvalidValue, match="is a directory; give one memory file, or"):
        next(keepfast.iter_memories(tmp_path / "a"))


def test_merging_into_a_source_is_refused(tmp_path):
    """A target that the pattern matches would be read as its own source."""
    exporter_named("npz").save(_memory(1), tmp_path / "m_1.npz")
    with pytest.raises(InvalidValue, match="is itself one of the files that match"):
        keepfast.merge_memories(tmp_path / "m_*", tmp_path / "m_1.npz")


def test_a_broken_format_hurts_nobody_else(tmp_path):
    """Files of other formats are read though one cannot be made, and who asks for a stranger is told of it."""

    class Broken:
        @keepfast.hookimpl
        def keepfast_memory_formats(self):
            def fail():
                raise OSError("libfoo.so is missing")

            return {"aaa": fail}

    exporter_named("npz").save(_memory(1), tmp_path / "m.npz")
    (tmp_path / "m.xyz").touch()
    registry().register(plugin := Broken(), "broken")
    try:
        assert_same(keepfast.read_memory(tmp_path / "m.npz"), _memory(1))
        with pytest.raises(InvalidValue, match=r"`aaa` is broken: OSError: libfoo\.so is missing"):
            keepfast.read_memory(tmp_path / "m.xyz")
    finally:
        registry().unregister(plugin)


@pytest.mark.needs("h5py", "pyarrow", "polars")
def test_reading_imports_what_the_format_needs_and_nothing_else(tmp_path):
    """Reading one format leaves the packages of the others alone."""
    exporter_named("npz").save(_memory(1), tmp_path / "m.npz")
    script = (
        "import sys, keepfast; keepfast.read_memory(sys.argv[1]);"
        "print(sorted({'h5py', 'pyarrow', 'polars'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path / "m.npz"], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_exports_that_failed_are_told_at_the_end_of_the_program(tmp_path):
    """A program that never closes its memory learns of missing files when it ends."""
    script = """
import sys, numpy, pathlib, shutil
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.export import MemoryExport
export = MemoryExport("npz", sys.argv[1])
export.prepare()
shutil.rmtree(sys.argv[1])
pathlib.Path(sys.argv[1]).touch()
export.cycles = 1
export.submit(MemorySnapshot({"x": numpy.zeros((2, 1))}, 0, 0, True))
"""
    ran = subprocess.run([sys.executable, "-c", script, tmp_path / "out"], capture_output=True, text=True, check=True)
    assert re.search(r"1 of 1 memory exports to .*out` failed; the first: cannot write", ran.stderr)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked there")
def test_a_forked_child_removes_no_file_of_its_parent(tmp_path):
    """What a child or a copy exports counts for itself: the newest files that its origin keeps stay."""
    script = """
import copy, os, sys, numpy
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.export import MemoryExport
export = MemoryExport("npz", sys.argv[1], keep=2)
def cycle(export):
    export.cycles += 1
    export.submit(MemorySnapshot({"x": numpy.zeros((2, 1))}, 0, 0, True))
    export.wait()
cycle(export), cycle(export)
kept = set(os.listdir(sys.argv[1]))
if not (child := os.fork()):
    cycle(export), cycle(export), cycle(export)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
twin = copy.deepcopy(export)
cycle(twin), cycle(twin)
assert kept < set(os.listdir(sys.argv[1])) and len(os.listdir(sys.argv[1])) == 6
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


@pytest.mark.parametrize("call", ["write", "read"])
def test_without_polars_csv_says_what_to_install(tmp_path, monkeypatch, call):
    """The format needs it, to write as to read: the error names the package and the command."""
    (tmp_path / "m.csv").touch()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "polars" else real(name, *more)
    )
    with pytest.raises(
        MissingDependency, match=r'`polars`, which is not installed; run: pip install "keepfast\[data\]"'
    ):
        exporter_named("csv") if call == "write" else keepfast.read_memory(tmp_path / "m.csv")


def test_a_missing_package_is_one_file_s_verdict(tmp_path, monkeypatch):
    """A file whose format cannot be read here hides no verdict on the others, but is not silently passed over."""
    exporter_named("npz").save(_memory(1), tmp_path / "m.npz")
    (tmp_path / "m.parquet").touch()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pyarrow" else real(name, *more)
    )
    verdicts = verify_memories(tmp_path / "*")
    assert verdicts[tmp_path / "m.npz"] is None
    assert isinstance(verdicts[tmp_path / "m.parquet"], MissingDependency)
    with pytest.raises(MissingDependency, match="pyarrow"):
        next(keepfast.iter_memories(tmp_path / "*"))


def exported(directory: Path, stamp: str, token: str, cycle: int, time: str) -> Path:
    """Write a memory as an export names it, and return its path."""
    path = directory / f"{stamp}_memory_{token}-{cycle}.npz"
    tensors = {"a": np.full((1, 1, 1), cycle, np.float32)}
    format_of("memory format", path).save(keepfast.MemorySnapshot(tensors, 0, 0, True, {"time": time}), path)
    return path


@pytest.mark.parametrize("tokens", [("aaaa", "aaaa"), ("aaaa", "bbbb")], ids=["one memory", "two memories"])
def test_the_end_of_daylight_saving_is_no_step_back(tmp_path: Path, tokens: tuple[str, str]) -> None:
    """The clock in the names goes back by an hour; the order is by cycle and by the time that the files tell."""
    first = exported(tmp_path, "26-10-25_02-59-00-000000", tokens[0], 1, "2026-10-25T00:59:00+00:00")
    second = exported(tmp_path, "26-10-25_02-01-00-000000", tokens[1], 2, "2026-10-25T01:01:00+00:00")
    assert [path for path, _ in keepfast.iter_memories(tmp_path / "*.npz")] == [first, second]
    merged = keepfast.merge_memories(tmp_path / "*.npz", tmp_path / "merged.npz")
    assert merged.tensors["a"].reshape(-1).tolist() == [1.0, 2.0]


def test_a_file_that_does_not_tell_its_time_has_that_of_the_file_system(tmp_path: Path) -> None:
    """Nor does one that cannot be read keep the others from their order."""
    old = exported(tmp_path, "26-10-25_02-59-00-000000", "aaaa", 1, "no time")
    new = exported(tmp_path, "26-10-25_02-01-00-000000", "bbbb", 1, "2026-10-25T01:01:00+00:00")
    os.utime(old, (1.0, 1.0))
    assert memory_paths(tmp_path / "*.npz") == [old, new]
