"""Loading: everything wrong is told at once, and nothing is half-loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import Checkpoint
from keepfast.interfaces.loading.report import LoadReport
from keepfast.modules.options import LoadOptions
from keepfast.modules.registered import registered
from keepfast.modules.restoring import restore_all
from keepfast.tree import flatten

pytestmark = pytest.mark.usefixtures("numpy_backend")

MakeNet = Callable[..., Any]
PATH = Path("runs/x/checkpoints/agent_5.pt")


def restore(modules: Mapping[str, Any], file: Mapping[str, Any], /, **options: Any) -> LoadReport:
    """Load a checkpoint with the given modules' trees into modules."""
    checkpoint = Checkpoint(copy.deepcopy(dict(file)), {"timestep": 5})
    return restore_all(registered(modules, None), checkpoint, PATH, LoadOptions(**options))


def state(module: Any) -> dict[str, Any]:
    """Return an independent copy of a module's tree."""
    found: dict[str, Any] = copy.deepcopy(module.arrays if hasattr(module, "arrays") else module.state)
    return found


def same(first: Any, second: Any) -> bool:
    """Say whether two trees are bit-identical."""
    one, other = flatten(first), flatten(second)
    return one.keys() == other.keys() and all(
        np.asarray(one[path]).tobytes() == np.asarray(other[path]).tobytes() for path in one
    )


def test_what_fits_is_loaded_in_place(net: MakeNet, momentum: MakeNet) -> None:
    """Every entry arrives in the module's own arrays, and the report lists each by full path."""
    policy, optimizer, source = net(0), momentum(0.1), net(1)
    weight = policy.arrays["body"]["weight"]
    report = restore({"policy": policy, "optimizer": optimizer}, {"policy": state(source), "optimizer": {"lr": 0.2}})
    assert report
    assert report.loaded == [
        "policy.body.weight",
        "policy.body.bias",
        "policy.head.weight",
        "policy.head.bias",
        "optimizer.lr",
    ]
    assert (report.path, report.timestep, report.differences) == (PATH, 5, [])
    assert same(policy.arrays, source.arrays)
    assert policy.arrays["body"]["weight"] is weight
    assert optimizer.state == {"lr": 0.2}


def spoilt(source: Any) -> dict[str, Any]:
    """Return a tree with one difference of each kind."""
    tree = state(source)
    del tree["body"]["bias"]
    tree["body"]["scale"] = np.ones(7, np.int64)
    tree["head"]["weight"] = np.zeros((4, 5), np.float32)
    tree["head"]["bias"] = tree["head"]["bias"].astype(np.float64)
    tree["steps"] = np.zeros(2)
    return tree


LISTING = """\
  policy.body.bias: missing: the file has no such entry; expected float32 (4,)
  policy.head.weight: shape: the module has float32 (4, 2), the file has float32 (4, 5)
  policy.head.bias: dtype: the module has float32 (2,), the file has float64 (2,) (`cast=True` converts)
  policy.steps: kind: the module has int 3, the file has float64 (2,)
  policy.body.scale: extra: the module has no such entry; the file has int64 (7,)
  value.w: missing: the file has no such entry; expected float64 (1,)"""


def test_everything_wrong_is_told_at_once_and_nothing_is_loaded(net: MakeNet) -> None:
    """One error lists missing, extra, shape, dtype and kind by full path with both sides; no module changes."""
    policy, value = net(0, steps=3), net(0)
    value.arrays = {"w": np.zeros(1)}
    before = state(policy), state(value)
    with pytest.raises(keepfast.LoadMismatch) as raised:
        restore({"policy": policy, "value": value}, {"policy": spoilt(net(1))})
    assert str(raised.value) == (
        f"`{PATH}` does not fit, and nothing was loaded (`strict=False` loads what fits):\n{LISTING}"
    )
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, RuntimeError)
    assert same(policy.arrays, before[0])
    assert same(value.arrays, before[1])


