"""State that grows, on JAX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import keepfast  # noqa: E402
from tests.both_backends.growing import GrowingSuite  # noqa: E402


class TestJaxGrowing(GrowingSuite):
    def array(self, values: Any) -> Any:
        return jax.numpy.asarray(np.asarray(values, np.float32))


@pytest.mark.parametrize("make", [jax.random.key, lambda _seed: jax.numpy.zeros((), jax.numpy.bfloat16)])
@pytest.mark.parametrize("extension", [".safetensors", ".msgpack", ".pt"])
def test_keys_and_other_dtypes_may_be_more(make: Any, extension: str, tmp_path: Path) -> None:
    """A key of each environment, of which there are more: keys again, and of the same implementation."""
    many = jax.numpy.stack([make(0)] * 5)
    owner = SimpleNamespace(values=many[:2])
    assert keepfast.load(keepfast.attribute(owner, "values"), keepfast.save(many, tmp_path / f"values{extension}"))
    assert owner.values.dtype == many.dtype
    assert (owner.values == many).tolist() == [True] * 5


def test_an_array_that_grew_stays_on_its_device(tmp_path: Path) -> None:
    """One that was put on a device is committed to it again."""
    device = jax.devices()[-1]
    owner = SimpleNamespace(values=jax.device_put(jax.numpy.zeros(2), device))
    keepfast.load(keepfast.attribute(owner, "values"), keepfast.save(jax.numpy.ones(3), tmp_path / "values.pt"))
    assert owner.values.devices() == {device}
    assert owner.values.committed
