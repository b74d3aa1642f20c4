"""What a file says of a generator of PyTorch is checked before one goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import keepfast
from keepfast_torch.backend import TorchBackend


def beyond(state: Any) -> Any:
    """Return a state that PyTorch takes, and with which it reads words that are not its own."""
    changed = np.array(state)
    changed[8:12].view(np.int32)[0], changed[16:24].view(np.uint64)[0] = 624, 624
    return changed


def test_pytorch_itself_takes_such_a_state() -> None:
    """What is guarded against is there."""
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(beyond(generator.get_state().numpy())))


def test_a_generator_reads_no_further_than_its_own_numbers(tmp_path: Path) -> None:
    """One that is loaded stays as it is, and one that everybody draws from too."""
    generator = torch.Generator().manual_seed(3)
    path = keepfast.save(generator, tmp_path / "generator.safetensors")
    store = keepfast.plugins.registry().get("checkpoint format", "safetensors")()
    stored = store.load(path)
    store.save(keepfast.Checkpoint(beyond(stored.state), stored.metadata), path)
    before = generator.get_state()
    with pytest.raises(keepfast.LoadMismatch, match="there are 624"):
        keepfast.load(generator, path)
    assert torch.equal(generator.get_state(), before)
    backend = TorchBackend()
    told: Any = backend.random_state()
    with pytest.raises(ValueError, match="there are 624"):
        backend.set_random_state({**told, "cpu": beyond(told["cpu"])})
    assert np.array_equal(torch.get_rng_state().numpy(), told["cpu"])
