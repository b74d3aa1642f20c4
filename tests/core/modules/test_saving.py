"""An object of any framework saves and loads itself, by one mixin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any


def same(one: Net, other: Net) -> bool:
    """Say whether the heads of two networks have the same weights, bit for bit."""
    return bool(np.array_equal(one.arrays["head"]["weight"], other.arrays["head"]["weight"]))


def test_what_saves_itself_loads_itself(net: Callable[..., Net], tmp_path: Path) -> None:
    """What one object saved another loads bit for bit; path and report are those of `keepfast.save` and `load`."""
    one, other = net(seed=1), net(seed=2)
    assert one.save(str(tmp_path / "net.safetensors")) == tmp_path / "net.safetensors"
    report = other.load(tmp_path / "net.safetensors")
    assert sorted(report.loaded) == [
        f"module.{part}" for part in ("body.bias", "body.weight", "head.bias", "head.weight")
    ]
    assert same(one, other)


def test_every_option_of_a_load_is_passed_on(net: Callable[..., Net], tmp_path: Path) -> None:
    """`modules`, `rename`, `cast` and `strict` do what they do in `keepfast.load`."""
    policy, value = net(seed=1), net(seed=2)
    path = keepfast.Agent({"policy": policy, "value": value}).save(tmp_path / "agent.safetensors")
    other = net(seed=3)
    with pytest.raises(keepfast.LoadMismatch, match="say which one to load"):
        other.load(path)
    assert other.load(path, modules=["value"])
    assert same(other, value)
    renamed = net(seed=3)
    renamed.arrays["tail"] = renamed.arrays.pop("head")
    report = renamed.load(path, modules=["policy"], rename={"head": "tail"})
    assert report.renamed == {"policy.tail.weight": "head.weight", "policy.tail.bias": "head.bias"}
    wide = net(seed=3, extra=np.zeros(2, np.float32))
    wide.arrays["head"] = {name: array.astype(np.float64) for name, array in wide.arrays["head"].items()}
    with pytest.raises(keepfast.LoadMismatch, match=r"(?s)head\.weight: dtype.*extra: missing"):
        wide.load(path, modules=["policy"])
    report = wide.load(path, modules=["policy"], cast=True, strict=False)
    assert (report.cast, report.missing) == (["policy.head.weight", "policy.head.bias"], ["policy.extra"])


def test_the_device_reaches_the_backend(
    net: Callable[..., Net], numpy_backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was given, by position or by name; None where none was."""
    path = net().save(tmp_path / "net.safetensors")
    asked: list[Any] = []
    monkeypatch.setattr(numpy_backend, "restore", lambda module, _state, device: asked.append(device) or module)
    net().load(path, "first")
    net().load(path, device="second")
    net().load(path)
    assert asked == ["first", "second", None]


def test_what_no_backend_knows_is_refused(tmp_path: Path) -> None:
    """An object with nothing to save is told so by its class, and no file is left."""

    class Alone(keepfast.Saving):
        pass

    with pytest.raises(keepfast.UnsupportedModule, match="Alone"):
        Alone().save(tmp_path / "alone.safetensors")
    assert list(tmp_path.iterdir()) == []
