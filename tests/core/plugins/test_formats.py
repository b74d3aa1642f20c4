"""The format of a checkpoint or a memory is told by its name, and where a package is missing, what to install."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast
from keepfast.plugins import lazy, registry
from keepfast.plugins.builtin import keepfast_checkpoint_formats, keepfast_memory_formats
from keepfast.plugins.formats import Kind, format_of, format_of_content, numeric_order, read_checkpoint

ROWS: list[tuple[Kind, str, lazy]] = [
    *(("checkpoint format", name, row) for name, row in keepfast_checkpoint_formats().items()),
    *(("memory format", name, row) for name, row in keepfast_memory_formats().items()),
]
NEEDY = [(kind, name, row) for kind, name, row in ROWS if row.requires]
OPTIONAL = {package for _, _, row in NEEDY for package in row.requires}
ERRORS: dict[Kind, type[Exception]] = {
    "checkpoint format": keepfast.ConfigError,
    "memory format": keepfast.InvalidValue,
}
KINDS = tuple(ERRORS)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes packages missing, as in an environment where they are not installed."""

    def hide(*packages: str) -> None:
        monkeypatch.setattr(lazy, "missing", lambda row: tuple(name for name in row.requires if name in packages))

    return hide


@pytest.mark.parametrize(
    ("kind", "name", "row"), [pytest.param(*each, marks=pytest.mark.needs(*each[2].requires)) for each in ROWS], ids=str
)
def test_every_row_is_found_by_the_extension_it_writes(kind: Kind, name: str, row: lazy, tmp_path: Path) -> None:
    """Whatever a format saves is given back to that format, of both kinds alike."""
    made = row()
    assert type(format_of(kind, tmp_path / f"agent_100{made.extension}")) is type(made)


@pytest.mark.parametrize(("kind", "name", "row"), NEEDY, ids=str)
def test_a_format_whose_package_is_missing_says_what_to_install(
    kind: Kind, name: str, row: lazy, tmp_path: Path, without: Callable[..., None]
) -> None:
    """By the name of the file alone, for each package of each row, whether the file is read or written."""
    for package in row.requires:
        without(package)
        with pytest.raises(keepfast.MissingDependency) as raised:
            format_of(kind, tmp_path / f"x.{name}")
        assert f'`{package}`, which is not installed; run: pip install "keepfast[{row.extra}]"' in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_hurts_no_other_format(kind: Kind, tmp_path: Path, without: Callable[..., None]) -> None:
    """With none of the optional packages, every format that needs none is found."""
    without(*OPTIONAL)
    for each, _, row in ROWS:
        if each == kind and not row.requires:
            made = row()
            assert type(format_of(kind, tmp_path / f"x{made.extension}")) is type(made)


LOADING = """
import sys
sys.modules["msgpack"] = None
import keepfast
from keepfast.tree import Tree
class Numbers(keepfast.Backend):
    name, checkpoint_format = "numbers", "pt"
    def recognizes(self, module): return isinstance(module, dict)
    def capture(self, module): return module
    def restore(self, module, state, device=None): module.update(state)
class Plugin:
    @keepfast.hookimpl
    def keepfast_backends(self): return {"numbers": Numbers}
keepfast.plugins.registry().register(Plugin(), "numbers")
for path in sys.argv[1:]:
    for call in (keepfast.load, keepfast.save):
        try:
            call({"w": 1.0}, path)
        except keepfast.MissingDependency as error:
            print(error)
"""


def test_loading_and_saving_without_msgpack_say_what_to_install(tmp_path: Path) -> None:
    """In a process that has no msgpack, as after an install for PyTorch alone."""
    paths = [tmp_path / "x.msgpack", tmp_path / "x.pickle"]
    for path in paths:
        path.write_bytes(b"x")
    done = subprocess.run([sys.executable, "-c", LOADING, *paths], capture_output=True, text=True, check=True)
    needs = '`{}` needs `msgpack`, which is not installed; run: pip install "keepfast[jax]"'
    assert done.stdout.splitlines() == [needs.format("MsgpackStore")] * 2 + [needs.format("PickleStore")] * 2


