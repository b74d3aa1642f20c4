"""The source of the packages, parsed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDERS = {
    "keepfast": "core/keepfast",
    "keepfast_torch": "backends/torch/keepfast_torch",
    "keepfast_jax": "backends/jax/keepfast_jax",
    "keepfast_writers": "writers/keepfast_writers",
}


@dataclass(frozen=True)
class Source:
    """One module of a package."""

    package: str
    path: Path
    text: str
    tree: ast.Module

    def imports(self) -> set[str]:
        """Return every top-level package that is imported, at whatever level of the module, by name or by string."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: a relative import"
                found.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                named = node.args[0]
                if isinstance(named, ast.Constant) and isinstance(named.value, str):
                    found.add(named.value.partition(".")[0])
        return found


@pytest.fixture(scope="session")
def sources(project: Path) -> list[Source]:
    """Return the modules of all four packages."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted((project / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Source(package, path.relative_to(project), text, ast.parse(text)))
    return found


@pytest.fixture(scope="session")
def folders(project: Path) -> dict[str, Path]:
    """Return the folder of each package."""
    return {package: project / folder for package, folder in FOLDERS.items()}
