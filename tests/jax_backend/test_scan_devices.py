"""A loop under `keepfast_jax.scan` on several devices writes once, for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import keepfast

SCRIPT = Path(__file__).with_name("scan_devices.py")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("form", ["pmap", "shard_map"])
def test_devices_in_step_with_each_other_write_once(tmp_path: Path, form: str) -> None:
    """Statistics are of the environments of all devices; checkpoints hold the part of each, and are gone on from."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), form, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    metrics = keepfast.read_metrics(tmp_path / form)
    steps, values, _ = metrics["Loss / x"]
    assert steps.tolist() == [4, 8, 12, 16, 20]
    np.testing.assert_allclose(values, [7.0 + 2.0 * (step - 2.5) for step in steps])  # the mean over four devices
    rewards = np.arange(8.0) + 2.0 * np.arange(20)[:, None]
    found = metrics["Reward / Instantaneous reward (mean)"][1]
    np.testing.assert_allclose(found, [rewards[step - 4 : step].mean() for step in steps])
    assert metrics["Episode / Total timesteps (max)"][1].tolist() == [4.0, 5.0, 5.0, 5.0, 5.0]
    carry = load_file(tmp_path / form / "checkpoints" / "agent_10.safetensors")["carry.0"]
    np.testing.assert_array_equal(carry, np.arange(8.0).reshape(4, 2) + 10)