def test_without_strict_what_fits_is_loaded_and_the_rest_stays(net: MakeNet) -> None:
    """The report is false and lists both; entries that differ keep the module's own values."""
    policy, source = net(0, steps=3), net(1)
    before = state(policy)
    report = restore({"policy": policy}, {"policy": spoilt(source)}, strict=False)
    assert not report
    assert report.loaded == ["policy.body.weight"]
    assert report.missing == ["policy.body.bias"]
    assert report.extra == ["policy.body.scale"]
    assert report.mismatched == ["policy.head.weight", "policy.head.bias", "policy.steps"]
    assert str(report).splitlines() == [f"{PATH}: 1 entries loaded, 5 not", *LISTING.splitlines()[:-1]]
    before["body"]["weight"] = source.arrays["body"]["weight"]
    assert same(policy.arrays, before)


def test_cast_converts_another_dtype(net: MakeNet) -> None:
    """With `cast`, values are converted to the module's dtype, and the report says which."""
    policy = net(0)
    tree = state(net(1))
    tree["body"]["weight"] = tree["body"]["weight"].astype(np.float64)
    tree["head"]["bias"] = np.array([3, 4], np.int8)
    report = restore({"policy": policy}, {"policy": tree}, cast=True)
    assert report
    assert report.cast == ["policy.body.weight", "policy.head.bias"]
    assert policy.arrays["head"]["bias"].dtype == np.float32
    assert policy.arrays["head"]["bias"].tolist() == [3.0, 4.0]


def test_cast_does_not_hide_another_shape(net: MakeNet) -> None:
    """A shape that differs stays an error."""
    tree = state(net(1))
    tree["head"]["bias"] = np.zeros(3)
    with pytest.raises(keepfast.LoadMismatch, match=r"policy.head.bias: shape"):
        restore({"policy": net(0)}, {"policy": tree}, cast=True)


@pytest.mark.parametrize(
    ("own", "found", "fits"),
    [
        (3, np.array(4), True),
        (np.array(3), 4, True),
        (0.5, 3, True),
        ("a", "b", True),
        (None, None, True),
        (None, 3, False),
        ("a", 3, False),
        (3, np.zeros(2), False),
        (np.zeros(2), None, False),
    ],
    ids=repr,
)
def test_entries_that_are_no_arrays_fit_by_kind(net: MakeNet, own: Any, found: Any, fits: bool) -> None:
    """A number and a 0-d array stand for each other; None, strings and arrays do not."""
    module = net(0, extra=own)
    report = restore({"policy": module}, {"policy": {**state(net(1)), "extra": found}}, strict=False)
    assert ("policy.extra" in report.loaded) is fits
    assert ("policy.extra" in report.mismatched) is not fits


@pytest.mark.parametrize(
    "rename",
    [
        {"policy.trunk": "policy.body"},
        {"trunk": "body"},
        {"policy.trunk": "body"},
        {"trunk.weight": "body.weight", "policy.trunk.bias": "policy.body.bias"},
    ],
    ids=str,
)
def test_rename_maps_prefixes_and_entries(net: MakeNet, rename: dict[str, str]) -> None:
    """A path of the file stands for all below it, with or without the module's name."""
    policy, source = net(0), net(1)
    tree = state(source)
    tree["trunk"] = tree.pop("body")
    report = restore({"policy": policy}, {"policy": tree}, rename=rename)
    assert report.renamed == {"policy.body.weight": "trunk.weight", "policy.body.bias": "trunk.bias"}
    assert same(policy.arrays, source.arrays)


def test_rename_maps_whole_modules(net: MakeNet) -> None:
    """A module of another name in the file is loaded, entries that are renamed below its name there too."""
    policy, source = net(0), net(1)
    tree = state(source)
    tree["trunk"] = tree.pop("body")
    report = restore({"policy": policy}, {"actor": tree}, rename={"actor": "policy", "actor.trunk": "policy.body"})
    assert report
    assert same(policy.arrays, source.arrays)


