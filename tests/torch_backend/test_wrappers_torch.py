"""What wraps a module of PyTorch, wherever within it, leaves no trace in a file and is no obstacle to loading one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402

nn = torch.nn


def compiled(module: Any) -> Any:
    return torch.compile(module, backend="eager")


def plain() -> Any:
    actor, critic = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), nn.Sequential(nn.Linear(2, 1))
    return nn.ModuleDict({"actor": actor, "critic": critic})


def within(wrap: Callable[[Any], Any], *path: str) -> Callable[[Any], Any]:
    """Return what wraps a part of a module where it is."""

    def put(module: Any) -> Any:
        owner = module.get_submodule(".".join(path[:-1]))
        setattr(owner, path[-1], wrap(getattr(owner, path[-1])))
        return module

    return put


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda module: module,
    "the whole, compiled": compiled,
    "the whole, over devices": nn.DataParallel,
    "the whole, both": lambda module: compiled(nn.DataParallel(module)),
    "a part, compiled": within(compiled, "actor"),
    "a part, over devices": within(nn.DataParallel, "actor"),
    "a part, both": within(lambda part: nn.DataParallel(compiled(part)), "actor"),
    "a layer, both": within(lambda part: compiled(nn.DataParallel(part)), "actor", "0"),
    "the whole and a part": lambda module: compiled(within(nn.DataParallel, "critic")(module)),
}


def bits(module: Any) -> str:
    """Return every number of a module, whatever the names."""
    return repr([*module.parameters(), *module.buffers()])


@pytest.mark.parametrize("name", WRAPPINGS)
def test_what_is_stored_has_the_names_of_the_plain_module(name: str, tmp_path: Path) -> None:
    """PyTorch's own `load_state_dict` of the plain module takes it, and so does a checkpoint of either format."""
    module = WRAPPINGS[name](plain())
    saved = torch.load(keepfast.save(module, tmp_path / "module.pt"), weights_only=True)
    other = plain()
    other.load_state_dict(saved)
    assert bits(other) == bits(module)
    path = keepfast.save(module, tmp_path / "module.safetensors")
    assert keepfast.load(other, path).loaded == [f"module.{name}" for name in other.state_dict()]


@pytest.mark.parametrize("ours", WRAPPINGS)
@pytest.mark.parametrize("theirs", WRAPPINGS)
def test_a_file_loads_whatever_wraps_either_side(ours: str, theirs: str, tmp_path: Path) -> None:
    """One that we wrote, and one that PyTorch wrote of the wrapped module with all its prefixes."""
    module = WRAPPINGS[theirs](plain())
    torch.save(module.state_dict(), tmp_path / "theirs.pt")
    for path in (keepfast.save(module, tmp_path / "ours.pt"), tmp_path / "theirs.pt"):
        other = WRAPPINGS[ours](plain())
        assert keepfast.load(other, path)
        assert bits(other) == bits(module)


class Named(nn.Module):
    """Has a part of its own that is called as a wrapper calls what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.weight = nn.Linear(2, 2), nn.Parameter(torch.randn(2, 2))
        self.bias = nn.Parameter(torch.randn(2))


@pytest.mark.parametrize("ours", ["nothing", "the whole, over devices", "the whole, both"])
@pytest.mark.parametrize("theirs", ["nothing", "the whole, over devices", "the whole, both"])
def test_a_part_of_the_users_that_is_called_module_is_itself(ours: str, theirs: str, tmp_path: Path) -> None:
    """Its entries are not taken for those beside it, although shapes and the ends of names are the same."""
    module = WRAPPINGS[theirs](Named())
    torch.save(module.state_dict(), tmp_path / "theirs.pt")
    path = keepfast.save(module, tmp_path / "ours.pt")
    assert list(torch.load(path, weights_only=True)) == list(Named().state_dict())
    for each in (path, tmp_path / "theirs.pt"):
        other = WRAPPINGS[ours](Named())
        assert keepfast.load(other, each)
        assert bits(other) == bits(module)


def test_a_wrapper_with_entries_of_its_own_keeps_all_names(tmp_path: Path) -> None:
    """Where a name without the wrapper's would be that of another entry, nothing is taken away."""

    class Counting(nn.DataParallel):  # type: ignore[misc, name-defined]
        def __init__(self, module: Any) -> None:
            super().__init__(module)
            self.register_buffer("weight", torch.zeros(()))

    module, other = (nn.ModuleDict({"net": Counting(nn.Linear(1, 1))}) for _ in range(2))
    path = keepfast.save(module, tmp_path / "module.pt")
    assert set(torch.load(path, weights_only=True)) == {"net.weight", "net.module.weight", "net.module.bias"}
    assert keepfast.load(other, path)
    assert bits(other) == bits(module)


def test_an_averaged_model_loads_into_the_plain_one(tmp_path: Path) -> None:
    """Its average is what is wanted; the number it was averaged from is of no meaning there, and nothing is lost."""
    averaged = torch.optim.swa_utils.AveragedModel(plain())
    averaged.update_parameters(plain())
    other = plain()
    path = keepfast.save(averaged, tmp_path / "averaged.pt")
    torch.optim.swa_utils.AveragedModel(plain()).load_state_dict(torch.load(path, weights_only=True))
    assert keepfast.load(other, path)
    assert repr([*other.parameters()]) == repr([*averaged.parameters()])
    with pytest.raises(keepfast.LoadMismatch, match=r"module\.n_averaged: missing"):
        keepfast.load(averaged, keepfast.save(other, tmp_path / "plain.pt"))
    assert keepfast.load(averaged, tmp_path / "plain.pt", strict=False).missing == ["module.n_averaged"]
