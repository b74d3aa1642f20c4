"""The end of something is done to its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keepfast._system.finishing import finish


def raising(error: BaseException) -> Callable[[], object]:
    def step() -> None:
        raise error

    return step


def test_every_step_is_done_whatever_the_ones_before_raise() -> None:
    """The first error is raised, with the others noted, and the steps behind them were done too."""
    done: list[str] = []
    with pytest.raises(ValueError, match="first") as raised:
        finish(
            raising(ValueError("first")),
            lambda: done.append("second"),
            raising(KeyboardInterrupt("third")),
            lambda: done.append("fourth"),
        )
    assert done == ["second", "fourth"]
    assert raised.value.__notes__ == ["and then: KeyboardInterrupt: third"]


def test_the_error_on_its_way_is_the_one_to_be_seen() -> None:
    """What the end raises is noted with it, and not raised in its place."""
    error = RuntimeError("the environment broke")
    finish(raising(ValueError("first")), raising(ValueError("second")), after=error)
    assert error.__notes__ == ["and then: ValueError: first", "and then: ValueError: second"]


@pytest.mark.parametrize("end", [SystemExit(143), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_program_hides_no_error_of_the_end(end: BaseException) -> None:
    """An exit prints nothing, so what went wrong on the way out is raised."""
    with pytest.raises(ValueError, match="not saved"):
        finish(raising(ValueError("not saved")), after=end)


def test_an_end_in_order_raises_nothing() -> None:
    """Neither of its own nor what was on its way, which goes on by itself."""
    error = RuntimeError("the environment broke")
    finish(lambda: None, after=error)
    assert not hasattr(error, "__notes__")