@pytest.mark.parametrize(("kind", "error"), ERRORS.items())
def test_an_extension_of_no_format_is_told_with_those_there_are(
    kind: Kind, error: type[Exception], tmp_path: Path, without: Callable[..., None]
) -> None:
    """Both kinds list what is known and the nearest, and which formats could not be asked, with what to run."""
    without(*OPTIONAL)
    with pytest.raises(error) as raised:
        format_of(kind, tmp_path / "x.safetensor")
    first, *hints = str(raised.value).splitlines()
    assert f"x.safetensor` has the extension of no {kind}; known: " in first
    assert first.endswith("Did you mean `.safetensors`?")
    assert len(hints) == len([row for each, _, row in NEEDY if each == kind])
    assert all(" needs `" in hint and "run: pip install" in hint for hint in hints)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def register(kind: Kind) -> Iterator[Callable[..., None]]:
    """Return what registers formats of a kind by hand."""
    hook = {"checkpoint format": "keepfast_checkpoint_formats", "memory format": "keepfast_memory_formats"}[kind]
    plugins: list[Any] = []

    def add(**table: Any) -> None:
        plugins.append(SimpleNamespace(**{hook: keepfast.hookimpl(lambda: table)}))
        registry().register(plugins[-1], f"formats-{len(plugins)}")

    yield add
    for plugin in plugins:
        registry().unregister(plugin)


def fail() -> Any:
    raise OSError("libfoo.so is missing")


def test_a_broken_format_hurts_nobody_else(kind: Kind, register: Callable[..., None], tmp_path: Path) -> None:
    """Files of other formats are found though one cannot be made, and who asks for a stranger is told of it."""
    register(aaa=fail)
    assert format_of(kind, tmp_path / "x.pt").extension == ".pt"
    with pytest.raises((keepfast.ConfigError, keepfast.InvalidValue), match=r"`aaa` is broken: OSError: libfoo\.so"):
        format_of(kind, tmp_path / "x.xyz")


def test_a_third_party_format_says_what_it_needs_too(kind: Kind, register: Callable[..., None], tmp_path: Path) -> None:
    """Its row names a package; a file of its name asks for that, and another format of that extension stands in."""
    register(zarr=lazy("nobody:Store", requires=("no_such_package",)))
    with pytest.raises(keepfast.MissingDependency, match="`no_such_package`, which is not installed; run: pip install"):
        format_of(kind, tmp_path / "x.zarr")
    standing_in = SimpleNamespace(extension=".zarr", owns=lambda path: path.suffix == ".zarr")
    register(other=lambda: standing_in)
    assert format_of(kind, tmp_path / "x.zarr") is standing_in


def test_a_directory_is_no_checkpoint(tmp_path: Path) -> None:
    """Neither a run's nor one that happens to have the extension of a file."""
    for name in ("run", "agent_5.pt"):
        (tmp_path / name).mkdir()
        with pytest.raises(keepfast.NotFound, match=rf"{name}` is a directory, not a checkpoint"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(keepfast.NotFound, match=r"cannot load `.*absent`: it is not there"):
        read_checkpoint(tmp_path / "absent")


def test_reading_a_checkpoint_imports_what_its_format_needs_and_nothing_else(tmp_path: Path) -> None:
    """A file of PyTorch's format is found without asking those of Flax."""
    script = (
        "import sys, pathlib; from keepfast.plugins.formats import format_of;"
        "format_of('checkpoint format', pathlib.Path('x.pt')); print('msgpack' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_numbers_in_names_sort_as_numbers() -> None:
    """2 comes before 10, wherever in the name it stands."""
    names = ["m_10_a.pt", "m_9_b.pt", "m_9_a.pt", "m.pt", "a_100.pt"]
    assert sorted(names, key=lambda name: numeric_order(Path(name))) == [
        "a_100.pt",
        "m.pt",
        "m_9_a.pt",
        "m_9_b.pt",
        "m_10_a.pt",
    ]


def test_a_header_of_any_length_is_no_pickle(tmp_path: Path) -> None:
    """Some lengths of a safetensors header begin as pickles and maps of msgpack do."""
    for length in (*range(64, 320), *range(0x0280, 0x0580, 0x100), 0x0480):
        header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
        path = tmp_path / f"{length}.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + header + b"\7")
        assert read_checkpoint(path).state["w"].tolist() == [7]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_told_by_its_content(protocol: int) -> None:
    """Whatever it holds; its first bytes are no length of a header."""
    for value in ({}, {"{": 1}, {"a": b"{" * 300}, [{"{{{{{{{{": None}], b"\0" * 100):
        assert format_of_content(pickle.dumps(value, protocol)[:16]) == "pickle"
