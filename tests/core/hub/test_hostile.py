"""Runs and repositories that mean harm: what is told and copied of them is text, and stays where it belongs."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.hub.push import fill
from tests.core.cli.conftest import Called
from tests.core.hub.hub_server import Hub

pytestmark = pytest.mark.needs("huggingface_hub")

ESCAPES = "\x1b]0;title\x07\x1b[2J\u202e"
CODE = 'policy"); import os; os.system("x'

TOLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "escapes": ({"agent": ESCAPES, "config": {"env": ESCAPES}}, {"modules": ("policy", ESCAPES)}),
    "lines": ({"agent": "a\n---\nlicense: mit\n| a | b |", "config": {"env": "e\n# title"}}, {}),
    "half a character": ({"agent": "\ud800", "config": {"env": "\udfff"}}, {}),
    "long": ({"agent": "a" * 10**6, "config": {"env": "e" * 10**6}}, {"modules": ("m" * 10**5,) * 50}),
    "code": ({}, {"modules": (CODE, "policy")}),
    "no name": ({}, {"modules": ("class", "")}),
    "time": ({}, {"time": 1e300}),
    "no time": ({}, {"time": float("nan")}),
    "early": ({}, {"time": -1e18}),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_card_is_short_text_whatever_a_run_tells(
    run: Path, tmp_path: Path, call: Callable[..., Called], name: str
) -> None:
    """In lines that it would have had, with code that is ours, and as the command shows it."""
    config, metadata = TOLD[name]
    for path in (run / "checkpoints").glob("*"):
        path.unlink()
    about = keepfast.CheckpointMetadata(format_version=1, keepfast="0", backend="torch", timestep=5)
    told = {**about.as_mapping(), "modules": ("policy",), "time": 1.0, "resume": {}, **metadata}
    state = {"policy": {"w": np.ones(2)}}
    SafetensorsStore().save(keepfast.Checkpoint(state, told), run / "checkpoints" / "agent_5.safetensors")
    document = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**document, **config}))
    (folder := tmp_path / "folder").mkdir()
    fill(folder, run, "org/x")
    card = (folder / "README.md").read_text("utf-8")
    assert all(line.isprintable() for line in card.split("\n"))
    assert (len(card.split("\n")), len(card) < 10_000) == (42, True)
    for code in card.split("```python\n")[1:]:
        parsed = ast.parse(code.split("```")[0])
        assert [type(each) for each in parsed.body] == [ast.Import, ast.ImportFrom, ast.Assign]
        called = {ast.unparse(each.func) for each in ast.walk(parsed) if isinstance(each, ast.Call)}
        assert called <= {"keepfast.load", "keepfast.migrate"}
    head = dict(line.split(": ", 1) for line in card.split("---\n")[1].splitlines())
    assert [type(json.loads(each)) for each in list(head.values())[1:]] == [list, list]
    code, out, _ = call("hub", "card", str(run), "org/x")
    assert (code, out.rstrip("\n")) == (0, card.rstrip("\n"))


NAMES = (
    *(
        "../x.pt",
        "/tmp/x.pt",
        "..\\x.pt",
        "C:x.pt",
        "a\\..\\..\\x.pt",
        "con\n.pt",
        f"{ESCAPES}.pt",
        "\0.pt",
        "n" * 300 + ".pt",
    ),
    *("sub/agent.pt", "..", ".", ".pt", ".hidden.svg", "~.pt", "-x.svg"),
)


def test_a_pull_copies_files_of_plain_names_alone(
    hub: Hub, tmp_path: Path, run: Path, call: Callable[..., Called]
) -> None:
    """Nothing beside the directory, nothing hidden, and nothing that commands a terminal."""
    keepfast.hub.push(run, "org/x")
    own = {name for name in hub.files["org/x"] if "/" not in name}
    hub.files["org/x"] |= dict.fromkeys(NAMES, b"x")
    code, out, errors = call("hub", "pull", "org/x", str(tmp_path / "in" / "pulled"))
    assert code == 0, errors
    found = {path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    assert found == {f"pulled/{name}" for name in own | {"~.pt", "-x.svg"}}
    assert all(line.isprintable() for line in out.split("\n"))


def test_what_a_repository_has_is_told_in_short(hub: Hub, tmp_path: Path) -> None:
    """However many files that are, and whatever they are called."""
    hub.files["org/x"] = {f"{number}\n{ESCAPES}": b"x" for number in range(20_000)}
    with pytest.raises(keepfast.InvalidValue, match="holds no checkpoint") as told:
        keepfast.hub.pull("org/x", tmp_path / "pulled")
    assert len(str(told.value).split("\n")) == 1
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 3000
    assert not (tmp_path / "pulled").exists()
