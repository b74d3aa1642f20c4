"""`keepfast memory`: what it prints of memory files, and what it makes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import keepfast
from keepfast.cli import console
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.plugins.formats import exporter_named
from keepfast.testing.damage import truncations
from keepfast.testing.memory_exporter import assert_same

Called = tuple[int, str, str]


@pytest.fixture
def call(call: Callable[..., Called]) -> Callable[..., Called]:
    """Return a function that runs ``keepfast memory``: its exit code, stdout and stderr."""
    return functools.partial(call, "memory")


def memory(first: float = 1, *, filled: bool = True) -> MemorySnapshot:
    """Return a memory of 3 rows and 2 environments, with a row missing unless it is filled."""
    steps = (first + np.arange(3, dtype=np.float32))[:, None, None] * np.ones((3, 2, 4), np.float32)
    terminated = np.zeros((3, 2, 1), np.bool_)
    if not filled:
        steps[2] = 0
    return MemorySnapshot({"steps": steps, "terminated": terminated}, 0 if filled else 2, 0, filled, {"agent": "PPO"})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a directory with three memory files, their numbers out of the order of their names."""
    (tmp_path / "memory").mkdir()
    for number in (1, 2, 10):
        exporter_named("npz").save(memory(number), tmp_path / "memory" / f"run_memory_{number}.npz")
    return tmp_path / "memory"


