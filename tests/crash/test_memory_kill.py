"""What a kill in the middle of a memory export leaves behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keepfast._system.commit import sweep
from keepfast.memories.files import iter_memories

FORMATS = [
    "pt",
    "npz",
    "safetensors",
    pytest.param("csv", marks=pytest.mark.needs("polars")),
    pytest.param("minari", marks=pytest.mark.needs("h5py", "minari")),
]

KILLS = int(os.environ.get("KEEPFAST_KILLS", "20"))
"""How many in the suite; the session `crash` asks for fifty."""

_PARENT = """
import os, signal, sys
import numpy as np
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.export import MemoryExport
from keepfast.plugins.formats import exporter_named

exporter_named(sys.argv[1])
for line in sys.stdin:
    child = os.fork()  # cheaper than an interpreter for each of the fifty
    if child:
        os.waitpid(child, 0)
        continue
    export = MemoryExport(sys.argv[1], line.strip())
    export.prepare()
    while True:
        export.cycles += 1
        values = np.full((64, 4, 256), export.cycles, np.float32)
        named = {"x": values, "states": values[..., :2], "actions": values[..., :1], "rewards": values[..., :1]}
        export.submit(MemorySnapshot(named, 0, 0, filled=True))
        if export.cycles == 1:
            export.wait()  # the first save also imports what it needs
            print(os.getpid(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", FORMATS)
def test_a_killed_export_leaves_only_complete_files(tmp_path, name):
    """After each kill at random moments, what has its final name holds what it should, and all else is swept."""
    command = [sys.executable, "-c", _PARENT, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        complete = swept = 0
        for attempt in range(KILLS):
            directory = tmp_path / str(attempt)
            parent.stdin.write(f"{directory}\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(random.random() * 0.1)
            os.kill(child, signal.SIGKILL)
            _wait_until_gone(child)
            swept += len(sweep(directory))
            complete += _read_all(directory)
        parent.kill()
    assert complete >= KILLS
    assert swept > KILLS // 5  # else hardly a kill came in the middle of a save


def _wait_until_gone(child):
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(child, 0)
            time.sleep(0.001)


def _read_all(directory):
    """Check that there is nothing but files that hold what they should, and return how many there are."""
    every = list(directory.glob("[!.]*"))
    assert len(every) == len(list(directory.iterdir()))
    files = [file for file in every if file.suffix != ".json"]  # what lies beside a csv is there before it
    assert all(file.with_name(f"{file.name}.json").exists() for file in files if file.suffix == ".csv")
    if files:
        for cycle, (_, snapshot) in enumerate(iter_memories(directory / "*"), start=1):
            assert (snapshot.tensors["x"] == np.float32(cycle)).all()
    return len(files)
