"""What everybody who installs Keepfast gets with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source


@pytest.mark.parametrize("extra", ["", "data"])
def test_every_dependency_is_imported(project: Path, sources: Sequence[Source], extra: str) -> None:
    """What no module imports is nobody's to install; peers of the tests are among the test tools."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = declared["optional-dependencies"][extra] if extra else declared["dependencies"]
    named = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements}
    assert named - {package for source in sources for package in source.imports()} == set()
