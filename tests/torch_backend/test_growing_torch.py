"""State that grows, on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from tests.both_backends.growing import GrowingSuite  # noqa: E402


class TestTorchGrowing(GrowingSuite):
    def array(self, values: Any) -> Any:
        return torch.tensor(values)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: torch.nn.Parameter(torch.zeros(size)),
        lambda size: torch.nn.Parameter(torch.zeros(size), requires_grad=False),
        lambda size: torch.zeros(size, requires_grad=True),
    ],
    ids=["a parameter", "a frozen parameter", "what is trained"],
)
def test_what_an_optimizer_counts_on_keeps_its_shape(make: Callable[[int], Any], tmp_path: Path) -> None:
    """A parameter of another size is a difference, also as an attribute."""
    owner = SimpleNamespace(alpha=make(2))
    before = owner.alpha
    path = keepfast.save(make(3), tmp_path / "alpha.pt")
    with pytest.raises(keepfast.LoadMismatch, match="shape"):
        keepfast.load(keepfast.attribute(owner, "alpha"), path)
    assert owner.alpha is before


def test_a_buffer_that_grew_is_the_modules_buffer_again(tmp_path: Path) -> None:
    """A module whose buffer is named as an attribute has the file's, and moves it to other dtypes as before."""
    saved, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    saved.register_buffer("seen", torch.ones(4))
    other.register_buffer("seen", torch.zeros(2))
    assert keepfast.load(keepfast.attribute(other, "seen"), keepfast.save(saved.seen, tmp_path / "seen.pt"))
    assert list(dict(other.named_buffers())) == ["seen"]
    assert other.double().state_dict()["seen"].tolist() == [1, 1, 1, 1]
