"""What `import keepfast` loads, and how long it takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "torch",
    "jax",
    "flax",
    "optax",
    "tensorboard",
    "tensorboardX",
    "wandb",
    "huggingface_hub",
    "pyarrow",
    "gymnasium",
    "minari",
    "h5py",
    "fsspec",
]


heavy = pytest.mark.needs(*HEAVY)


def loaded_after(statement: str) -> list[str]:
    """Return which of the heavy packages a fresh interpreter has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ended.stdout)
    return found


@heavy
def test_importing_loads_no_framework_and_no_writer() -> None:
    """`import keepfast` leaves every heavy package alone."""
    assert loaded_after("import keepfast") == []


@heavy
def test_naming_everything_public_loads_no_framework_and_no_writer() -> None:
    """Neither does the use of any public name."""
    assert loaded_after("import keepfast\nfor name in keepfast.__all__: getattr(keepfast, name)") == []


@heavy
def test_listing_plugins_loads_no_framework_and_no_writer() -> None:
    """Neither does a list of all plugins, with what each of them needs."""
    assert loaded_after("import keepfast\nfor p in keepfast.plugins.registry().everything(): p.status") == []


@heavy
def test_a_run_on_a_disk_loads_nothing_for_stores(tmp_path: Path) -> None:
    """Nor any framework, where none is used."""
    run = f"keepfast.Experiment({{'directory': {str(tmp_path)!r}, 'writers': ['jsonl'], 'provenance': False}})"
    assert loaded_after(f"import keepfast\nwith {run}: pass") == []


@pytest.mark.timing
def test_importing_takes_at_most_twice_as_long_as_numpy() -> None:
    """Median of several fresh interpreters each, in turns."""

    def seconds(package: str) -> float:
        program = f"import time; start = time.perf_counter(); import {package}; print(time.perf_counter() - start)"
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return float(ended.stdout)

    seconds("numpy"), seconds("keepfast")  # the first ones fill the file system's cache
    measured = [(seconds("keepfast"), seconds("numpy")) for _ in range(7)]
    ours, numpys = (statistics.median(column) for column in zip(*measured, strict=True))
    assert ours / numpys <= 2.0
