"""What decides the meaning of values travels with them, and a module's own conversion comes before our comparison."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402
from torch import nn  # noqa: E402

import keepfast  # noqa: E402
from keepfast.interfaces.checkpoint_store import CheckpointMetadata  # noqa: E402
from keepfast.plugins.formats import format_of  # noqa: E402
from keepfast.tree import versions_of  # noqa: E402

pytestmark = pytest.mark.needs("torch", "msgpack", "safetensors")

FORMATS = ("pt", "safetensors", "msgpack", "pickle")


class Celsius(nn.Module):
    """A module of the first version: degrees, by the name `offset`, in a row."""

    def __init__(self, degrees: float = 1.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.full((1, 3), degrees))


class Kelvin(nn.Module):
    """The same module two versions later: other numbers, another name, another shape."""

    _version = 3

    def __init__(self) -> None:
        super().__init__()
        self.kelvin = nn.Parameter(torch.zeros(3))
        self.versions: list[int | None] = []

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        version = local_metadata.get("version")
        self.versions.append(version)
        if version is None or version < 3:
            state_dict[f"{prefix}kelvin"] = state_dict.pop(f"{prefix}offset")[0] + 273
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)  # type: ignore[no-untyped-call]


class Scaled(nn.Module):
    """A module whose numbers had another meaning in its first version, under the same name, of the same shape."""

    _version = 2

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("gain", torch.full((2, 2), value))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        if local_metadata.get("version", 1) < 2:
            state_dict[f"{prefix}gain"] = state_dict[f"{prefix}gain"] * 10
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)  # type: ignore[no-untyped-call]


class ScaledBefore(nn.Module):
    """The first version of `Scaled`."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("gain", torch.full((2, 2), value))