def test_the_longest_rename_wins(net: MakeNet) -> None:
    """An entry's own row counts before its prefix's."""
    policy, source = net(0), net(1)
    tree = state(source)
    tree["t"] = {"w": tree["body"].pop("weight"), "bias": tree.pop("body")["bias"]}
    restore({"policy": policy}, {"policy": tree}, rename={"t": "body", "t.w": "body.weight"})
    assert same(policy.arrays, source.arrays)


def test_modules_change_names_with_each_other(net: MakeNet) -> None:
    """Each row is applied once: what `actor` became is not what `policy` becomes."""
    modules, actor, policy = {"policy": net(0), "critic": net(1)}, net(2), net(3)
    file = {"actor": state(actor), "policy": state(policy)}
    assert restore(modules, file, rename={"actor": "policy", "policy": "critic"})
    assert same(modules["policy"].arrays, actor.arrays)
    assert same(modules["critic"].arrays, policy.arrays)
    assert restore(
        modules, {"critic": state(actor), "policy": state(policy)}, rename={"critic": "policy", "policy": "critic"}
    )
    assert same(modules["critic"].arrays, policy.arrays)


def test_an_entry_and_its_module_are_renamed_together(net: MakeNet) -> None:
    """The left side of an entry's row has the module's name in the file, whether or not the module is renamed too."""
    module, source = net(0), net(1)
    module.arrays = {"v": np.zeros((3, 4), np.float32)}
    file = {"actor": {"weight": source.arrays["body"]["weight"]}}
    report = restore({"pi": module}, file, rename={"actor": "pi", "actor.weight": "pi.v"})
    assert report.renamed == {"pi.v": "weight"}
    assert same(module.arrays["v"], source.arrays["body"]["weight"])


def test_a_row_for_another_module_leaves_an_entry_of_its_name(net: MakeNet) -> None:
    """Where the file has a module `head`, its rows do not speak of the layer `head` of others."""
    modules = {"policy": net(0), "tail": net(1)}
    file = {"policy": state(net(2)), "head": state(net(3))}
    assert restore(modules, file, rename={"head": "tail", "head.body": "tail.body"})
    assert same(modules["policy"].arrays, file["policy"])
    assert same(modules["tail"].arrays, file["head"])


def test_two_modules_of_one_name_are_refused(net: MakeNet) -> None:
    """A rename that would let one module of the file hide another is told."""
    with pytest.raises(keepfast.LoadMismatch, match="`rename` makes two modules of the file `policy`"):
        restore({"policy": net(0)}, {"actor": state(net(1)), "policy": state(net(2))}, rename={"actor": "policy"})


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("{}", "module.{}"),
        ("{}", "_orig_mod.{}"),
        ("{}", "module._orig_mod.{}"),
        ("{}", "_orig_mod.module.{}"),
        ("module.{}", "{}"),
        ("_orig_mod.{}", "module.{}"),
        ("body._orig_mod.{}", "body.{}"),
    ],
)
def test_prefixes_of_compiled_and_parallel_modules_are_seen_through(net: MakeNet, own: str, file: str) -> None:
    """`_orig_mod.` and `module.` come and go between saving and loading without a word from the user."""

    def nested(pattern: str, leaf: Any) -> dict[str, Any]:
        tree: Any = leaf
        for key in reversed(pattern.format("weight").split(".")):
            tree = {key: tree}
        found: dict[str, Any] = tree
        return found

    module = net(0)
    module.arrays = nested(own, np.zeros(3))
    report = restore({"policy": module}, {"policy": nested(file, np.ones(3))})
    assert list(report.renamed) == [f"policy.{own.format('weight')}"]
    assert same(module.arrays, nested(own, np.ones(3)))


def test_an_open_module_decides_what_it_takes(net: MakeNet, momentum: MakeNet) -> None:
    """What it lacks is no extra, what the file lacks is no miss: a fresh optimizer takes a used state, and back."""
    optimizer = momentum(0.1)
    used = {"lr": 0.2, "velocity": np.ones(3)}
    report = restore({"optimizer": optimizer}, {"optimizer": used})
    assert report
    assert report.loaded == ["optimizer.lr", "optimizer.velocity"]
    assert same(optimizer.state, used)
    assert restore({"optimizer": optimizer}, {"optimizer": {"lr": 0.3}})
    assert optimizer.state == {"lr": 0.3}


