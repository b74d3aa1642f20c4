"""What the documentation takes from the code is what the code says."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from keepfast import ExperimentConfig
from tests.architecture import generated


def test_the_table_of_settings_is_that_of_the_model() -> None:
    """Every setting has a row; `python -m tests.architecture.generated` wrote it since the model changed last."""
    page = generated.SETTINGS.read_text("utf-8")
    assert generated.with_table(page) == page
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)[: len(ExperimentConfig.model_fields)] == list(
        ExperimentConfig.model_fields
    )


@pytest.mark.parametrize("name", ExperimentConfig.model_fields)
def test_the_example_of_a_setting_is_allowed(name: str) -> None:
    """And it is not the default, which would show nothing."""
    example = ExperimentConfig.model_json_schema()["properties"][name]["examples"][0]
    changed = ExperimentConfig({name: example})
    assert getattr(changed, name) == example
    assert getattr(ExperimentConfig(), name) != example


def test_the_list_of_names_is_that_of_the_packages() -> None:
    """Each with the first line of its docstring."""
    assert generated.NAMES.read_text("utf-8") == generated.names_page()


def directives(docs: Path) -> set[str]:
    """Return what the pages have documented: each path, and the public names of each module."""
    shown = {
        path
        for page in docs.rglob("*.md")
        for path in re.findall(r"^::: ([\w.]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    for path in list(shown):
        if importlib.util.find_spec(path.rpartition(".")[0]) and _is_module(path):
            shown |= {f"{path}.{name}" for name in vars(importlib.import_module(path)) if not name.startswith("_")}
    return shown


def _is_module(path: str) -> bool:
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("package", ["keepfast", "keepfast_torch", "keepfast_jax", "keepfast.testing"])
def test_every_public_name_has_a_page(project: Path, package: str) -> None:
    """One that has none fails here, by name."""
    shown = directives(project / "docs")
    homes = [home for home in generated.public_names(package).values() if home is not None]
    assert len(homes) > 2
    assert [home for home in homes if home not in shown] == []