def numbers(module: nn.Module) -> dict[str, Any]:
    """Return the state of a module as plain numbers."""
    return {name: value.tolist() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("extension", FORMATS)
def test_an_older_version_is_converted_by_its_module(tmp_path: Path, extension: str) -> None:
    """Each format keeps the versions, so that a module gets its older files as PyTorch would give them to it."""
    old = nn.ModuleDict({"inner": nn.Sequential(Celsius(20.0), ScaledBefore(1.5))})
    path = keepfast.save(old, tmp_path / f"m.{extension}")
    assert versions_of(keepfast.read_checkpoint(path)["module"]) == old.state_dict()._metadata  # type: ignore[attr-defined]
    new = nn.ModuleDict({"inner": nn.Sequential(Kelvin(), Scaled())})
    report = keepfast.load(new, path)
    assert report
    assert numbers(new) == {"inner.0.kelvin": [293.0] * 3, "inner.1.gain": [[15.0] * 2] * 2}
    assert report.loaded == ["module.inner.0.kelvin", "module.inner.1.gain"]


@pytest.mark.parametrize("extension", FORMATS)
def test_what_is_of_today_is_not_converted(tmp_path: Path, extension: str) -> None:
    """A file of the module's own version is loaded as it is, by a fresh one and by one that was loaded before."""
    net = nn.Sequential(Scaled(3.0), nn.BatchNorm1d(2))
    path = keepfast.save(net, tmp_path / f"m.{extension}")
    for target in (nn.Sequential(Scaled(), nn.BatchNorm1d(2)), net):
        assert keepfast.load(target, path)
        assert numbers(target)["0.gain"] == [[3.0] * 2] * 2


def test_torch_reads_the_versions_of_our_files(tmp_path: Path) -> None:
    """`torch.load` gives a state dict with its versions, so that `load_state_dict` converts it without Keepfast."""
    old = nn.Sequential(Celsius(1.0))
    path = keepfast.save(old, tmp_path / "m.pt")
    loaded = torch.load(path, weights_only=True)
    assert loaded._metadata == old.state_dict()._metadata  # type: ignore[attr-defined]
    new = nn.Sequential(Kelvin())
    new.load_state_dict(loaded)
    assert numbers(new) == {"0.kelvin": [274.0] * 3}


def without_count(version: int | None) -> OrderedDict[str, Any]:
    """Return what batch normalization of PyTorch 0.4 saved."""
    state = nn.Sequential(nn.BatchNorm1d(3)).state_dict()
    del state["0.num_batches_tracked"]
    if version is None:
        return OrderedDict(state)
    state._metadata["0"]["version"] = version  # type: ignore[attr-defined]
    return state


@pytest.mark.parametrize("version", [None, 1])
def test_files_of_torch_are_converted_too(tmp_path: Path, version: int | None) -> None:
    """A `.pt` of `torch.save` with its versions, or a plain dict without any, loads as `load_state_dict` takes it."""
    torch.save({"agent": {"norm": without_count(version)}}, tmp_path / "m.pt")
    norm = nn.Sequential(nn.BatchNorm1d(3))
    norm[0].num_batches_tracked += 7  # type: ignore[operator]
    assert keepfast.load(norm, tmp_path / "m.pt", modules=["agent.norm"])
    assert int(norm[0].num_batches_tracked) == 7  # type: ignore[arg-type]  (as `load_state_dict` leaves it)


def test_a_foreign_file_without_versions_is_taken_as_torch_takes_it(tmp_path: Path) -> None:
    """A dict of tensors tells no version, in a `.pt` and in safetensors: a module is given none, as by PyTorch."""
    state = {"offset": torch.full((1, 3), 2.0)}
    torch.save(state, tmp_path / "m.pt")
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    for name in ("m.pt", "m.safetensors"):
        module = Kelvin()
        assert keepfast.load(module, tmp_path / name)
        assert numbers(module) == {"kelvin": [275.0] * 3}
        assert set(module.versions) == {None}


def test_a_file_of_another_framework_is_of_today(tmp_path: Path) -> None:
    """What Keepfast wrote from JAX tells no versions of PyTorch's: the module's own are taken."""
    path = tmp_path / "m.safetensors"
    about = CheckpointMetadata(format_version=1, keepfast="1", backend="jax", modules=("module",), module="module")
    checkpoint = keepfast.Checkpoint({"gain": np.full((2, 2), 4.0, np.float32)}, about.as_mapping())
    format_of("checkpoint format", path).save(checkpoint, path)
    module = Scaled()
    assert keepfast.load(module, path)
    assert numbers(module) == {"gain": [[4.0] * 2] * 2}


class Holder:
    """An object of the user's, with a network's state within its own."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def state_dict(self) -> dict[str, Any]:
        return {"nets": [self.net.state_dict()], "count": 3}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["nets"][0])


@pytest.mark.parametrize("extension", FORMATS)
def test_versions_travel_within_other_states(tmp_path: Path, extension: str) -> None:
    """A state dict within that of a user's object, or within a dict of modules, keeps its versions."""
    path = keepfast.save(Holder(nn.Sequential(ScaledBefore(2.0))), tmp_path / f"m.{extension}")
    holder = Holder(nn.Sequential(Scaled()))
    assert keepfast.load(holder, path)
    assert numbers(holder.net) == {"0.gain": [[20.0] * 2] * 2}
    path = keepfast.save({"nets": {"a": ScaledBefore(2.0)}}, tmp_path / f"d.{extension}")
    nets = {"nets": {"a": Scaled()}}
    assert keepfast.load(nets, path)
    assert numbers(nets["nets"]["a"]) == {"gain": [[20.0] * 2] * 2}


def test_versions_follow_the_names_of_their_parts(tmp_path: Path) -> None:
    """They are found where a file has other names: a wrapper's, renamed ones, those of a part that is asked for."""
    old = nn.ModuleDict({"trunk": nn.Sequential(ScaledBefore(1.0)), "head": ScaledBefore(2.0)})
    new = nn.ModuleDict({"body": nn.Sequential(Scaled()), "head": Scaled()})
    path = keepfast.save(old, tmp_path / "m.pt")
    assert keepfast.load(new, path, rename={"trunk": "body"}).renamed == {"module.body.0.gain": "trunk.0.gain"}
    assert numbers(new) == {"body.0.gain": [[10.0] * 2] * 2, "head.gain": [[20.0] * 2] * 2}
    alone = nn.Sequential(Scaled())
    assert keepfast.load(alone, path, modules=["trunk"])
    assert numbers(alone) == {"0.gain": [[10.0] * 2] * 2}
    torch.save(nn.DataParallel(old).state_dict(), tmp_path / "parallel.pt")
    fresh = nn.ModuleDict({"trunk": nn.Sequential(Scaled()), "head": Scaled()})
    assert keepfast.load(fresh, tmp_path / "parallel.pt")
    assert numbers(fresh) == {"trunk.0.gain": [[10.0] * 2] * 2, "head.gain": [[20.0] * 2] * 2}
    wrapped = nn.ModuleDict({"trunk": nn.DataParallel(nn.Sequential(Scaled())), "head": Scaled()})
    assert keepfast.load(wrapped, path)
    assert numbers(wrapped) == {"trunk.module.0.gain": [[10.0] * 2] * 2, "head.gain": [[20.0] * 2] * 2}


def test_a_file_all_of_whose_names_are_older_is_converted_below_a_wrapper(tmp_path: Path) -> None:
    """Where no name is the module's own, a wrapper's level is still seen through, on either side."""
    path = keepfast.save(nn.Sequential(Celsius(0.0)), tmp_path / "m.pt")
    wrapped = nn.Sequential(nn.DataParallel(Kelvin()))
    assert keepfast.load(wrapped, path)
    assert numbers(wrapped) == {"0.module.kelvin": [273.0] * 3}
    torch.save(nn.DataParallel(nn.Sequential(Celsius(1.0))).state_dict(), tmp_path / "parallel.pt")
    plain = nn.Sequential(Kelvin())
    assert keepfast.load(plain, tmp_path / "parallel.pt")
    assert numbers(plain) == {"0.kelvin": [274.0] * 3}


def hooked(kind: str) -> nn.Module:
    """Return a network whose layer takes files in which its kernel is the other way round, under another name."""
    net = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    layer = net[1]

    def change(state: dict[str, Any], prefix: str, *_rest: Any) -> None:
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel").t().contiguous()

    if kind == "private":
        layer._register_load_state_dict_pre_hook(change)
    elif kind == "public":
        layer.register_load_state_dict_pre_hook(lambda _module, *rest: change(*rest))
    elif kind == "of the root":
        net.register_load_state_dict_pre_hook(lambda _module, state, _prefix, *rest: change(state, "1.", *rest))
    return net


class Renaming(nn.Sequential):
    """Has a way of its own to load: takes what it was called before."""

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        names = {"1.kernel": "1.weight"}
        turned = {names.get(name, name): value.t() if name in names else value for name, value in state_dict.items()}
        return super().load_state_dict(turned, *args, **options)


@pytest.mark.parametrize("kind", ["private", "public", "of the root", "load_state_dict"])
def test_what_renames_and_reshapes_runs_before_the_comparison(tmp_path: Path, kind: str) -> None:
    """Hooks before a load, and a `load_state_dict` of one's own, get the file's entries; the report has both names."""
    kernel = torch.arange(6.0).reshape(3, 2)
    torch.save({"1.kernel": kernel, "1.bias": torch.ones(2)}, tmp_path / "m.pt")
    net = Renaming(nn.ReLU(), nn.Linear(3, 2)) if kind == "load_state_dict" else hooked(kind)
    hooks = [len(part._load_state_dict_pre_hooks) for part in net.modules()]
    report = keepfast.load(net, tmp_path / "m.pt")
    assert report
    assert numbers(net) == {"1.weight": kernel.t().tolist(), "1.bias": [1.0, 1.0]}
    assert keepfast.load(net, keepfast.save(net, tmp_path / "own.pt"))  # one of its own is taken as well
    assert [len(part._load_state_dict_pre_hooks) for part in net.modules()] == hooks


def test_a_renamed_entry_is_reported_with_its_source(tmp_path: Path) -> None:
    """The report tells what the file calls that which a hook has renamed."""
    net = nn.Linear(2, 1)
    net.register_load_state_dict_pre_hook(lambda _module, state, *_rest: state.update(weight=state.pop("w")))
    torch.save({"w": torch.ones(1, 2), "bias": torch.ones(1)}, tmp_path / "m.pt")
    assert keepfast.load(net, tmp_path / "m.pt").renamed == {"module.weight": "w"}


def test_after_its_own_conversion_a_file_is_compared(tmp_path: Path) -> None:
    """What does not fit after a hook is refused by its path; with `strict=False` what fits is loaded."""
    torch.save({"1.kernel": torch.ones(4, 2), "1.bias": torch.ones(2), "1.old": torch.ones(1)}, tmp_path / "m.pt")
    net = hooked("private")
    before = numbers(net)
    with pytest.raises(keepfast.LoadMismatch) as raised:
        keepfast.load(net, tmp_path / "m.pt")
    assert "module.1.weight: shape: the module has float32 (2, 3), the file has float32 (2, 4)" in str(raised.value)
    assert "module.1.old: extra" in str(raised.value)
    assert numbers(net) == before
    report = keepfast.load(net, tmp_path / "m.pt", strict=False)
    assert (report.loaded, report.mismatched, report.extra) == (
        ["module.1.bias"],
        ["module.1.weight"],
        ["module.1.old"],
    )
    assert numbers(net) == before | {"1.bias": [1.0, 1.0]}


def test_other_dtypes_are_told_and_cast_after_a_conversion(tmp_path: Path) -> None:
    """An entry of another dtype that a hook has renamed is a difference, and `cast=True` converts it."""
    torch.save({"1.kernel": torch.ones(3, 2, dtype=torch.float64), "1.bias": torch.ones(2)}, tmp_path / "m.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"1\.weight: dtype: the module has float32"):
        keepfast.load(hooked("public"), tmp_path / "m.pt")
    net = hooked("public")
    assert keepfast.load(net, tmp_path / "m.pt", cast=True).cast == ["module.1.weight"]
    assert numbers(net)["1.weight"] == [[1.0] * 3] * 2


class Growing(nn.Module):
    """Has a buffer that becomes as large as that of the file, and what follows from it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.arange(float(size)))
        self.total = float(self.seen.sum())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.seen = torch.empty(state_dict[f"{prefix}seen"].shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[no-untyped-call]
        self.total = float(self.seen.sum())


def test_a_module_may_make_room_for_what_a_file_has(tmp_path: Path) -> None:
    """A buffer that its module gives the file's shape is compared with that; what it derives is of the new values."""
    path = keepfast.save(nn.Sequential(Growing(4), nn.Linear(2, 2)), tmp_path / "m.pt")
    net = nn.Sequential(Growing(2), nn.Linear(2, 2))
    assert keepfast.load(net, path)
    assert (net[0].seen.tolist(), net[0].total) == ([0.0, 1.0, 2.0, 3.0], 6.0)


def test_a_refused_load_leaves_a_converting_module_as_it_was(tmp_path: Path) -> None:
    """Everything or nothing: a module that made room for a file has its own buffer again where another one refuses."""
    keepfast.save({"grown": Growing(4), "net": nn.Linear(3, 3)}, tmp_path / "m.pt")
    grown, net = Growing(2), nn.Linear(2, 2)
    seen, before = grown.seen, numbers(net)
    with pytest.raises(keepfast.LoadMismatch):
        keepfast.load({"grown": grown, "net": net}, tmp_path / "m.pt")
    assert grown.seen is seen
    assert (seen.tolist(), grown.total, numbers(net)) == ([0.0, 1.0], 1.0, before)


class Alone(nn.Module):
    """Loads by itself, without PyTorch's way."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(value))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        level = state_dict[f"{prefix}level"]
        if float(level) < 0:
            rest[-1].append("a level is below 0")
        else:
            self.level.data.copy_(level)


def test_a_part_that_loads_by_itself_decides_what_it_takes(tmp_path: Path) -> None:
    """What it takes is loaded, and what it has against a file is the refusal, after which all is as it was."""
    net = nn.Sequential(Alone(1.0), nn.Linear(1, 1))
    assert keepfast.load(net, keepfast.save(nn.Sequential(Alone(5.0), nn.Linear(1, 1)), tmp_path / "m.pt"))
    before = numbers(net)
    assert before["0.level"] == 5.0
    path = keepfast.save(nn.Sequential(Alone(-1.0), nn.Linear(1, 1)), tmp_path / "m.pt")
    with pytest.raises(keepfast.LoadMismatch, match="a level is below 0"):
        keepfast.load(net, path)
    assert numbers(net) == before


def test_what_a_module_forgives_is_no_difference(tmp_path: Path) -> None:
    """A hook after the load that strikes a missing or an unexpected entry has it accepted, as PyTorch does."""

    def forgive(_module: nn.Module, incompatible: Any) -> None:
        incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith("bias")]
        incompatible.unexpected_keys.clear()

    net = nn.Sequential(nn.Linear(2, 1))
    net.register_load_state_dict_post_hook(forgive)
    bias = net[0].bias.tolist()
    torch.save({"0.weight": torch.ones(1, 2), "0.older": torch.ones(1)}, tmp_path / "m.pt")
    report = keepfast.load(net, tmp_path / "m.pt")
    assert report
    assert report.loaded == ["module.0.weight"]
    assert numbers(net) == {"0.weight": [[1.0, 1.0]], "0.bias": bias}
    torch.save({"0.bias": torch.ones(1)}, tmp_path / "m.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"0\.weight: missing"):
        keepfast.load(net, tmp_path / "m.pt")


def test_conversions_of_torchs_own_are_made(tmp_path: Path) -> None:
    """Weights that were normalized the older way load into those that are parametrized today."""
    with pytest.warns(FutureWarning):
        old = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)))  # type: ignore[no-untyped-call]
    new = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))  # type: ignore[no-untyped-call]
    path = keepfast.save(old, tmp_path / "m.pt")
    report = keepfast.load(new, path)
    assert report.renamed["module.0.parametrizations.weight.original0"] == "0.weight_g"
    assert torch.equal(old(torch.ones(1, 3)), new(torch.ones(1, 3)))


class WithExtra(nn.Module):
    """Takes any extra state; refuses a text."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        if isinstance(state, str):
            raise TypeError("no text is taken")
        self.extra = state


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize(
    "extra", [torch.ones(5), {"seen": [1, 2, 3], "of": {"a": torch.ones(2, 2)}}, [], None, 2.5, [torch.ones(1)] * 3]
)
def test_an_extra_state_of_any_shape_is_for_its_module_to_take(tmp_path: Path, extension: str, extra: Any) -> None:
    """An extra state of other entries, shapes and kinds than the present one goes to `set_extra_state` as it is."""
    path = keepfast.save(nn.Sequential(nn.Linear(1, 1), WithExtra(extra)), tmp_path / f"m.{extension}")
    for own in ({"seen": [0]}, torch.zeros(2), torch.tensor(0), 1):
        net = nn.Sequential(nn.Linear(1, 1), WithExtra(own))
        assert keepfast.load(net, path)
        assert repr(net[1].extra) == repr(extra)


def test_an_extra_state_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """What `set_extra_state` has against it is the refusal, and the module is as it was."""
    path = keepfast.save(nn.Sequential(nn.Linear(1, 1), WithExtra("text")), tmp_path / "m.pt")
    net = nn.Sequential(nn.Linear(1, 1), WithExtra([1]))
    weight = net[0].weight.tolist()
    with pytest.raises(keepfast.LoadMismatch, match="no text is taken"):
        keepfast.load(net, path)
    assert (net[0].weight.tolist(), net[1].extra) == (weight, [1])


class Tied(nn.Module):
    """An embedding and a head, whose weights are one or two."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


@pytest.mark.parametrize("extension", FORMATS)
def test_different_tensors_for_one_weight_are_told(tmp_path: Path, extension: str) -> None:
    """Of two tensors of a file that land in one weight, the report and a warning name both, and whose values stay."""
    apart = Tied(tied=False)
    path, tied = keepfast.save(apart, tmp_path / f"m.{extension}"), Tied(tied=True)
    with pytest.warns(keepfast.KeepfastWarning, match=r"`module\.embedding\.weight` and `module\.head\.weight`"):
        report = keepfast.load(tied, path)
    assert report.tied == {"module.embedding.weight": "module.head.weight"}
    assert torch.equal(tied.head.weight, apart.head.weight)
    assert keepfast.load(Tied(tied=True), keepfast.save(tied, path)).tied == {}  # the same values are no matter


def test_weights_that_modules_share_are_told_of_too(tmp_path: Path) -> None:
    """Two modules with one trunk between them are told that the file has two."""
    keepfast.save({"policy": nn.Linear(2, 2), "value": nn.Linear(2, 2)}, tmp_path / "m.pt")
    trunk = nn.Linear(2, 2)
    with pytest.warns(keepfast.KeepfastWarning, match="one and the same here"):
        report = keepfast.load({"policy": nn.Sequential(trunk)[0], "value": trunk}, tmp_path / "m.pt")
    assert report.tied == {f"module.policy.{name}": f"module.value.{name}" for name in ("weight", "bias")}


def squares(first: float) -> torch.Tensor:
    return torch.arange(4.0).reshape(2, 2) + first


VIEWS: dict[str, tuple[Any, bool]] = {
    "its transpose": (lambda w: w.t(), False),
    "itself": (lambda w: w, True),
    "a row": (lambda w: w[1], True),
    "a row that fits": (lambda w: w[0], False),
    "a column": (lambda w: w[:, 1], True),
    "flat": (lambda w: w.reshape(4), False),
    "expanded": (lambda w: w[:1, :1].expand(2, 2), True),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_shares_memory_in_any_way_is_told_where_values_are_lost(view: str, tmp_path: Path) -> None:
    """Transposes, parts and other shapes of a weight: only where the file has no values that both can have."""
    made, is_lost = VIEWS[view]
    weight = squares(0.0)
    saved = {"w": squares(1.0), "v": made(squares(1.0)).clone()}
    if is_lost:
        saved["v"] = saved["v"] + 7
    path = tmp_path / "m.pt"
    torch.save(saved, path)
    own = {"w": weight, "v": made(weight)}
    if is_lost:
        with pytest.warns(keepfast.KeepfastWarning, match=r"different values for `module\.w` and `module\.v`"):
            report = keepfast.load(own, path)
        assert "module.w" in report.tied
    else:
        assert keepfast.load(own, path).tied == {}
        assert torch.equal(own["w"], squares(1.0))


def test_what_lies_between_another_s_numbers_is_not_told(tmp_path: Path) -> None:
    """Every second number is one weight, the others another."""
    memory = torch.zeros(8)
    own = {"even": memory[::2], "odd": memory[1::2]}
    torch.save({"even": torch.ones(4), "odd": torch.full((4,), 2.0)}, tmp_path / "m.pt")
    assert keepfast.load(own, tmp_path / "m.pt").tied == {}
    assert memory.tolist() == [1, 2] * 4
