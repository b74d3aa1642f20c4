"""What the README shows for JAX runs as it stands there."""

from __future__ import annotations

import pytest

pytest.importorskip("jax")

from tests.both_backends.documents import ReadmeSuite
from tests.jax_backend.framework import Jax


class TestReadme(Jax, ReadmeSuite):
    heading = "JAX"
    memories = ".npz"
