"""Who may know whom: core knows nobody, backends and writers know core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source

FRAMEWORKS = {"torch", "torchvision", "jax", "jaxlib", "flax", "optax", "orbax"}
WRITING = {"tensorboard", "tensorboardX", "wandb", "mlflow", "trackio"}
OURS = {"keepfast_torch", "keepfast_jax", "keepfast_writers"}

FORBIDDEN = {
    "keepfast": FRAMEWORKS | WRITING | OURS,
    "keepfast_torch": {"jax", "jaxlib", "flax", "optax", "orbax"} | WRITING | {"keepfast_jax", "keepfast_writers"},
    "keepfast_jax": {"torch", "torchvision"} | WRITING | {"keepfast_torch", "keepfast_writers"},
    "keepfast_writers": {"jax", "jaxlib", "flax", "optax", "orbax", "keepfast_torch", "keepfast_jax", "gymnasium"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_the_arrows_allow(sources: Sequence[Source], package: str) -> None:
    """`keepfast_torch -> keepfast <- keepfast_jax`, `keepfast_writers -> keepfast`; no import goes another way."""
    wrong = {
        str(source.path): sorted(found)
        for source in sources
        if source.package == package and (found := source.imports() & FORBIDDEN[package])
    }
    assert wrong == {}


def test_every_package_is_looked_at(sources: Sequence[Source]) -> None:
    """The test above sees the modules of all four packages."""
    assert {source.package for source in sources} == set(FORBIDDEN)
