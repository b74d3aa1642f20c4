"""Memories of runs on object stores: the rows that checkpoints share are objects of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import keepfast
from tests.core.runs.test_memories import memory
from tests.core.stores import RUN, Bucket, cfg

__all__ = ["memory"]

pytestmark = pytest.mark.needs("fsspec")


def test_a_memory_goes_on_from_its_rows_elsewhere(
    bucket: Bucket, memory: Callable[[], keepfast.Memory], elsewhere: Callable[[str], None]
) -> None:
    """Each segment goes up once, comes with the checkpoint that needs it, and goes when none does."""

    def train(start: int, end: int) -> Any:
        kept = memory()
        with keepfast.Experiment(cfg(checkpoint_interval=1, keep_last=1, keep_best=0), timesteps=9) as experiment:
            experiment.register(memory=kept)
            assert experiment.resume() == start
            for timestep in range(start, end):
                kept.add_samples(states=np.full((1, 1), float(timestep)))
                experiment.step(timestep)
        return kept.get_tensor_by_name("states").ravel().tolist()

    assert train(0, 3)[:3] == [0, 1, 2]
    puts = [name for operation, name in bucket.asked if operation == "pipe_file" and "segment" in name]
    assert len(puts) == len(set(puts)) > 0
    elsewhere("second")
    assert train(3, 4) == [0, 1, 2, 3]
    elsewhere("third")
    assert train(4, 6) == [4, 5, 2, 3]
    assert bucket.problems(RUN) == []
