"""Anybody can write a format: with public names alone, in a file or in a directory, and it keeps the contracts."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import testing
from keepfast.codec import native
from tests.core.formats import shard_store, text_formats
from tests.core.formats.text_formats import TextExporter, TextStore


@pytest.mark.needs("ml_dtypes")
class TestTextStore(testing.CheckpointStoreContract):
    """A checkpoint format in ten lines."""

    plain_arrays = False

    @pytest.fixture
    def store(self) -> keepfast.CheckpointStore:
        return TextStore()


class TestTextExporter(testing.MemoryExporterContract):
    """A memory format in ten lines."""

    @pytest.fixture
    def exporter(self) -> keepfast.MemoryExporter:
        return TextExporter()


@pytest.mark.parametrize("module", [shard_store, text_formats], ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_formats_of_these_tests_take_public_names_alone(module: Any) -> None:
    """They import the package, and what they take of it is in `__all__`."""
    tree = ast.parse(inspect.getsource(module))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in imported if isinstance(node, ast.ImportFrom) and "keepfast" in str(node.module)]
    taken = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert {name.split(".")[1] for name in taken if name.startswith("keepfast.")} <= set(keepfast.__all__)


@pytest.mark.parametrize("error", [KeyError("x"), ZeroDivisionError(), RecursionError(), IndexError("y")], ids=repr)
def test_whatever_a_reader_raises_tells_of_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A format need not think of every way in which damaged content fails; the error names the file and the cause."""

    def fail(_path: Path) -> Any:
        raise error

    monkeypatch.setattr(text_formats, "opened", fail)
    path = tmp_path / "x.text"
    for made, kind in ((TextStore(), keepfast.CorruptCheckpoint), (TextExporter(), keepfast.CorruptMemory)):
        with pytest.raises(kind, match=rf"x\.text` is damaged: .*\({type(error).__name__}: ") as raised:
            made.load(path)
        assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [keepfast.MissingDependency("m"), PermissionError("p")], ids=repr)
def test_what_is_no_damage_is_raised_as_it_is(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is missing, a file that may not be read."""

    def fail(_path: Path) -> Any:
        raise error

    monkeypatch.setattr(text_formats, "opened", fail)
    with pytest.raises(type(error)) as raised:
        TextStore().load(tmp_path / "x.text")
    assert raised.value is error


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.zeros(2, [("a", "f4")]), np.array([None])], ids=lambda array: str(array.dtype)
)
def test_an_array_that_bytes_do_not_hold_is_refused_by_its_path(array: Any) -> None:
    """Objects and structures, whatever a format would do with them; a text keeps foreign byte orders."""
    with pytest.raises(keepfast.InvalidValue, match=r"`a\.0` is an array of dtype .*, which cannot be stored"):
        keepfast.codec.dumps({"a": [array]})
    swapped = np.arange(3, dtype=np.dtype(np.float32).newbyteorder())
    assert keepfast.codec.loads(keepfast.codec.dumps(swapped)).dtype == swapped.dtype
    assert native(swapped, "").tolist() == [0.0, 1.0, 2.0]


EXAMPLES = {"CheckpointStore": "JsonStore", "MemoryExporter": "PickleFreeNpz", "DirectoryFormat": "ArraysStore"}


@pytest.mark.parametrize("interface", EXAMPLES)
def test_the_example_of_each_interface_works(interface: str, tmp_path: Path) -> None:
    """What its docstring calls the smallest complete format writes and reads."""
    _, _, example = str(inspect.getdoc(getattr(keepfast, interface))).partition("::\n\n")
    lines = [line for line in example.splitlines() if not line.strip() or line.startswith("    ")]
    namespace: dict[str, Any] = {"keepfast": keepfast, "numpy": np}
    exec(textwrap.dedent("\n".join(lines)), namespace)
    made, values = namespace[EXAMPLES[interface]](), np.arange(12.0).reshape(3, 2, 2)
    path = tmp_path / f"x{made.extension}"
    if interface == "MemoryExporter":
        made.save(keepfast.MemorySnapshot({"x": values}, 1, 0, True), path)
        assert made.load(path).tensors["x"].tolist() == values.tolist()
    else:
        made.save(keepfast.Checkpoint({"policy": {"w": values}}), path)
        assert made.load(path).modules["policy"]["w"].tolist() == values.tolist()
    assert made.owns(path)
    made.remove(path)
    assert list(tmp_path.iterdir()) == []
