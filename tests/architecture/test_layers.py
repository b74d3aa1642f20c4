"""Which room of core may know which: a room imports only from layers below its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source

LAYERS = (
    ("errors", "_version"),
    ("_system",),
    ("tree",),
    ("codec", "_arrays", "pickles"),
    ("interfaces", "config"),
    ("plugins", "plain", "provenance"),
    ("metrics", "tracking", "memories", "checkpoints"),
    ("modules", "pictures"),
    ("formats", "migration", "runs"),
    ("experiment", "hub", "report"),
    ("agent", "adapters", "testing"),
    ("cli",),
)
"""The rooms and the modules at the root, the lowest layer first; rooms of one layer do not know each other."""

LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
CORE = Path("core/keepfast")
ROOT = {"__init__", "_arrays", "_version", "agent", "codec", "config", "errors", "experiment", "tree"}
LARGEST_ROOM = 9


def room_of(module: str) -> str:
    """Return the room of a module: ``keepfast.runs.schedule`` is of ``runs``."""
    return module.removeprefix("keepfast").lstrip(".").partition(".")[0]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the room of every import of core, also late ones, those under TYPE_CHECKING and by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, room_of(alias.name)) for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            below = [alias.name for alias in node.names] if node.module == "keepfast" else [room_of(node.module or "")]
            yield from ((node.lineno, name) for name in below)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str) and _is_ours(named.value):
                yield node.lineno, room_of(named.value)


def _is_ours(module: str) -> bool:
    return module == "keepfast" or module.startswith("keepfast.")


def upward(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports from its own layer's other rooms or from above."""
    own = path.relative_to(CORE).with_suffix("").parts[0]
    for line, room in imported(tree):
        if room != own and LAYER_OF.get(room, len(LAYERS)) >= LAYER_OF[own]:
            yield f"{path}:{line}: `{own}` imports `{room}`"


@pytest.fixture
def core(sources: Sequence[Source]) -> list[Source]:
    """Return the modules of core but for the package's own, which names all that is public."""
    return [source for source in sources if source.package == "keepfast" and source.path != CORE / "__init__.py"]


def test_no_import_goes_upward(core: Sequence[Source]) -> None:
    """A room knows only rooms of lower layers; plugin rows name what is above by text."""
    assert [found for source in core for found in upward(source.path, source.tree)] == []


def test_every_room_has_a_layer(core: Sequence[Source]) -> None:
    """A new room is a word in `LAYERS`."""
    assert {source.path.relative_to(CORE).with_suffix("").parts[0] for source in core} <= set(LAYER_OF)


def test_formats_are_named_by_plugin_rows_alone(core: Sequence[Source]) -> None:
    """Nothing outside `formats` imports a format."""
    outside = [source for source in core if source.path.relative_to(CORE).parts[0] != "formats"]
    naming = [f"{each.path}:{line}" for each in outside for line, room in imported(each.tree) if room == "formats"]
    assert naming == []


def test_no_room_holds_more_than_nine_modules(core: Sequence[Source]) -> None:
    """A room that grows beyond nine files, beside its ``__init__``, is two rooms; the root has its nine alone."""
    rooms: dict[Path, set[str]] = {}
    for source in core:
        rooms.setdefault(source.path.relative_to(CORE).parent, set()).add(source.path.stem)
    root = rooms.pop(Path()) | {"__init__"}
    assert {str(room) for room, modules in rooms.items() if len(modules - {"__init__"}) > LARGEST_ROOM} == set()
    assert root == ROOT


def test_the_page_on_the_house_shows_it_as_it_is(core: Sequence[Source], project: Path) -> None:
    """Every file that docs/house.md names is there, and its layers are those that are held."""
    page = (project / "docs" / "house.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)`", page))
    places = [project, project / CORE]
    assert {
        name for name in named if not re.search(r"\bx\b", name) and not any((at / name).exists() for at in places)
    } == set()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    rooms = {source.path.relative_to(CORE).with_suffix("").parts[0] for source in core}
    standing = [[room for room in layer if room in rooms] for layer in LAYERS]
    assert [re.findall(r"`(\w+)`", listed) for _, listed in rows] == standing


@pytest.mark.parametrize(
    "statement",
    [
        "from keepfast.runs.schedule import Schedule",
        "from keepfast.runs import schedule",
        "import keepfast.experiment",
        "from keepfast import Experiment",
        "if TYPE_CHECKING:\n    from keepfast.agent import Agent",
        "def late():\n    from keepfast.cli import app",
        "import importlib\nimportlib.import_module('keepfast.runs.schedule')",
        "from keepfast.memories.files import read_memory",
    ],
)
def test_an_upward_import_is_noticed(statement: str) -> None:
    """However it is written: late, for type checkers alone, by the package's own name, or of a room beside."""
    assert len(list(upward(CORE / "tracking" / "tracker.py", ast.parse(statement)))) == 1
