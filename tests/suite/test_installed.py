"""What the sessions of nox test is what users install, not the checkout."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path

import pytest

PACKAGES = {
    "keepfast": "core",
    "keepfast_torch": "backends/torch",
    "keepfast_jax": "backends/jax",
    "keepfast_writers": "writers",
}

pytestmark = pytest.mark.skipif(
    "KEEPFAST_INSTALLED" not in os.environ, reason="a checkout is tested where it lies; the sessions of nox install it"
)


def files(folder: Path) -> dict[str, bytes]:
    """Return what is in a package, without what Python makes there."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_under_test_is_the_installed_one(project: Path, package: str) -> None:
    """It is imported from where packages are installed, and each of its files is that of the checkout."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert folder == Path(sysconfig.get_path("purelib"), package)
    assert files(folder) == files(project / PACKAGES[package] / package)
