"""The files that memories of skrl write, on both frameworks and by both its lines, are read without unpickling code."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import skrl

NEW = skrl.__version__ >= "2"
ROWS, ENVS = 5, 2

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]

TENSORS = {
    "states": (3, "float32", lambda t: np.array([[t / 10, t, -t], [t + 0.5, t, 1e-7]])),
    "actions": (2, "int32", lambda t: np.full((ENVS, 2), t)),
    "rewards": (1, "float32", lambda t: np.full((ENVS, 1), t / 3)),
    "terminated": (1, "bool", lambda t: np.full((ENVS, 1), t % 2 == 0)),
}


def array_of(framework: str, values: Any) -> Any:
    return importlib.import_module("torch").as_tensor(values) if framework == "torch" else np.asarray(values)


def memory_of(kind: Any, framework: str) -> Any:
    memory = kind(memory_size=ROWS, num_envs=ENVS, device="cpu")
    for name, (size, dtype, _) in TENSORS.items():
        memory.create_tensor(name, size=size, dtype=array_of(framework, np.zeros(1, dtype)).dtype)
    return memory


FILES = [("torch", "pt"), ("torch", "npz"), ("torch", "csv"), ("jax", "pt"), ("jax", "csv")]


@pytest.mark.parametrize(("framework", "extension"), FILES)
def test_a_file_of_skrl_is_a_memory(framework: str, extension: str, tmp_path: Path) -> None:
    """With the values that were added, and of the dtypes of the memory that loads it."""
    if NEW and framework == "jax":
        pytest.skip("skrl 2 saves no memory on JAX")
    its = memory_of(importlib.import_module(f"skrl.memories.{framework}").RandomMemory, framework)
    for row in range(ROWS):
        samples = {name: values(row).astype(dtype) for name, (_, dtype, values) in TENSORS.items()}
        its.add_samples(**{name: array_of(framework, each) for name, each in samples.items()})
    its.save(str(tmp_path), format=extension)
    ((path, snapshot),) = keepfast.iter_memories(tmp_path / "memories" / "*")
    ours = memory_of(importlib.import_module(f"keepfast_{framework}").RandomMemory, framework)
    assert ours.load(path)
    loaded = ours.snapshot()
    assert len(snapshot) == len(loaded) == ROWS * ENVS
    for name, (_, dtype, values) in TENSORS.items():
        expected = np.stack([values(row).astype(dtype) for row in range(ROWS)])
        np.testing.assert_array_equal(loaded[name], expected)
        assert loaded[name].dtype == dtype
        np.testing.assert_array_equal(snapshot[name].reshape(expected.shape).astype(dtype), expected)