def test_an_open_module_that_refuses_leaves_every_module_as_it_was(net: MakeNet, momentum: MakeNet) -> None:
    """Even what was restored before it is put back, bit for bit."""
    modules = {"policy": net(0), "first": momentum(0.1), "second": momentum(0.2)}
    before = {name: state(module) for name, module in modules.items()}
    with pytest.raises(ValueError, match=r"`second` could not be loaded from `runs/x.*no learning rate") as raised:
        restore(modules, {"policy": state(net(1)), "first": {"lr": 5.0}, "second": {"velocity": np.ones(1)}})
    assert all(same(state(module), before[name]) for name, module in modules.items())
    assert isinstance(raised.value, keepfast.LoadFailed)


def test_what_refuses_halfway_is_as_it_was_where_all_else_is_loaded(net: MakeNet, momentum: MakeNet) -> None:
    """Without strict the report tells of it, and what it shares with a module that was loaded keeps what that got."""

    class Halfway(momentum):  # type: ignore[misc,valid-type]
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self.state["lr"] = self.policy = state["lr"]
            raise keepfast.LoadMismatch("not today")

    policy, first, second = net(0), momentum(0.1), Halfway(0.2)
    second.policy = policy
    source = net(1)
    file = {"policy": state(source), "first": {"lr": 5.0}, "second": {"lr": 6.0}}
    report = restore({"policy": policy, "first": first, "second": second}, file, strict=False)
    assert [str(entry) for entry in report.differences] == ["second: refused: not today"]
    assert (first.state, second.state, second.policy) == ({"lr": 5.0}, {"lr": 0.2}, policy)
    assert same(policy.arrays, source.arrays)


def test_what_is_put_back_is_a_copy_from_before(momentum: MakeNet) -> None:
    """A module that is restored where it is, as a memory is, has its own values again when another one refuses."""

    class Buffer(momentum):  # type: ignore[misc,valid-type]
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self.state["samples"][...] = state["samples"]

    buffer, optimizer = Buffer(0.0), momentum(0.1)
    buffer.state["samples"] = np.zeros(3)
    file = {"memory": {"lr": 0.0, "samples": np.ones(3)}, "optimizer": {"lr": -1.0}}
    with pytest.raises(keepfast.LoadMismatch, match=r"the learning rate -1\.0 is negative"):
        restore({"memory": buffer, "optimizer": optimizer}, file)
    assert buffer.state["samples"].tolist() == [0.0, 0.0, 0.0]


def test_no_module_is_touched_where_a_difference_is_known_beforehand(net: MakeNet, momentum: MakeNet) -> None:
    """Not even one that could be put back."""
    loads: list[Any] = []

    class Noting(momentum):  # type: ignore[misc,valid-type]
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            loads.append(state)

    policy = net(0)
    with pytest.raises(keepfast.LoadMismatch, match=r"policy\.body\.bias: missing"):
        restore({"policy": policy, "optimizer": Noting(0.1)}, {"policy": spoilt(policy), "optimizer": {"lr": 0.2}})
    assert loads == []


