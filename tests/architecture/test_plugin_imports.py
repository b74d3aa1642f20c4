"""What the built-in plugins take of core that is not among its public names; anybody's plugin does without the rest."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import keepfast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Source

PLUGINS = ("backends/torch/keepfast_torch", "backends/jax/keepfast_jax", "writers/keepfast_writers")
FORMATS = "core/keepfast/formats"

BEYOND: dict[str, str] = {
    "keepfast._system.arguments.guarding.guarded": "tells what any argument raises in our words; others may as well",
    "keepfast._system.arguments.guarding.guarded_calls": "the same, of every public method",
    "keepfast._system.arguments.guarding.guarded_calls_outside": "the same, but for what Keepfast itself calls",
    "keepfast._system.arguments.guarding.tell_outside": "the same, in a call of every step",
    "keepfast._system.commit.commit_directory": "Minari's data sets hold their own name; `fill` knows none",
    "keepfast._system.disk.bounded.opened_zip": "bounds the directory of an archive; others trust `zipfile.ZipFile`",
    "keepfast._system.disk.bounded.require_few_records": "the same limit for a directory that core reads itself",
    "keepfast._system.disk.bounded.require_room": "asks for memory before polars, which ends the process without",
    "keepfast._system.disk.special.content_of": "reads what lies beside a csv, which may be a link to what has no end",
    "keepfast._system.disk.checksum.crc32": "the fastest there is, for every byte of a file; others use `zlib.crc32`",
    "keepfast._system.disk.checksum.Summed": "the sum of a file that was just written; without it, the file is read",
    "keepfast._system.disk.checksum.SummedFile": "sums what it writes, with the same",
    "keepfast._system.disk.directories.make_directory": "makes it durable with those above it; others use `mkdir`",
    "keepfast._system.disk.directories.path_of": "tells what is no path in our own words; others in Python's",
    "keepfast._system.disk.directories.sync_directory": "does without what a file system lacks; others use `os.fsync`",
    "keepfast._system.disk.directories.sync_file": "does without what a file system lacks; others use `os.fsync`",
    "keepfast._system.disk.special.is_plain_file": "tells pipes and files of the kernel apart; others use `is_file`",
    "keepfast._system.disk.special.require_own": "names a pipe where a file of the run belongs; others use `stat`",
    "keepfast._system.disk.special.special_kind": "tells pipes and devices apart; others use `stat`",
    "keepfast._system.disk.mapping.mapped_file": "does without maps where a file system lacks them; others use `mmap`",
    "keepfast._system.disk.mapping.mapped_array": "does without maps where a file system lacks them; others use `mmap`",
    "keepfast._system.notebook.live.Live": "a place in a notebook's cell; others use `IPython.display`",
    "keepfast._system.notebook.live.in_notebook": "whether there is one; others use `IPython.get_ipython`",
    "keepfast._system.notebook.tables.facts": "a title as HTML, escaped; others use `html.escape`",
    "keepfast._system.notebook.tables.table": "a table as HTML, escaped; others use `html.escape`",
    "keepfast.plain.generators.of_torch": "checks what a file says of a generator; others trust what they load",
    "keepfast._system.side_by_side.side_by_side": "spares csv the time that its texts take; others do without",
    "keepfast._system.memory.spacious.spacious_tensors": "memories larger than the machine's; NumPy's zeros do too",
    "keepfast._system.memory.giving.is_given": "tells an array that nobody else has; others copy",
    "keepfast._system.memory.giving.taken": "keeps such an array; others call `numpy.array`",
    "keepfast._system.memory.garbage.unsearched": "spares a file of many entries a quarter of its time; others wait",
    "keepfast._system.memory.room.Room": "memory that files are read into; others call `numpy.empty`",
    "keepfast._system.memory.room.memory_for": "the same for copies",
    "keepfast._system.memory.staging.copied": "a copy into warm memory; others call `numpy.array`",
    "keepfast._system.warnings.warn": "points past our own frames; others call `warnings.warn` with `KeepfastWarning`",
    "keepfast.errors.as_given": "shows a value short, whatever its `repr` raises; others use `repr`",
    "keepfast.errors.shown": "shows text of a file, short and printable; others use `repr`",
    "keepfast.interfaces.checkpoint_store.SINGLE": "the older layout writes a model by itself in a form of its own",
    "keepfast.interfaces.memory_exporter.GUESSED": "csv alone tells no dtypes; formats of others tell what they hold",
    "keepfast.interfaces.ring.EPISODE_ENDS": "names of tensors, which Minari's episodes are cut by",
    "keepfast.migration.saving.space_size": "the same count of a space in both backends' models; others have their own",
    "keepfast.modules.single.read_single": "a model without variables takes a file's; others load into what is there",
    "keepfast.modules.comparing.naming.sources": "sees through wrappers in parameters' names as in those of modules",
    "keepfast.plain.numbers.difference": "the rule for numbers that core compares modules by, within an object's state",
    "keepfast.plain.numbers.is_number": "a part of the same rule",
    "keepfast.plain.numbers.kind_of": "a part of the same rule",
    "keepfast.pickles.machine.CodeRefused": "what the machine for pickles says of code; others use `torch.load`",
    "keepfast.pickles.tensors.Again": "has tensors made of others; others use `torch.load`",
    "keepfast.pickles.machine.safe_load": "reads pickles and runs nothing of them; others use `torch.load`",
    "keepfast.metrics.tfrecord.frame": "event files are TensorBoard's format, which core reads and the writer writes",
}
"""Each name that they import beyond `keepfast.__all__`, with the reason why it is no public one."""


def beyond(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names of core that a module uses and that are not public."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_core(node.module or ""):
            names = ((node.module or "", alias.name) for alias in node.names)
            yield from (f"{module}.{name}" for module, name in names if not _is_public(module, name))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_core(alias.name) and alias.name != "keepfast")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keepfast":
            yield from [f"keepfast.{node.attr}"] * (node.attr not in keepfast.__all__)


def _is_core(module: str) -> bool:
    return module == "keepfast" or module.startswith("keepfast.")


def _is_public(module: str, name: str) -> bool:
    """Say whether a name is one of the package's, if only by the path of its home, or one of a public module's."""
    inner = module.removeprefix("keepfast").removeprefix(".")
    if not inner or keepfast._HOME_OF.get(name) == inner:
        return name in keepfast.__all__
    if inner not in keepfast._SUBMODULES:
        return False
    told = getattr(importlib.import_module(module), "__all__", None)
    return name in told if told is not None else not name.startswith("_")


@pytest.fixture
def plugins(sources: Sequence[Source]) -> list[Source]:
    """Return the modules of the built-in backends, writers and formats."""
    return [source for source in sources if source.path.as_posix().startswith((*PLUGINS, FORMATS))]


def test_built_in_plugins_take_little_that_is_not_public(plugins: Sequence[Source]) -> None:
    """What they take beyond the public names stands in `BEYOND` with its reason, and nothing else stands there."""
    used = {name for source in plugins for name in beyond(source.tree) if not name.startswith("keepfast.formats.")}
    assert used == set(BEYOND)


def test_every_plugin_is_looked_at(plugins: Sequence[Source]) -> None:
    """The test above sees both backends, the writers and the formats."""
    seen = {source.path.as_posix() for source in plugins}
    assert all(any(path.startswith(folder) for path in seen) for folder in (*PLUGINS, FORMATS))


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "from keepfast._system.tally import Tally",
            ["keepfast._system.tally.Tally"],
        ),
        ("def late():\n    from keepfast.runs import schedule", ["keepfast.runs.schedule"]),
        ("import keepfast.runs.schedule", ["keepfast.runs.schedule"]),
        ("import keepfast\nkeepfast.errors.InvalidValue", ["keepfast.errors"]),
        ("from keepfast.metrics import tfrecord", ["keepfast.metrics.tfrecord"]),
        ("from keepfast.interfaces.writer import _string", ["keepfast.interfaces.writer._string"]),
        ("import keepfast\nkeepfast.Writer", []),
        ("from keepfast import Writer, __version__, tree", []),
        ("from keepfast.interfaces.writer import Writer", []),
        ("from keepfast.tree import Tree, flatten", []),
        ("from keepfast.metrics import tags", []),
        ("import keepfast_writers.csv", []),
    ],
)
def test_what_is_not_public_is_noticed(statement: str, found: list[str]) -> None:
    """However it is imported; public names are fine by any of their paths."""
    assert list(beyond(ast.parse(statement))) == found
