"""Model gives a module of PyTorch the calls save and load, on either side of nn.Module."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from keepfast_torch import Model  # noqa: E402

nn = torch.nn


class ModelFirst(Model, nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.net = nn.Linear(2, width)


class ModuleFirst(nn.Module, Model):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.net = nn.Linear(2, width)


@pytest.mark.parametrize("kind", [ModelFirst, ModuleFirst])
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_a_model_saves_and_loads_itself(kind: type[Any], extension: str, tmp_path: Path) -> None:
    """What one model saved another loads bit for bit, and the report names what was loaded."""
    model, other = kind(), kind()
    path = model.save(tmp_path / f"policy{extension}")
    assert path == tmp_path / f"policy{extension}"
    report = other.load(str(path))
    assert report.loaded == ["module.net.weight", "module.net.bias"]
    assert torch.equal(other.net.weight, model.net.weight)
    assert torch.equal(other.net.bias, model.net.bias)


def test_its_file_is_a_state_dict(tmp_path: Path) -> None:
    """PyTorch loads the file as a plain state dict, and a state dict that PyTorch saved is loaded."""
    model, other = ModelFirst(), ModelFirst()
    other.load_state_dict(torch.load(model.save(tmp_path / "policy.pt"), weights_only=True))
    assert torch.equal(other.net.weight, model.net.weight)
    torch.save(ModelFirst().state_dict(), tmp_path / "foreign.pt")
    assert other.load(tmp_path / "foreign.pt")
    assert torch.equal(other.net.weight, torch.load(tmp_path / "foreign.pt", weights_only=True)["net.weight"])


def test_a_model_loads_its_part_of_an_agents_file(tmp_path: Path) -> None:
    """Out of a checkpoint of several modules a model takes the one that is named."""
    policy, value = ModelFirst(), ModelFirst(width=1)
    path = keepfast.Agent(models={"policy": policy, "value": value}).save(tmp_path / "agent.pt")
    other = ModelFirst()
    assert other.load(path, modules=["policy"])
    assert torch.equal(other.net.weight, policy.net.weight)
    with pytest.raises(keepfast.LoadMismatch, match="say which one to load"):
        other.load(path)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    """Each difference is named with both sides; `strict=False` and `rename` load what fits."""
    model, other = ModelFirst(), ModelFirst(width=4)
    before = other.net.weight.detach().clone()
    path = model.save(tmp_path / "policy.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"(?s)net\.weight: shape.*\(4, 2\).*\(3, 2\).*net\.bias: shape"):
        other.load(path)
    assert torch.equal(other.net.weight, before)
    third = nn.Module.__new__(ModelFirst)
    nn.Module.__init__(third)
    third.layer = nn.Linear(2, 3)
    assert third.load(path, rename={"net": "layer"}).renamed == {
        "module.layer.weight": "net.weight",
        "module.layer.bias": "net.bias",
    }
    assert torch.equal(third.layer.weight, model.net.weight)


@pytest.mark.parametrize("device", ["banana", "cuda:99", 1.5])
def test_a_device_that_is_not_there_is_refused_and_nothing_is_loaded(device: Any, tmp_path: Path) -> None:
    """A model and a part of a checkpoint alike: InvalidValue tells what was given and lists what there is."""
    path = ModelFirst().save(tmp_path / "policy.pt")
    other = ModelFirst()
    before = other.net.weight.clone()
    for load in (other.load, functools.partial(keepfast.load, other)):
        with pytest.raises(keepfast.InvalidValue, match=f"there is no device `{device}`; known: cpu"):
            load(path, device)
    assert torch.equal(other.net.weight, before)


def test_another_dtype_is_cast_on_request(tmp_path: Path) -> None:
    """A float64 file loads into a bfloat16 model only where `cast` asks for it."""
    model, other = ModelFirst().double(), ModelFirst().bfloat16()
    path = model.save(tmp_path / "policy.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"net\.weight: dtype.*bfloat16.*float64"):
        other.load(path)
    assert other.load(path, cast=True).cast == ["module.net.weight", "module.net.bias"]
    assert other.net.weight.dtype == torch.bfloat16
    assert torch.equal(other.net.weight, model.net.weight.bfloat16())


def test_a_mixin_without_a_module_is_refused(tmp_path: Path) -> None:
    """A class that derives from Model alone has nothing to save, and is told so."""

    class Alone(Model):
        pass

    with pytest.raises(keepfast.UnsupportedModule, match="Alone"):
        Alone().save(tmp_path / "alone.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_compiled_or_copied_still_saves(tmp_path: Path) -> None:
    """The calls go through wrappers that hand attributes on, and the file has no trace of them."""
    model = ModelFirst()
    path = torch.compile(model, backend="eager").save(tmp_path / "compiled.pt")
    other = ModelFirst()
    assert other.load(path)
    assert torch.equal(other.net.weight, model.net.weight)