def test_what_an_open_module_cannot_take_is_told_with_all_else(net: MakeNet, momentum: MakeNet) -> None:
    """One error lists the entries of networks and optimizers by full path, and nothing is loaded."""
    modules = {"policy": net(0), "optimizer": momentum(0.1)}
    before = {name: state(module) for name, module in modules.items()}
    tree = state(net(1))
    del tree["body"]["bias"]
    with pytest.raises(keepfast.LoadMismatch) as raised:
        restore(modules, {"policy": tree, "optimizer": {"lr": "fast"}})
    assert str(raised.value).splitlines()[1:] == [
        "  policy.body.bias: missing: the file has no such entry; expected float32 (4,)",
        "  optimizer.lr: kind: the module has a number, the file has 'fast'",
    ]
    assert all(same(state(module), before[name]) for name, module in modules.items())


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ({"lr": "fast"}, "optimizer.lr: kind: the module has a number, the file has 'fast'"),
        ({"lr": -1.0}, "optimizer: refused: the learning rate -1.0 is negative"),
        (
            {"lr": 0.3, "velocity": np.ones(4)},
            "optimizer.velocity: shape: the module has float64 (3,), the file has float64 (4,)",
        ),
    ],
    ids=["told before", "refused when loaded", "another shape"],
)
def test_without_strict_an_open_module_that_does_not_fit_is_left_alone(
    net: MakeNet, momentum: MakeNet, found: dict[str, Any], difference: str
) -> None:
    """It is passed over as a whole, with nothing of it reported as loaded; the modules beside it are loaded."""
    policy, optimizer, source = net(0), momentum(0.1), net(1)
    optimizer.state["velocity"] = np.zeros(3)
    before = state(optimizer)
    file = {"policy": state(source), "optimizer": found}
    report = restore({"policy": policy, "optimizer": optimizer}, file, strict=False)
    assert [str(entry) for entry in report.differences] == [difference]
    assert {path.partition(".")[0] for path in report.loaded} == {"policy"}
    assert len(report.mismatched) == 1
    assert same(policy.arrays, source.arrays)
    assert same(state(optimizer), before)


def test_a_refusal_names_the_file_and_the_module(net: MakeNet, momentum: MakeNet) -> None:
    """All modules that refuse are told in one error, and those that did not are put back."""
    modules = {"policy": net(0), "first": momentum(0.1), "second": momentum(0.2), "third": momentum(0.3)}
    before = {name: state(module) for name, module in modules.items()}
    file = {"policy": state(net(1)), "first": {"lr": -1.0}, "second": {"lr": 5.0}, "third": {"lr": -2.0}}
    with pytest.raises(keepfast.LoadMismatch) as raised:
        restore(modules, file)
    head, *listing = str(raised.value).splitlines()
    assert head.startswith(f"`{PATH}` does not fit, and nothing was loaded")
    assert listing == [
        "  first: refused: the learning rate -1.0 is negative",
        "  third: refused: the learning rate -2.0 is negative",
    ]
    assert all(same(state(module), before[name]) for name, module in modules.items())


def test_a_module_that_the_agent_lacks_is_warned_of_and_passed_over(net: MakeNet) -> None:
    """The warning has the documented words, once for each such module; the rest is loaded."""
    policy, source = net(0), net(1)
    file = {"policy": state(source), "value": state(net(2)), "optimizer": {"lr": 1.0}}
    with pytest.warns(keepfast.KeepfastWarning) as warned:
        report = restore({"policy": policy}, file)
    assert [str(warning.message) for warning in warned] == [
        "Cannot load the value module. The agent doesn't have such an instance",
        "Cannot load the optimizer module. The agent doesn't have such an instance",
    ]
    assert report
    assert report.absent_modules == ("value", "optimizer")
    assert same(policy.arrays, source.arrays)


def test_modules_choose_what_is_loaded(net: MakeNet) -> None:
    """Others stay as they are, and no warning tells of what was not asked for."""
    modules = {"policy": net(0), "value": net(1)}
    before = state(modules["value"])
    file = {"policy": state(net(2)), "value": state(net(3)), "critic": state(net(4))}
    report = restore(modules, file, modules=("policy",))
    assert {path.split(".")[0] for path in report.loaded} == {"policy"}
    assert same(modules["value"].arrays, before)


def test_asking_for_a_module_that_the_agent_lacks_is_an_error(net: MakeNet) -> None:
    """The error lists what the agent has."""
    with pytest.raises(keepfast.LoadMismatch, match=r"asked to load polcy, which .*; it has: policy"):
        restore({"policy": net(0)}, {"policy": state(net(1))}, modules=("polcy",))
    with pytest.raises(keepfast.LoadMismatch, match=r"asked to load polcy, which .*; it has: policy"):
        restore({"policy": net(0)}, {"policy": state(net(1))}, modules=("policy", "polcy"))


