"""What a kill in the middle of a memory export leaves behind."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from holdfast.memory_files import iter_memories

_PARENT = """
import os, signal, sys
import numpy as np
from holdfast.memory import MemorySnapshot
from holdfast.memory_export import MemoryExport, exporter

exporter(sys.argv[1])
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
        export.submit(MemorySnapshot({"x": values}, 0, 0, filled=True))
        if export.cycles == 1:
            print(os.getpid(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["pt", "npz", "csv", "safetensors"])
def test_a_killed_export_leaves_only_complete_files(tmp_path, name):
    """After each of 50 kills at random moments, every file under its final name is read and holds what it should."""
    command = [sys.executable, "-c", _PARENT, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        complete = 0
        for attempt in range(50):
            directory = tmp_path / str(attempt)
            parent.stdin.write(f"{directory}\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(random.random() * 0.1)
            os.kill(child, signal.SIGKILL)
            complete += _read_all(directory)
        parent.kill()
    assert complete > 10  # else the kills came too early to prove anything


def _read_all(directory):
    """Check every file, and return how many there are."""
    files = list(directory.glob("[!.]*"))
    if files:
        for cycle, (_, snapshot) in enumerate(iter_memories(directory / "*"), start=1):
            assert (snapshot.tensors["x"] == np.float32(cycle)).all()
    return len(files)
