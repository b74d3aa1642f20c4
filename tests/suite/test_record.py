"""What is written down of a run of the tests, in one process and in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = """
import pytest

def test_passes():
    pass

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("value", ["a", "b@c"])
def test_in_a_group(value):
    pass

@pytest.mark.skip(reason="needs a CUDA device")
def test_is_skipped():
    pass

def test_skips():
    pytest.importorskip("no_such_thing")

def test_fails():
    raise OSError

@pytest.fixture
def broken():
    yield
    raise OSError

def test_fails_at_its_end(broken):
    pass

def test_is_deselected():
    pass
"""

SKIPPED_MODULE = """
import pytest
pytest.importorskip("no_such_thing")
"""

GROUPED = """
import os, pathlib
import pytest

@pytest.mark.parametrize("number", range(12))
@pytest.mark.xdist_group("one")
def test_grouped(number):
    pathlib.Path(f"{os.getpid()}.pid").touch()
"""


@pytest.mark.parametrize("options", [[], ["--numprocesses=2", "--dist=loadgroup"]], ids=["in one", "in two"])
def test_every_test_is_recorded_with_what_became_of_it(project: Path, tmp_path: Path, options: list[str]) -> None:
    """All that is there is collected, chosen or not; a test passes if its teardown does; groups leave no trace."""
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "test_skipped.py").write_text(SKIPPED_MODULE)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), *options]
    chosen = ["-k", "not deselected", "-p", "no:cacheprovider", "-p", "tests.suite.record", "--record", "a.json"]
    surroundings = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run([*command, *chosen, str(tmp_path)], env=surroundings, cwd=tmp_path, capture_output=True)
    assert done.returncode == 1, done.stdout + done.stderr
    recorded = json.loads((tmp_path / "a.json").read_text())
    outcomes = recorded["outcomes"]
    importing = "could not import 'no_such_thing'"
    assert outcomes.pop("test_skipped.py").startswith(f"skipped: {importing}")
    assert outcomes.pop("test_sample.py::test_skips").startswith(f"skipped: {importing}")
    assert outcomes == {
        "test_sample.py::test_passes": "passed",
        "test_sample.py::test_in_a_group[a]": "passed",
        "test_sample.py::test_in_a_group[b@c]": "passed",
        "test_sample.py::test_is_skipped": "skipped: needs a CUDA device",
        "test_sample.py::test_fails": "failed",
        "test_sample.py::test_fails_at_its_end": "failed",
    }
    assert set(recorded["collected"]) == {*outcomes, "test_sample.py::test_skips", "test_sample.py::test_is_deselected"}


@pytest.mark.skipif(pytest.version_tuple >= (9, 2), reason="xdist 3.8 keeps no group in one process there")
def test_a_group_of_tests_stays_in_one_process(tmp_path: Path) -> None:
    """What is made once for several tests is, where several processes share the work."""
    (tmp_path / "test_sample.py").write_text(GROUPED)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    subprocess.run([*command, "--numprocesses=2", "--dist=loadgroup"], cwd=tmp_path, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.pid"))) == 1