def test_a_file_with_none_of_the_modules_is_an_error_even_without_strict(net: MakeNet) -> None:
    """The error lists both sides and points to `rename`."""
    with pytest.raises(keepfast.LoadMismatch, match=r"holds the modules actor, critic, .*: policy; `rename`"):
        restore({"policy": net(0)}, {"actor": {}, "critic": {}}, strict=False)


def test_nothing_matching_is_an_error_even_without_strict(net: MakeNet) -> None:
    """A file of which not one entry fits is no load."""
    policy = net(0)
    before = state(policy)
    with pytest.raises(keepfast.LoadMismatch, match=r"^nothing in `.*` matches the modules"):
        restore({"policy": policy}, {"policy": {"something": np.ones(1)}}, strict=False)
    assert same(policy.arrays, before)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_one_module_is_saved_and_loaded_by_itself(net: MakeNet, tmp_path: Path, suffix: str) -> None:
    """`keepfast.save` and `keepfast.load` need no agent, and the extension chooses the format."""
    module, source = net(0), net(1)
    path = keepfast.save(source, tmp_path / f"net{suffix}")
    report = keepfast.load(module, path)
    assert report
    assert same(module.arrays, source.arrays)


def test_a_module_with_two_entries_of_one_path_is_not_saved(net: MakeNet, tmp_path: Path) -> None:
    """They could be stored, but neither told apart nor restored."""
    module = net(0, **{"body.bias": np.zeros(4)})
    with pytest.raises(keepfast.InvalidValue, match=r"two entries of the tree have the path `body\.bias`"):
        keepfast.save(module, tmp_path / "policy.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_module_out_of_many_is_named(net: MakeNet, tmp_path: Path) -> None:
    """Loading one module from an agent's file says which are there, and takes the one asked for."""
    from keepfast.plugins.formats import format_of

    path = tmp_path / "agent_5.pt"
    source = net(1)
    checkpoint = Checkpoint({"policy": state(source), "value": state(net(2))}, {"modules": ["policy", "value"]})
    format_of("checkpoint format", path).save(checkpoint, path)
    module = net(0)
    with pytest.raises(keepfast.LoadMismatch, match="holds the modules policy, value; say which one"):
        keepfast.load(module, path)
    assert keepfast.load(module, path, modules=["policy"])
    assert same(module.arrays, source.arrays)


def test_an_attribute_of_nobody_is_refused() -> None:
    """A misspelt attribute is told when it is named, not at the first checkpoint."""
    with pytest.raises(keepfast.UnsupportedModule, match="a dict has no attribute `train_state`"):
        keepfast.attribute({}, "train_state")


def test_what_no_backend_knows_is_refused() -> None:
    """The error names the type and the known backends."""
    with pytest.raises(keepfast.UnsupportedModule, match=r"no backend knows .* a builtins.object; .*numpy"):
        registered({"policy": object()}, None)


def test_a_missing_file_and_an_unknown_extension_are_told(net: MakeNet, tmp_path: Path) -> None:
    """The error is the FileNotFoundError or ValueError of its kind."""
    with pytest.raises(keepfast.NotFound, match=r"cannot load `.*net.pt`: it is not there"):
        keepfast.load(net(0), tmp_path / "net.pt")
    with pytest.raises(keepfast.ConfigError, match=r"has the extension of no checkpoint format; known: .*\.pt"):
        keepfast.save(net(0), tmp_path / "net.xyz")
    assert list(tmp_path.iterdir()) == []


def test_different_values_for_one_array_are_told(tmp_path):
    """Of arrays of NumPy that are one in memory, the last one's values stay, and the report names both."""
    array = np.zeros(2)
    path = keepfast.save({"a": np.ones(2), "b": np.full(2, 2.0)}, tmp_path / "x.safetensors")
    with pytest.warns(keepfast.KeepfastWarning, match=r"different values for `module\.a` and `module\.b`"):
        report = keepfast.load({"a": array, "b": array}, path)
    assert (report.tied, array.tolist()) == ({"module.a": "module.b"}, [2, 2])
    assert keepfast.load({"a": np.zeros(2), "b": array}, path).tied == {}
