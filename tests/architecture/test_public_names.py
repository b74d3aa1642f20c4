"""The public names: one table, sorted, typed, documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import keepfast
from keepfast import testing
from keepfast.plugins import HOOKS, hookspecs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source

HOOK_FUNCTIONS = {
    name: function for name, function in vars(hookspecs).items() if name.startswith("keepfast_") and callable(function)
}


def test_all_is_sorted_and_every_name_is_there() -> None:
    """`__all__` is sorted, holds no name twice, and each resolves to something of that name."""
    assert keepfast.__all__ == sorted(set(keepfast.__all__))
    for name in keepfast.__all__:
        value = getattr(keepfast, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__name__ == name
    assert dir(keepfast) == keepfast.__all__


def test_every_contract_is_there_by_its_public_name() -> None:
    """`keepfast.testing` gives each contract suite that it lists, so that a plugin needs to know no module."""
    assert testing.__all__ == sorted(set(testing.__all__))
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name


def test_unknown_names_are_unknown() -> None:
    """A misspelt name is an AttributeError that says which."""
    with pytest.raises(AttributeError, match="module `keepfast` has no attribute `Agnet`"):
        _ = keepfast.Agnet


def test_type_checkers_see_the_names_that_are_loaded_lazily(sources: Sequence[Source]) -> None:
    """The imports under TYPE_CHECKING are those of the lazy table, and together they make `__all__`."""
    (source,) = [source for source in sources if source.path.as_posix() == "core/keepfast/__init__.py"]
    (block,) = [
        node for node in source.tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    lazily = {(f"keepfast.{home}", name) for home, names in keepfast._HOMES.items() for name in names}
    submodules = {("keepfast", name) for name in keepfast._SUBMODULES}
    assert seen == lazily | submodules
    assert {name for _, name in seen} | {"__version__"} == set(keepfast.__all__)


def test_every_package_is_typed(folders: dict[str, Path]) -> None:
    """Each has a py.typed, so that users' type checkers read its annotations."""
    assert [package for package, folder in folders.items() if not (folder / "py.typed").is_file()] == []


def test_every_hook_is_known_and_documented(project: Path) -> None:
    """Each hook has a kind to ask for, a docstring that says what it returns, and its place on the plugin page."""
    assert set(HOOKS.values()) == set(HOOK_FUNCTIONS)
    page = (project / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name, function in HOOK_FUNCTIONS.items():
        assert (inspect.getdoc(function) or "").startswith("Return ")
        assert f"`{name}`" in page or f"{name}(" in page, f"docs/plugins.md does not mention {name}"


def test_the_version_stands_in_one_place(project: Path, folders: dict[str, Path]) -> None:
    """Only `_version.py` says it; the build reads it from there."""
    assert importlib.import_module("keepfast._version").__version__ == keepfast.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", keepfast.__version__)
    quoted = re.compile(rf"""["']{re.escape(keepfast.__version__)}["']""")
    files = [project / "pyproject.toml", *(path for folder in folders.values() for path in folder.rglob("*.py"))]
    saying = [path.name for path in files if quoted.search(path.read_text(encoding="utf-8"))]
    assert saying == ["_version.py"]


_SECTION = re.compile(r"^## \[(\d+\.\d+\.\d+)\]", re.MULTILINE)


def follows(version: str, changelog: str) -> bool:
    """Say whether a version is that of the latest section, or, where what is not released stands above, a later one."""
    sections = _SECTION.findall(changelog)
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    is_pending = unreleased is not None and bool(unreleased[1].strip())
    numbers = [tuple(map(int, re.match(r"\d+\.\d+\.\d+", each)[0].split("."))) for each in (version, *sections)]
    if numbers[1:] != sorted(numbers[1:], reverse=True):
        return False
    return is_pending if not sections else numbers[0] > numbers[1] if is_pending else version == sections[0]


def test_the_version_follows_the_changelog(project: Path) -> None:
    """It is that of the topmost section, or the one to come where there are entries that were not released."""
    assert follows(keepfast.__version__, (project / "CHANGELOG.md").read_text(encoding="utf-8"))
    released = "## [0.2.0] - 2026-01-01\n- a\n## [0.1.0] - 2025-01-01\n"
    pending = f"## [Unreleased]\n- b\n{released}"
    assert [follows(each, released) for each in ("0.2.0", "0.1.0", "0.3.0")] == [True, False, False]
    assert [follows(each, pending) for each in ("0.2.0", "0.3.0", "0.1.9")] == [False, True, False]
