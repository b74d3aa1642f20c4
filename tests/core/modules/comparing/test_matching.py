"""A module's own tree against a file's, entry by entry."""

from __future__ import annotations

import numpy as np

from keepfast import Mismatch
from keepfast.modules.comparing.matching import match, reject
from keepfast.modules.options import FileModule, LoadOptions


def test_an_entry_is_taken_from_its_own_name_before_a_similar_one() -> None:
    """Whichever stands first in the file, and the similar one is told as more than the module has."""
    own = {"weight": np.zeros(2)}
    for names in (("weight", "_orig_mod.weight"), ("_orig_mod.weight", "weight")):
        file = {name: np.ones(2) if name == "weight" else np.full(2, 5.0) for name in names}
        matched = match("policy", own, FileModule(file), LoadOptions())
        assert matched.state["weight"].tolist() == [1.0, 1.0]
        assert [(entry.path, entry.status) for entry in matched.entries] == [
            ("weight", "loaded"),
            ("_orig_mod.weight", "extra"),
        ]


def test_what_is_cast_has_the_modules_dtype() -> None:
    """A backend is given what its module holds, and need not convert anything."""
    own, file = {"weight": np.zeros(2, np.float32)}, {"weight": np.array([1.5, 2.5])}
    matched = match("policy", own, FileModule(file), LoadOptions(cast=True))
    assert matched.state["weight"].dtype == np.float32
    assert matched.state["weight"].tolist() == [1.5, 2.5]
    assert [entry.cast for entry in matched.entries] == [True]


def test_of_what_a_module_cannot_take_it_keeps_its_own() -> None:
    """All else is loaded, and the entry tells what the module said."""
    own, file = {"a": 1.0, "b": 2.0}, {"a": 10.0, "b": 20.0}
    matched = match("keys", own, FileModule(file), LoadOptions())
    rejected = reject(matched, own, [Mismatch("b", "kind", "threefry", "rbg")])
    assert rejected.state == {"a": 10.0, "b": 2.0}
    assert [(entry.path, entry.status, entry.found) for entry in rejected.entries][1] == ("b", "kind", "rbg")


def test_a_rename_fits_whole_names() -> None:
    """A path, or what lies below it; not what merely begins alike."""
    file = FileModule({}, {"net": "body", "net.0": "first"})
    paths = ("net", "net.weight", "network.weight", "net.0.bias", "net.01.bias")
    assert [file.renamed(path) for path in paths] == [
        "body",
        "body.weight",
        "network.weight",
        "first.bias",
        "body.01.bias",
    ]
