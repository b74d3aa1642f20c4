"""What keeps a test from being skipped everywhere without anybody noticing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.suite import guard

TESTS = ["test_a.py::test_anywhere", "test_a.py::test_with_everything", "test_a.py::test_on_a_gpu"]
SKIPPED = "skipped: needs no_such_thing"


def write(folder: Path, name: str, outcomes: dict[str, str], collected: list[str] = TESTS) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"collected": collected, "outcomes": outcomes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return records by which each test passed in one of two environments, or lacked a GPU."""
    write(tmp_path, "core", {TESTS[0]: "passed"})
    write(tmp_path, "all", {TESTS[2]: "skipped: needs a CUDA device"})
    write(tmp_path, "all-timing", {TESTS[1]: "passed"})
    return tmp_path


def judge(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Return the exit code and the lines that are printed."""
    code = guard.main(folder, ["core", "all"])
    return code, capsys.readouterr().out.splitlines()


def test_a_suite_whose_tests_all_pass_somewhere_is_let_through(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """It does not matter where; what only lacks a machine's part is counted, with the reason."""
    assert judge(folder, capsys) == (
        0,
        [
            "core: 1 tests passed",
            "all: 1 tests passed",
            "1 skipped: needs a CUDA device (few machines have one; run the marker gpu where there is one)",
            "3 tests, 0 of them without a session where they passed",
        ],
    )


def test_a_test_that_is_skipped_everywhere_is_named_with_the_reasons(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    """A green suite is not enough."""
    write(folder, "core", {TESTS[0]: SKIPPED})
    write(folder, "all", {TESTS[0]: SKIPPED})
    code, lines = judge(folder, capsys)
    assert code == 1
    assert f"passed nowhere: {TESTS[0]}: {SKIPPED} in core; {SKIPPED} in all" in lines
    assert lines[-1] == "3 tests, 2 of them without a session where they passed"


def test_a_test_that_no_session_runs_is_named(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """A mark that sends it where no session takes it is noticed."""
    write(folder, "core", {})
    code, lines = judge(folder, capsys)
    assert (code, f"passed nowhere: {TESTS[0]}: no session ran it" in lines) == (1, True)


def test_a_module_that_is_skipped_as_a_whole_is_named(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Its tests are not even collected; without a framework that is as it should be, with everything it is not."""
    write(folder, "core", {TESTS[0]: "passed", "test_b.py": SKIPPED})
    assert judge(folder, capsys)[0] == 0
    write(folder, "all", {"test_b.py": SKIPPED})
    code, lines = judge(folder, capsys)
    assert (code, f"passed nowhere: test_b.py: {SKIPPED} in core; {SKIPPED} in all" in lines) == (1, True)


def test_a_skip_is_excused_only_where_it_is_a_machines_everywhere(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Lacking a GPU here and a package there, a test is not excused."""
    write(folder, "core", {TESTS[0]: "passed", TESTS[2]: SKIPPED})
    code, lines = judge(folder, capsys)
    assert code == 1
    assert f"passed nowhere: {TESTS[2]}: {SKIPPED} in core; skipped: needs a CUDA device in all" in lines


def test_a_test_that_failed_is_named(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """It did not pass."""
    write(folder, "core", {TESTS[0]: "failed"})
    code, lines = judge(folder, capsys)
    assert (code, f"passed nowhere: {TESTS[0]}: failed in core" in lines) == (1, True)


def test_a_session_that_did_not_run_is_asked_for(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """A part of the sessions proves nothing of the whole."""
    (folder / "core.json").unlink()
    told = "no session recorded the tests of: core; run all of them, as `python -m nox` does"
    assert judge(folder, capsys) == (1, [told])
