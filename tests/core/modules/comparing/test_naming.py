"""What wraps a module is seen through, wherever it stands, and what only looks like it is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.modules.comparing.naming import sources


def found(own: list[str], file: list[str]) -> dict[str, str]:
    """Return where a file has each entry, and check that nothing has two places."""
    at, _ = sources(own, {path: path for path in file})
    assert len(set(at.values())) == len(at)
    return at


LAYERS = ["actor.0.weight", "actor.0.bias", "actor.1.weight", "critic.0.weight"]


@pytest.mark.parametrize(
    "wrapped",
    [
        [f"module.{path}" for path in LAYERS],
        [f"_orig_mod.{path}" for path in LAYERS],
        [f"module._orig_mod.{path}" for path in LAYERS],
        [path.replace("actor", "actor.module") for path in LAYERS],
        [path.replace("actor", "actor._orig_mod") for path in LAYERS],
        [path.replace("actor.0", "actor.0.module._orig_mod") for path in LAYERS],
        [f"_orig_mod.{path.replace('critic', 'critic.module')}" for path in LAYERS],
        [f"_fsdp_wrapped_module.{path.replace('actor', 'actor._checkpoint_wrapped_module')}" for path in LAYERS],
    ],
    ids=lambda paths: paths[0],
)
def test_wrappers_anywhere_are_seen_through_on_either_side(wrapped: list[str]) -> None:
    """In the file, in the module, and in both at different places."""
    assert found(LAYERS, wrapped) == dict(zip(LAYERS, wrapped, strict=True))
    assert found(wrapped, LAYERS) == dict(zip(wrapped, LAYERS, strict=True))
    other = [f"module.{path.replace('critic', 'critic._orig_mod')}" for path in LAYERS]
    assert found(other, wrapped) == dict(zip(other, wrapped, strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module.module.", "_orig_mod.module."])
def test_a_users_own_part_of_such_a_name_is_left_alone(prefix: str) -> None:
    """`module.weight` beside `weight` is another entry, however often the whole was wrapped."""
    own = ["module.weight", "module.bias", "weight", "bias"]
    assert found(own, [prefix + path for path in own]) == {path: prefix + path for path in own}


def test_a_users_only_part_of_such_a_name_comes_and_goes() -> None:
    """There both readings are the same."""
    own = ["module.0.weight", "module.1.weight"]
    for file in (own, ["0.weight", "1.weight"], ["module.module.0.weight", "module.module.1.weight"]):
        assert found(own, file) == dict(zip(own, file, strict=True))


def test_an_entry_of_such_a_name_is_no_wrapper() -> None:
    """A parameter that is called `module` is a parameter."""
    assert found(["module"], ["module"]) == {"module": "module"}
    assert found(["weight"], ["module"]) == {}


def test_what_the_other_side_has_not_is_not_guessed() -> None:
    """Where a file is a part, the parts of one name belong together."""
    own = ["module.head.weight", "head.weight"]
    assert found(own, ["module.head.weight"]) == {"module.head.weight": "module.head.weight"}
    assert found(["actor.0.weight"], ["critic.module.0.weight"]) == {}


def test_an_averaged_model_gives_its_average() -> None:
    """How many it was averaged from is of no meaning to the plain model, and missing the other way round."""
    averaged = ["n_averaged", *(f"module.{path}" for path in LAYERS)]
    at, dropped = sources(LAYERS, {path: path for path in averaged})
    assert at == {path: f"module.{path}" for path in LAYERS}
    assert dropped == {"n_averaged"}
    assert found(averaged, LAYERS) == {f"module.{path}": path for path in LAYERS}
    assert sources(averaged, {path: path for path in averaged})[1] == frozenset()


names = st.sampled_from(["actor", "net", "0", "1", "module", "head"])
trees: Any = st.recursive(
    st.sampled_from(["leaf"]), lambda inner: st.dictionaries(names, inner, min_size=2, max_size=3), max_leaves=12
)


def paths_of(tree: Any, prefix: str = "") -> list[str]:
    if tree == "leaf":
        return [f"{prefix}weight"]
    return [path for name, inner in tree.items() for path in paths_of(inner, f"{prefix}{name}.")]


def wrapped_paths(tree: Any, draw: Any, prefix: str = "") -> list[str]:
    """Return the paths of a tree with wrappers put in wherever the draw says so."""
    prefix += draw(st.sampled_from(["", "", "module.", "_orig_mod.", "_orig_mod.module.", "module.module."]))
    if tree == "leaf":
        return [f"{prefix}weight"]
    return [path for name, inner in tree.items() for path in wrapped_paths(inner, draw, f"{prefix}{name}.")]


@given(trees, st.data())
def test_a_module_of_any_names_is_found_whatever_wraps_its_parts(tree: Any, data: Any) -> None:
    """Each entry where it is, parts that are called `module` among them."""
    own, file = paths_of(tree), wrapped_paths(tree, data.draw)
    assert found(own, file) == dict(zip(own, file, strict=True))
    assert found(file, own) == dict(zip(file, own, strict=True))
