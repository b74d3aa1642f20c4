"""What a kill in the middle of a memory export leaves behind."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from holdfast.memory_files import iter_memories

_CHILD = """
import sys
import numpy as np
from holdfast.memory import MemorySnapshot
from holdfast.memory_export import MemoryExport

export = MemoryExport(sys.argv[1], sys.argv[2])
export.prepare()
cycle = 0
while True:
    export.cycles += 1
    export.submit(MemorySnapshot({"x": np.full((64, 4, 256), cycle, np.float32)}, 0, 0, filled=True))
    cycle += 1
    print(cycle, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pt", "npz", "csv", "safetensors"])
def test_a_killed_export_leaves_only_complete_files(tmp_path, name):
    """After each of 50 kills at random moments, every file under its final name is read and holds what it should."""
    for attempt in range(50):
        directory = tmp_path / str(attempt)
        child = subprocess.Popen([sys.executable, "-c", _CHILD, name, str(directory)], stdout=subprocess.PIPE)
        for _ in range(2):
            child.stdout.readline()
        time.sleep(random.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if list(directory.glob("*.*")):
            for cycle, (_, snapshot) in enumerate(iter_memories(directory / "*")):
                assert (snapshot.tensors["x"] == np.float32(cycle)).all()
