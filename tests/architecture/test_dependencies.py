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


def test_the_oldest_client_of_the_hub_that_is_allowed_is_the_one_that_is_tested(project: Path) -> None:
    """A session of its own runs the tests of the Hub with the lowest version that the extra asks for."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = declared["optional-dependencies"]["hub"]
    tested = re.search(r'^OLDEST_HUB = "([^"]+)"$', (project / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert tested is not None
    assert requirement.replace(">=", "==") + ".0" == tested[1]
