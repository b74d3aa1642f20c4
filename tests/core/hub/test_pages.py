"""What the pages on checkpoints from elsewhere show runs as it stands there, and so does the example of the Hub."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.both_backends import foreign
from tests.both_backends.documents import code_of
from tests.core.hub.hub_server import Hub

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = Path(__file__).parents[3] / "examples" / "from_elsewhere" / "push_and_pull.py"


def run_page(name: str) -> dict[str, Any]:
    """Run every block of a page, one after the other, and return what it leaves."""
    code = code_of((DOCS / name).read_text("utf-8"))
    assert code
    variables: dict[str, Any] = {}
    exec(compile(code, name, "exec"), variables)
    return variables


def dense(ins: int, outs: int) -> dict[str, Any]:
    return {"kernel": foreign.normal(ins, outs), "bias": foreign.normal(outs)}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.needs("torch")
def test_the_page_on_libraries_runs() -> None:
    """With an archive of stable-baselines3 and the statistics beside it."""
    import torch

    def save(content: Any, path: Path) -> None:
        torch.save({name: torch.from_numpy(array) for name, array in content.items()}, path)

    foreign.stable_baselines3(save, Path("ppo.zip"))
    statistics = foreign.vec_normalize(Path("ppo_vecnormalize.pkl"))
    left = run_page("migrating-libraries.md")
    np.testing.assert_array_equal(left["statistics"]["mean"], statistics["mean"])
    assert any("clipped to 10.0" in note for note in left["report"].notes)


@pytest.mark.needs("jax", "flax")
def test_the_page_to_flax_runs() -> None:
    """With a state dict of PyTorch, written without it."""
    import keepfast
    from keepfast.formats.checkpoints.pt import PtStore

    layers = {name: dense(ins, outs) for name, ins, outs in (("0", 4, 16), ("2", 16, 2))}
    state = {f"{name}.weight": layer["kernel"].T.copy() for name, layer in layers.items()}
    state |= {f"{name}.bias": layer["bias"] for name, layer in layers.items()}
    PtStore().save(keepfast.Checkpoint(state), Path("policy.pt"))
    left = run_page("migrating-to-flax.md")
    np.testing.assert_array_equal(left["tree"][1]["w"], layers["2"]["kernel"])


@pytest.mark.needs("torch", "msgpack")
def test_the_page_to_pytorch_runs() -> None:
    """With Flax's bytes, written without it."""
    import keepfast
    from keepfast.formats.checkpoints.msgpack import MsgpackStore

    layers = {"Dense_0": dense(4, 16), "Dense_1": dense(16, 2)}
    MsgpackStore().save(keepfast.Checkpoint({"params": layers}), Path("policy.msgpack"))
    left = run_page("migrating-to-pytorch.md")
    np.testing.assert_array_equal(left["net"][2].weight.detach().numpy(), layers["Dense_1"]["kernel"].T)


@pytest.mark.needs("huggingface_hub")
def test_the_page_on_the_hub_runs(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a hub of the suite's own."""
    monkeypatch.setenv("KEEPFAST_BACKEND", "auto")
    left = run_page("hub.md")
    assert left["agent"].checkpoint_modules["policy"]["w"][0] == 10
    assert Path("pulled/README.md").exists()


@pytest.mark.needs("huggingface_hub", "torch")
def test_the_example_pushes_and_pulls(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is pulled gives equal outputs, and all files are there."""
    monkeypatch.setattr("sys.argv", ["example", "org/example"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "the outputs are equal: True" in capsys.readouterr().out
    assert b"9.00 +/- 0.50" in hub.files["org/example"]["README.md"]
    assert Path("pulled/results.json").exists()
