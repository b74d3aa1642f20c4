"""What the how-to pages show on PyTorch runs as it stands there, and the messages they quote are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import keepfast

pytest.importorskip("torch")

import torch

from tests.both_backends.documents import code_of

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
STEPS = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["resume", "deployment"])
def test_a_page_runs(page: str) -> None:
    """Every block, one after the other, without a warning."""
    exec(compile(code_of((HOW_TO / f"{page}.md").read_text("utf-8")), page, "exec"), {"__name__": "page"})


@pytest.mark.slow
def test_the_page_on_several_gpus_runs() -> None:
    """Two processes of torchrun leave one run; started again, both find it complete."""
    page = (HOW_TO / "several-gpus.md").read_text("utf-8")
    Path("train.py").write_text(blocks(page)["train.py"], "utf-8")
    assert "torchrun --nproc-per-node 2 train.py" in page
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    for said in ("takes itself for rank 1", "is complete"):
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
    assert len(Path("runs/walker/metrics.jsonl").read_text("utf-8").splitlines()) == 20
    assert len(list(Path("runs/walker/checkpoints").glob("agent_*.pt"))) == 10


@pytest.mark.slow
def test_the_page_on_several_gpus_spreads_a_network() -> None:
    """Two processes leave checkpoints that both wrote, and a single one finds the run complete."""
    page = (HOW_TO / "several-gpus.md").read_text("utf-8")
    Path("sharded.py").write_text(blocks(page)["sharded.py"], "utf-8")
    for number in ("2", "1"):
        command = ["torch.distributed.run", "--standalone", "--nproc-per-node", number, "sharded.py"]
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "is complete" in done.stderr
    written = Path("runs/sharded/checkpoints/agent_20.dcp")
    assert sorted(path.name for path in written.iterdir()) == [
        ".metadata",
        "__0_0.distcp",
        "__1_0.distcp",
        "keepfast.json",
    ]
    policy = torch.nn.Linear(4, 2)
    assert bool(keepfast.load(policy, written, modules=["policy"]))


def blocks(page: str) -> dict[str, str]:
    """Return the programs of a page, by the name that each has as a comment in its first line."""
    found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    return dict(found)


def said_by(code: str, variables: dict[str, Any]) -> list[str]:
    """Run a block of a page; return what it warned of, and the error that ended it."""
    with warnings.catch_warnings(record=True, action="always") as told:
        try:
            exec(compile(code, "page", "exec"), variables)
        except keepfast.KeepfastError as error:
            return [*(str(each.message) for each in told), str(error)]
    return [str(each.message) for each in told]


def pattern_of(quoted: str) -> str:
    """Return what a quoted message stands for: lines may be broken elsewhere, and an ellipsis is anything."""
    return ".+".join(re.escape(" ".join(part.split())) for part in quoted.split("…")).replace(r"\ ", " ")


def test_the_messages_of_the_page_on_troubles_are_those_of_the_code() -> None:
    """Each block that a message stands below gives it, and no other block gives any."""
    variables: dict[str, Any] = {"__name__": "page"}
    quotes = 0
    for code, quoted in STEPS.findall((HOW_TO / "troubleshooting.md").read_text("utf-8")):
        said = [" ".join(message.split()) for message in said_by(code, variables)]
        if quoted:
            quotes += 1
            assert any(re.fullmatch(pattern_of(quoted).strip(), message) for message in said), (quoted, said)
        else:
            assert said == []
    assert quotes >= 14
