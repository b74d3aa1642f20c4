"""The shape of the code: what the house style can be held to by a machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import Source

MEANT_TO_BE_SUBCLASSED = {
    "Memory": "each backend's RandomMemory is one that makes its own storage, and changes nothing else",
    "Agent": "the base class of users' agents, and usable as it is",
    "Model": "a mixin of users' networks",
}
"""Concrete classes that are neither abstract nor final, each with the reason."""

MODULE_LINES, FUNCTION_LINES = 500, 40
LIBRARIES = {"stable_baselines3"}
"""What other libraries are called, which a file about one is called too."""

UNTELLING = re.compile(r"(^|_)(utils?|helpers?|managers?|common|misc)(_|$)|\d$")


def classes(sources: Sequence[Source]) -> Iterator[tuple[str, ast.ClassDef]]:
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                yield f"{source.path}:{node.lineno} {node.name}", node


def is_settled(node: ast.ClassDef, errors: set[str]) -> bool:
    """Say whether a class is abstract, final, a protocol or an error."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    bases = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
    abstract = any(
        ast.unparse(decorator).endswith("abstractmethod")
        for method in node.body
        if isinstance(method, ast.FunctionDef)
        for decorator in method.decorator_list
    )
    return "final" in decorators or abstract or bool(bases & ({"ABC", "Protocol", "Exception", "UserWarning"} | errors))


def test_every_class_is_abstract_or_final(sources: Sequence[Source]) -> None:
    """Concrete classes are leaves; the few that users subclass are listed with their reason."""
    errors = {node.name for where, node in classes(sources) if "core/keepfast/errors.py" in where}
    open_classes = [
        where
        for where, node in classes(sources)
        if node.name not in MEANT_TO_BE_SUBCLASSED and not is_settled(node, errors) and "/testing/" not in where
    ]
    assert open_classes == []
    assert set(MEANT_TO_BE_SUBCLASSED) <= {node.name for _, node in classes(sources)}


def test_contract_suites_are_there_to_be_inherited(sources: Sequence[Source]) -> None:
    """What `keepfast.testing` ships beside them is abstract or final like everything else."""
    wrong = [
        where
        for where, node in classes(sources)
        if "/testing/" in where and not node.name.endswith("Contract") and not is_settled(node, set())
    ]
    assert wrong == []


def test_modules_are_short(sources: Sequence[Source]) -> None:
    """A module is one idea; past 500 lines it is two."""
    lengths = {str(source.path): len(source.text.splitlines()) for source in sources}
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_functions_are_short(sources: Sequence[Source]) -> None:
    """A function has 40 lines at the very most, its docstring not counted."""
    long: dict[str, int] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{source.path}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_modules_and_classes_are_named_by_their_role(sources: Sequence[Source]) -> None:
    """No utils, helpers, managers, and nothing with a number for a name."""
    names = [(str(source.path), source.path.stem) for source in sources]
    names += [(where, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower()) for where, node in classes(sources)]
    assert [where for where, name in names if UNTELLING.search(name) and name not in LIBRARIES] == []


def tracked(project: Path) -> list[Path]:
    if not (project / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, text=True, check=True)
    return [project / name for name in listed.stdout.split("\0") if name]


def test_no_file_mentions_the_machine_it_was_made_on(project: Path) -> None:
    """The project stands alone: no paths beside the checkout, none of a builder's machine."""
    outside = (".." + "/shared", "/work" + "/", "/tmp" + "/v/", "/root" + "/")
    telling = {
        str(path.relative_to(project))
        for path in tracked(project)
        if path.is_file() and any(text in path.read_text(encoding="utf-8", errors="replace") for text in outside)
    }
    assert telling == set()


def test_the_old_name_is_gone(project: Path) -> None:
    """The product had another name once; only the changelog, which tells so, contains it."""
    old = "hold" + "fast"
    found = {
        path.relative_to(project).as_posix()
        for path in tracked(project)
        if old in path.as_posix().lower() or old in path.read_text(encoding="utf-8", errors="replace").lower()
    }
    assert found <= {"CHANGELOG.md"}


def test_documents_name_tests_that_exist(project: Path) -> None:
    """A promise beside a test that is gone is no promise."""
    pages = [project / "README.md", *(project / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"tests/[\w/]+(?:\.py)?", page.read_text(encoding="utf-8"))}
    assert {name for name in named if not (project / name).exists()} == set()


def test_nothing_is_left_to_do(sources: Sequence[Source]) -> None:
    """No note to a later self stands in the code."""
    left = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(source.path) for source in sources if left.search(source.text)] == []
