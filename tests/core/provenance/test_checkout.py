"""The code of a start: commit, branch, what differs, what is not tracked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keepfast.provenance import checkout
from keepfast.provenance.checkout import Git, commit_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

Run = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Run:
    """Return a function that runs git in a checkout of one commit."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")

    def run(*arguments: str) -> str:
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "main/x")
    (tmp_path / "train.py").write_text("lr = 1\n")
    run("add", ".")
    run("commit", "-qm", "one")
    return run


@pytest.mark.parametrize("kept", ["loose", "packed", "detached", "worktree"])
def test_commit_and_branch_are_what_git_says(git: Run, tmp_path: Path, kept: str) -> None:
    """Wherever git keeps them: read without git, so that a start waits for no process."""
    root, branch = tmp_path, "main/x"
    if kept == "packed":
        git("pack-refs", "--all")
    if kept == "detached":
        git("checkout", "-q", "--detach")
        branch = None
    if kept == "worktree":
        root, branch = tmp_path / "other", "side"
        git("worktree", "add", "-q", "-b", "side", str(root))
    assert commit_of(root) == {"root": str(root), "commit": git("rev-parse", "HEAD"), "branch": branch}


def test_a_checkout_without_a_commit_has_none(tmp_path: Path) -> None:
    """Its branch is known all the same."""
    subprocess.run(["git", "init", "-q", "-b", "new"], cwd=tmp_path, check=True)
    assert commit_of(tmp_path) == {"root": str(tmp_path), "commit": None, "branch": "new"}


def test_what_differs_is_kept_without_secrets(git: Run, tmp_path: Path) -> None:
    """The difference to the commit, staged or not, and the names of what is not tracked, folders as one."""
    assert Git(tmp_path).changes()["dirty"] is False
    (tmp_path / "train.py").write_text("lr = 2\napi_key = 'abcdefgh'\n")
    (tmp_path / "new.py").write_text("")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x\n.jsonl").write_text("")
    found = Git(tmp_path).changes()
    assert "+lr = 2" in found["diff"]
    assert "abcdefgh" not in found["diff"]
    assert found["untracked"] == ["new.py", "runs/"]
    assert (found["dirty"], found["diff_is_whole"], found["untracked_is_whole"]) == (True, True, True)
    git("add", "new.py")
    assert Git(tmp_path).changes()["untracked"] == ["runs/"]


def test_large_differences_are_cut(git: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both up to a length, and it is told that there is more."""
    monkeypatch.setattr(checkout, "MOST_BYTES", 1000)
    monkeypatch.setattr(checkout, "MOST_NAMES", 3)
    (tmp_path / "train.py").write_text("x = 1\n" * 1_000_000)
    for number in range(5):
        (tmp_path / f"new{number}").write_text("")
    found = Git(tmp_path).changes()
    assert len(found["diff"]) <= 1000
    assert len(found["untracked"]) == 3
    assert (found["diff_is_whole"], found["untracked_is_whole"]) == (False, False)


def test_no_program_that_a_checkout_names_is_run(git: Run, tmp_path: Path) -> None:
    """Git is asked without its monitor, external differences and conversions to text."""
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat $1\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "diff.external", "diff.x.textconv"):
        git("config", name, str(program))
    (tmp_path / ".gitattributes").write_text("*.py diff=x\n")
    (tmp_path / "train.py").write_text("lr = 2\n")
    assert "+lr = 2" in Git(tmp_path).changes()["diff"]
    assert not (tmp_path / "ran").exists()


def test_git_that_was_told_to_end_tells_nothing(git: Run, tmp_path: Path) -> None:
    """A run that is over waits for nobody."""
    asked = Git(tmp_path)
    asked.end()
    assert "problem" in asked.changes()