def test_the_group_lists_its_commands(call: Callable[..., Called]) -> None:
    """`keepfast memory --help` has a line for each of them."""
    code, out, _ = call("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert (code, listed) == (0, ["inspect", "convert", "merge", "verify"])


def test_inspect_tells_samples_and_tensors(call: Callable[..., Called], tmp_path: Path) -> None:
    """Size, samples, whether it is full, what else the file tells, then a line for each tensor."""
    path = tmp_path / "a.npz"
    exporter_named("npz").save(memory(filled=False), path)
    code, out, err = call("inspect", path)
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == [
        f"file: {path} ({path.stat().st_size:,} bytes), undamaged",
        "samples: 4 of 6 (3 rows of 2 environments)",
        "full: no",
        "agent: PPO",
    ]
    assert [line.split("  ")[0] for line in out.splitlines()[4:]] == ["tensor", "steps", "terminated"]
    assert "float32  (4,)" in out


@pytest.mark.needs("polars")
def test_convert_writes_the_format_of_the_targets_name(call: Callable[..., Called], stored: Path) -> None:
    """What comes back from the target is what the source holds; in a log there is no bar."""
    target = stored / "a.csv"
    code, out, err = call("convert", stored / "run_memory_1.npz", target)
    assert (code, out, err) == (0, f"{target}: 6 samples of 2 tensors\n", "")
    assert_same(keepfast.read_memory(target), memory(1))


def test_what_is_there_is_not_replaced_without_force(call: Callable[..., Called], stored: Path) -> None:
    """Neither by a conversion nor by a merge; with --force it is."""
    source, target = stored / "run_memory_1.npz", stored.parent / "there.npz"
    target.write_bytes(b"mine")
    for arguments in (["convert", source, target], ["merge", str(stored / "*.npz"), target]):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert "is there already; --force replaces it" in err
        assert target.read_bytes() == b"mine"
    for arguments in (["convert", source, target], ["merge", str(stored / "*.npz"), target]):
        assert call(*arguments, "--force")[0] == 0
        assert len(keepfast.read_memory(target)) > 0


def test_thousands_of_seams_are_summed_up(call: Callable[..., Called], stored: Path) -> None:
    """A merged memory's list of them would fill the terminal."""
    assert call("merge", str(stored / "*.npz"), stored.parent / "all.npz")[0] == 0
    code, out, _ = call("inspect", stored.parent / "all.npz")
    assert code == 0
    assert "where no sequence goes from a sample to the next" in out
    assert max(map(len, out.splitlines())) < 200


def test_convert_to_an_unknown_format_lists_those_there_are(call: Callable[..., Called], stored: Path) -> None:
    """It was typed wrong: exit code 2, and no file is made."""
    code, out, err = call("convert", stored / "run_memory_1.npz", stored / "a.nzp")
    assert (code, out) == (2, "")
    assert "has the extension of no memory format; known:" in err
    assert "Did you mean `.npz`?" in err
    assert not (stored / "a.nzp").exists()


def test_what_is_not_there_is_told(call: Callable[..., Called], tmp_path: Path) -> None:
    """Each command says which file or pattern nothing was found for."""
    absent, target = tmp_path / "absent.npz", tmp_path / "a.npz"
    for arguments in (("inspect", absent), ("convert", absent, target), ("verify", absent), ("merge", absent, target)):
        code, out, err = call(*arguments)
        assert (code, out) == (1, "")
        assert f"`{absent}`" in err


@pytest.mark.parametrize("pattern", ["memory", "memory/*", "mem*/run_memory_*.npz"])
def test_merge_joins_the_files_in_the_order_of_their_numbers(
    call: Callable[..., Called], stored: Path, pattern: str
) -> None:
    """A quoted pattern or a directory becomes one file, oldest first."""
    target = stored.parent / "all.pt"
    code, out, err = call("merge", stored.parent / pattern, target)
    assert (code, out, err) == (0, f"{target}: 18 samples of 2 tensors\n", "")
    merged = keepfast.read_memory(target).tensors["steps"][:, 0, 0]
    assert merged.tolist() == [1, 2, 3, 2, 3, 4, 10, 11, 12]


def test_a_pattern_that_the_shell_spread_is_told_to_be_quoted(call: Callable[..., Called], stored: Path) -> None:
    """What would otherwise take the second file for the target changes nothing."""
    code, out, err = call("merge", *sorted(stored.iterdir()), stored / "all.npz")
    assert (code, out) == (2, "")
    assert err == "error: 3 patterns were given; put the pattern in quotes: 'memory/*.pt'\n"


def test_a_merge_does_not_take_its_own_result_for_a_source(call: Callable[..., Called], stored: Path) -> None:
    """A second merge into a file that the pattern matches would hold every sample twice; it is refused."""
    assert call("merge", stored, stored / "all.npz")[0] == 0
    code, _, err = call("merge", stored, stored / "all.npz", "--force")
    assert code == 2
    assert "is itself one of the files that match" in err
    assert len(keepfast.read_memory(stored / "all.npz")) == 18


def test_verify_exits_with_1_where_there_is_damage(call: Callable[..., Called], stored: Path) -> None:
    """Good files and damaged ones are named, the latter with the part."""
    paths = [stored / f"run_memory_{number}.npz" for number in (1, 2, 10)]
    code, out, _ = call("verify", stored)
    assert (code, out.splitlines()) == (0, [*(f"good {path}" for path in paths), "3 of 3 files are good"])
    ((_, torn),) = truncations(paths[1].read_bytes(), 1)
    paths[1].write_bytes(torn)
    code, out, err = call("verify", stored / "*")
    lines = out.splitlines()
    assert (code, err) == (1, "")
    assert (lines[0], lines[2], lines[3]) == (f"good {paths[0]}", f"good {paths[2]}", "2 of 3 files are good")
    assert lines[1].startswith(f"damaged {paths[1]}: `{paths[1]}` ")
    assert call("verify", paths[1])[0] == 1
    assert call("verify", paths[0])[0] == 0


def test_files_of_no_memory_format_are_passed_over(call: Callable[..., Called], stored: Path) -> None:
    """A note beside the memories is no damage; alone it is an error."""
    note = stored / "note.txt"
    note.write_text("the third seed")
    code, out, err = call("verify", stored)
    assert (code, out.splitlines()[-1]) == (0, "3 of 3 files are good")
    assert err.startswith(f"warning: passed over: `{note}` has the extension of no memory format")
    code, out, err = call("verify", note)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: `{note}` has the extension")


def test_a_name_with_the_signs_of_patterns_is_a_name(call: Callable[..., Called], tmp_path: Path) -> None:
    """Brackets in the name of a file or directory that is there are not taken for a pattern."""
    path = tmp_path / "seed[1]" / "a[2].npz"
    path.parent.mkdir()
    exporter_named("npz").save(memory(), path)
    for given in (path, path.parent):
        assert call("verify", given)[1].splitlines() == [f"good {path}", "1 of 1 files are good"]


def test_a_terminal_gets_a_bar(
    call: Callable[..., Called], stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the same command shows how many files are done, and takes the bar away at its end."""
    monkeypatch.setattr(console, "output", lambda: Console(width=120, force_terminal=True, highlight=False))
    code, out, _ = call("merge", stored, stored.parent / "all.pt")
    assert code == 0
    assert "merging" in out
    assert "3/3" in out
    assert "18 samples of 2 tensors" in " ".join(out.split())
