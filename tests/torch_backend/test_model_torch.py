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


class Policy(Model, nn.Module):
    """A policy as agents' libraries have it."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None) -> None:
        Model.__init__(self, observation_space, action_space, device)
        self.net = nn.Linear(self.num_observations or 0, self.num_actions or 0)


class LateModule(Model, nn.Module):
    """One that begins as a module after it has begun as a model."""

    def __init__(self, *spaces: Any, **more: Any) -> None:
        Model.__init__(self, *spaces, **more)
        nn.Module.__init__(self)
        self.net = nn.Linear(self.num_observations or 0, self.num_actions or 0)


class BothSides(nn.Module, Model):
    """One with the mixin behind the module."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None) -> None:
        nn.Module.__init__(self)
        Model.__init__(self, observation_space, action_space, device)
        self.net = nn.Linear(self.num_observations or 0, self.num_actions or 0)


class Layer(Model, nn.Linear):
    """A layer that is a model by itself."""


@pytest.mark.parametrize("kind", [Policy, LateModule, BothSides])
def test_a_model_is_made_of_spaces_and_a_device(kind: type[Any], tmp_path: Path) -> None:
    """It knows how many numbers they have, and loads onto its device."""
    gymnasium = pytest.importorskip("gymnasium")
    box, discrete = gymnasium.spaces.Box(-1, 1, (2, 3)), gymnasium.spaces.Discrete(4)
    model = kind(box, discrete, device="cpu")
    assert (model.num_observations, model.num_actions) == (6, 4)
    assert (model.observation_space, model.action_space, model.device) == (box, discrete, torch.device("cpu"))
    other = kind(6, (4,), None)
    assert other.load(model.save(tmp_path / "policy.pt"))
    assert torch.equal(other.net.weight, model.net.weight)
    assert list(model.state_dict()) == ["net.weight", "net.bias"]
    with pytest.raises(keepfast.InvalidValue, match="there is no device `cud:7`"):
        kind(box, discrete, "cud:7")


def test_a_load_puts_a_model_on_the_device_of_its_constructor(tmp_path: Path) -> None:
    """Unless another one is named."""
    path = Policy(3, 2).save(tmp_path / "policy.pt")
    moved: list[Any] = []

    class Moving(Policy):
        def to(self, *where: Any) -> Any:
            moved.extend(where)
            return super().to(*where)

    for device in ("cpu", None):
        Moving(3, 2, device).load(path)
    assert moved == [torch.device("cpu")]


def test_a_layer_with_the_mixin_keeps_its_arguments(tmp_path: Path) -> None:
    """They are not taken for spaces."""
    layer, other = Layer(3, 2, bias=False), Layer(3, out_features=2, bias=False)
    assert other.load(layer.save(tmp_path / "layer.pt"))
    assert torch.equal(other.weight, layer.weight)
    assert (layer.num_observations, layer.device) == (None, None)


SPACES = [
    ("None", None, None),
    ("5", 5, 5),
    ("(2, 3)", (2, 3), 6),
    ("Discrete(4)", "spaces.Discrete(4)", 4),
    ("MultiDiscrete", "spaces.MultiDiscrete([3, 4])", 7),
    ("MultiBinary", "spaces.MultiBinary(5)", 5),
    ("Dict", "spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Discrete(3))", 5),
    ("Tuple", "spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, ())])", 3),
]


@pytest.mark.parametrize(("space", "size"), [row[1:] for row in SPACES], ids=[row[0] for row in SPACES])
def test_a_space_has_a_number_of_elements(space: Any, size: int | None) -> None:
    """That of a flattened sample, with one for each choice."""
    gymnasium = pytest.importorskip("gymnasium")
    made = eval(space, {"spaces": gymnasium.spaces}) if isinstance(space, str) else space
    model = Model.__new__(type("Bare", (Model, nn.Module), {}))
    Model.__init__(model, made)
    assert model.num_observations == size
