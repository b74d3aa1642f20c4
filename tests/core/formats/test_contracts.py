"""The built-in formats of checkpoints and of memories keep the contracts of formats."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keepfast import testing
from keepfast.formats.memories.npz import NpzExporter
from keepfast.formats.memories.pt import PtExporter
from keepfast.formats.memories.safetensors import SafetensorsExporter
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.interfaces.memory_exporter import MemoryExporter
from keepfast.plugins import registry
from keepfast.testing.checkpoint_store import assert_same, random_array

needs_msgpack = pytest.mark.needs("msgpack")
without_ml_dtypes_and_with = pytest.mark.runs_in("core", "torch")
FORMATS = ("pt", "safetensors", *(pytest.param(name, marks=needs_msgpack) for name in ("msgpack", "pickle")))


def store_of(name: str) -> CheckpointStore:
    store = registry().get("checkpoint format", name)()
    assert isinstance(store, CheckpointStore)
    return store


@without_ml_dtypes_and_with
class TestPt(testing.CheckpointStoreContract):
    """PyTorch's format, with and without PyTorch."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return store_of("pt")


@without_ml_dtypes_and_with
class TestSafetensors(testing.CheckpointStoreContract):
    """The format that both frameworks share."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return store_of("safetensors")


@needs_msgpack
class TestMsgpack(testing.CheckpointStoreContract):
    """Flax's format."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return store_of("msgpack")


@needs_msgpack
class TestPickle(testing.CheckpointStoreContract):
    """The older layout of JAX agents."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        return store_of("pickle")


class TestPtMemories(testing.MemoryExporterContract):
    """The format that `torch.load` reads."""

    @pytest.fixture
    def exporter(self) -> MemoryExporter:
        return PtExporter()


class TestNpzMemories(testing.MemoryExporterContract):
    """NumPy's own format."""

    @pytest.fixture
    def exporter(self) -> MemoryExporter:
        return NpzExporter()


class TestSafetensorsMemories(testing.MemoryExporterContract):
    """The format that needs no pickle."""

    @pytest.fixture
    def exporter(self) -> MemoryExporter:
        return SafetensorsExporter()


@pytest.mark.needs("polars")
class TestCsvMemories(testing.MemoryExporterContract):
    """Text that anything reads."""

    @pytest.fixture
    def exporter(self) -> MemoryExporter:
        from keepfast.formats.memories.csv.exporter import CsvExporter

        return CsvExporter()


@pytest.mark.parametrize("name", FORMATS)
def test_extensions_are_those_of_the_design(name: str) -> None:
    """Each format's files end in its own name."""
    assert store_of(name).extension == f".{name}"


@pytest.mark.parametrize("name", FORMATS)
def test_large_states_are_saved_where_no_thread_can_start(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the interpreter ends it starts no more threads; what was promised is saved without."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    store = store_of(name)
    path = tmp_path / f"agent{store.extension}"
    state = {"policy": {"w": random_array(np.dtype(np.float32), (1024, 1024))}}
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        store.save(Checkpoint(state), path)
    assert_same(store.load(path).state, state)


@pytest.mark.needs("ml_dtypes")
@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_package_is_not_taken_for_damage(name: str, tmp_path: Path) -> None:
    """A bfloat16 checkpoint read where `ml_dtypes` is not installed says so instead of calling the file damaged."""
    import ml_dtypes

    store = store_of(name)
    path = tmp_path / f"agent{store.extension}"
    store.save(Checkpoint({"policy": {"w": np.ones(3, ml_dtypes.bfloat16)}}), path)
    code = f"""
import sys
sys.modules["ml_dtypes"] = None
from pathlib import Path
import keepfast
try:
    keepfast.plugins.registry().get("checkpoint format", {name!r})().load(Path({str(path)!r}))
except keepfast.MissingDependency as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "the dtype `bfloat16` needs `ml_dtypes`, which is not installed; run: pip install ml_dtypes"
    assert done.stdout.strip() == expected
