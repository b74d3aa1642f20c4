"""Who may know whom: core knows nobody, backends and writers know core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source

FRAMEWORKS = {"torch", "torchvision", "jax", "jaxlib", "flax", "optax", "orbax"}
WRITING = {"tensorboard", "tensorboardX", "wandb"}
OURS = {"holdfast_torch", "holdfast_jax", "holdfast_writers"}

FORBIDDEN = {
    "holdfast": FRAMEWORKS | WRITING | OURS,
    "holdfast_torch": {"jax", "jaxlib", "flax", "optax", "orbax"} | WRITING | {"holdfast_jax", "holdfast_writers"},
    "holdfast_jax": {"torch", "torchvision"} | WRITING | {"holdfast_torch", "holdfast_writers"},
    "holdfast_writers": {"jax", "jaxlib", "flax", "optax", "orbax", "holdfast_torch", "holdfast_jax", "gymnasium"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_the_arrows_allow(sources: Sequence[Source], package: str) -> None:
    """`holdfast_torch -> holdfast <- holdfast_jax`, `holdfast_writers -> holdfast`; no import goes another way."""
    wrong = {
        str(source.path): sorted(found)
        for source in sources
        if source.package == package and (found := source.imports() & FORBIDDEN[package])
    }
    assert wrong == {}


def test_every_package_is_looked_at(sources: Sequence[Source]) -> None:
    """The test above sees the modules of all four packages."""
    assert {source.package for source in sources} == set(FORBIDDEN)
