"""Writes what the documentation takes from the code: the table of settings, and the list of every public name.

``python -m tests.architecture.generated`` writes both; a test fails where one is not what would be written.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keepfast
import keepfast_jax
import keepfast_torch
from keepfast import testing
from keepfast._system.arguments.settings import allowed_by
from keepfast.config import ExperimentConfig

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS, NAMES = DOCS / "configuration.md", DOCS / "reference" / "index.md"

BEGIN, END = "<!-- made by python -m tests.architecture.generated -->\n", "<!-- until here -->\n"

_MEANT = {"keepfast.hookimpl": "marks an implementation of a hook", "keepfast.__version__": "the version, a text"}
"""What stands for names that have no page: one is an object of pluggy, the other a text."""

_MODULES = ("adapters", "codec", "hub", "metrics", "plugins", "testing", "tree")


def settings_table() -> str:
    """Return a row for each setting: type, default, meaning and an example, as the model has them."""
    schemas = ExperimentConfig.model_json_schema()["properties"]
    defaults = ExperimentConfig().model_dump()
    rows = [
        f"| `{name}` | {_cell(allowed_by(schema))} | `{_literal(defaults[name])}` | {_cell(schema['description'])} "
        f"| `{_literal(schema['examples'][0])}` |"
        for name, schema in schemas.items()
    ]
    head = ["| setting | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(["", *head, *rows, "", ""])


def _literal(value: Any) -> str:
    return repr(value).replace("'", '"')


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def names_page() -> str:
    """Return the list of every public name, each with the page that tells of it."""
    parts = ["# Every public name", "", "What users and plugins may count on. Anything else may change.", ""]
    for package in ("keepfast", "keepfast_torch", "keepfast_jax", "keepfast.testing"):
        parts += [f"## {package}", "", "| name | what it does |", "| --- | --- |", *_rows(package), ""]
    parts += [
        "`keepfast.testing` needs pytest. The modules `keepfast.metrics`, `keepfast.hub`, `keepfast.plugins`,",
        "`keepfast.adapters`, `keepfast.tree` and `keepfast.codec` have pages of their own: [metrics](metrics.md),",
        "[the Hub](hub.md), [plugins](plugins.md), [agents](agent.md) and [trees](trees.md).",
        "",
    ]
    return "\n".join(parts)


def _rows(package: str) -> Iterator[str]:
    for name, home in public_names(package).items():
        if home is not None:
            yield f"| [`{name}`][{home}] | {summary(home)} |"
        elif name not in _MODULES:
            yield f"| `{name}` | {_MEANT[f'keepfast.{name}']} |"


def public_names(package: str) -> Mapping[str, str | None]:
    """Return the public names of a package, each with its full path, or None where it is a module or has no page."""
    if package == "keepfast.testing":
        return {name: f"{getattr(testing, name).__module__}.{name}" for name in testing.__all__}
    if package == "keepfast":
        homes = {name: f"keepfast.{home}.{name}" for home, names in keepfast._HOMES.items() for name in names}
        return {name: homes.get(name) if name != "hookimpl" else None for name in keepfast.__all__}
    module = {"keepfast_torch": keepfast_torch, "keepfast_jax": keepfast_jax}[package]
    return {name: f"{package}.{home}.{name}" for name, home in sorted(module._HOMES.items())}


def summary(path: str) -> str:
    """Return the first sentence of what a name's docstring says, without importing what it may need."""
    module, _, name = path.rpartition(".")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text("utf-8")).body
    for number, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _first_line(ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in ast.unparse(node).split(" = ")[0].split(":")[0]:
            after = body[number + 1]
            return _first_line(str(after.value.value)) if _is_text(after) else ""
    raise AssertionError(f"{path} is not there")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _first_line(text: str) -> str:
    return inspect.cleandoc(text).partition("\n")[0].replace("|", "\\|")


def with_table(page: str) -> str:
    """Return the page on settings with its table as it is now."""
    return re.sub(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda _: settings_table(), page, flags=re.DOTALL)


if __name__ == "__main__":
    SETTINGS.write_text(with_table(SETTINGS.read_text("utf-8")), "utf-8")
    NAMES.write_text(names_page(), "utf-8")
