"""The table of faults fits the code, and what tries them out tells the killed from the living."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import __main__ as command
from mutants.running import Workshop
from mutants.table import Mutant, TableError, equivalents, mutants, replaced

ROOMS = {
    "core/keepfast/_system/": "tests/core/system/",
    "core/keepfast/": "tests/core/",
    "backends/torch/": "tests/torch_backend/",
    "backends/jax/": "tests/jax_backend/",
    "writers/": "tests/writers/",
}
"""Where the tests of a folder are, the narrowest first; below core, each room has a folder of its own."""

AT_LEAST = 100


def folder_of(file: str) -> str:
    """Return the folder that the tests of a file are in."""
    code, tests = next((code, tests) for code, tests in ROOMS.items() if file.startswith(code))
    room, _, rest = file.removeprefix(code).partition("/")
    return f"{tests}{room}/" if code == "core/keepfast/" and rest else tests


def functions(path: Path) -> set[str]:
    """Return the tests of a file as pytest names them, those of inherited contracts left out."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
            found.add(node.name)
    return found


def test_every_fault_fits_the_file_that_it_is_about(project: Path) -> None:
    """Its old text is there once, and what comes out is another program."""
    for row in [*mutants(), *equivalents()]:
        replaced(row, (project / row.file).read_text(encoding="utf-8"))


def test_the_tests_that_must_notice_exist_and_are_of_the_room(project: Path) -> None:
    """A fault of a room is noticed there, so that whoever works on it sees what it breaks."""
    wrong = []
    known: dict[str, set[str]] = {}
    for mutant in mutants():
        for test in mutant.tests:
            path, _, name = test.partition("::")
            if path not in known:
                known[path] = functions(project / path) if (project / path).is_file() else set()
            # A contract's test is not in the class that inherits it; a folder names all tests in it.
            there = bool({name, name.partition("::")[0]} & known[path]) if name else (project / path).exists()
            if not (there and f"{path}/".startswith(folder_of(mutant.file))):
                wrong.append(f"{mutant}: {test}")
    assert wrong == []


def test_the_table_is_large_enough_and_says_nothing_twice() -> None:
    """There are at least a hundred faults, no two of one text, each with tests."""
    rows = mutants()
    assert len(rows) >= AT_LEAST
    assert len({(row.file, row.old, row.new) for row in rows}) == len(rows)
    assert len({(row.file, row.says) for row in rows}) == len(rows)
    assert all(row.tests for row in rows)


CODE = "def larger(a, b):\n    return a if a > b else b\n"
TESTS = """
from small import larger
def test_larger():
    assert larger(1, 2) == 2
def test_nothing():
    pass
def test_skipped():
    __import__("pytest").skip("not here")
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a project of one function and its tests."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "small.py").write_text(CODE)
    (tmp_path / "test_small.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def fault(new: str, *tests: str, old: str = "a > b", number: int = 1) -> Mutant:
    return Mutant(number, "the smaller is taken", "code/small.py", old, new, tests or ("test_small.py",))


def workshop(small: Path, tmp_path_factory: pytest.TempPathFactory, seconds: float = 60.0) -> Workshop:
    return Workshop(small, tmp_path_factory.mktemp("workshop"), ["code"], seconds)


@pytest.mark.parametrize(
    ("mutant", "outcome"),
    [
        (fault("a < b"), "killed"),
        (fault("a >= b"), "survived"),
        (fault("a < b", "test_small.py::test_nothing"), "survived"),
        (fault("a < b", "test_small.py::test_skipped"), "survived"),
        (fault("a < b", "test_small.py::test_of_yesterday"), "broken"),
        (fault("1 / 0", old=CODE), "broken"),
        (fault("while True: pass", old="return a if a > b else b"), "hung"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.new,
)
def test_a_fault_is_killed_by_a_test_that_fails(
    small: Path, tmp_path_factory: pytest.TempPathFactory, mutant: Mutant, outcome: str
) -> None:
    """A fault that all named tests pass with survives; one that they hang with is told as such, and tests that are
    not there, or cannot be imported, kill nothing."""
    bench = workshop(small, tmp_path_factory, 2.0 if outcome == "hung" else 60.0)
    verdict = bench.try_out(mutant)
    assert (verdict.outcome, verdict.noticed) == (outcome, outcome in ("killed", "hung"))
    assert (small / "code" / "small.py").read_text() == CODE


@pytest.mark.parametrize(("old", "new"), [("a > c", "a < c"), ("b", "a"), ("a > b", "a >"), ("a > b", "a > b")])
def test_a_fault_that_does_not_fit_is_an_error(old: str, new: str) -> None:
    """Text that is not there, or more than once, and what is no Python, or no change: the error names the fault."""
    with pytest.raises(TableError, match=r"1: code/small\.py: the smaller is taken"):
        replaced(fault(new, old=old), CODE)


def test_the_command_tells_who_lives(
    small: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with an error where a fault lives, which it shows with the tests that were to notice it."""
    bench = workshop(small, tmp_path_factory)
    assert command.run([fault("a < b")], bench, workers=1) == 0
    assert "1 of 1 killed" in capsys.readouterr().out
    assert command.run([fault("a >= b"), fault("a < b", number=2)], bench, workers=2) == 1
    told = capsys.readouterr().out
    assert "survived 1: code/small.py" in told
    assert "  - a > b\n  + a >= b\n  was not noticed by\n    test_small.py" in told
    assert "1 of 2 killed" in told


def test_tests_that_fail_without_any_fault_notice_none(
    small: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is tried out with them: every fault would seem to be killed."""
    (small / "test_small.py").write_text(TESTS.replace("== 2", "== 3"))
    assert command.run([fault("a < b")], workshop(small, tmp_path_factory), workers=1) == 2
    assert "the tests of test_small.py fail without any fault" in capsys.readouterr().out


def test_some_are_chosen_by_number_and_file() -> None:
    """A number, or a part of a file's name; one that is not there is an error."""
    rows = mutants()
    assert command.choose(rows, []) == rows
    assert command.choose(rows, ["2", "1"]) == rows[:2]
    assert {row.file for row in command.choose(rows, ["retention"])} == {"core/keepfast/checkpoints/retention.py"}
    with pytest.raises(TableError, match="there is no fault `nobody`"):
        command.choose(rows, ["nobody"])


def test_a_wrong_choice_is_told(project: Path) -> None:
    """The command says so and ends with an error."""
    ended = subprocess.run(
        [sys.executable, "-m", "mutants", "nobody"], cwd=project, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("there is no fault `nobody`")
