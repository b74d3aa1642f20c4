"""State that grows, on JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from tests.both_backends.growing import GrowingSuite  # noqa: E402


class TestJaxGrowing(GrowingSuite):
    def array(self, values: Any) -> Any:
        return jax.numpy.asarray(np.asarray(values, np.float32))
