"""Every error is a KeepfastError and the built-in its caller would expect."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from keepfast import KeepfastError, KeepfastWarning, errors
from keepfast._system.warnings import warn

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, KeepfastError)]
BUILT_IN = (ValueError, KeyError, ImportError, TypeError, OSError, RuntimeError, MemoryError)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_also_a_built_in(error: type[KeepfastError]) -> None:
    """`except ValueError` and its like catch what they should."""
    assert error is KeepfastError or issubclass(error, BUILT_IN)
    assert inspect.getdoc(error)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_prints_its_text_and_travels(error: type[KeepfastError]) -> None:
    """No repr, no tuple; through pickle and copy, as between processes, it stays the same."""
    raised = error("unknown `x`; known: a, b.")
    assert str(raised) == "unknown `x`; known: a, b."
    assert str(error()) == ""
    for travelled in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):
        assert (type(travelled), str(travelled)) == (error, str(raised))


def test_a_suggestion_is_made_where_something_is_close() -> None:
    """What is known is listed in order, the nearest at the end."""
    assert errors.did_you_mean("tensorbord", ["wandb", "tensorboard"]) == (
        "; known: tensorboard, wandb. Did you mean `tensorboard`?"
    )
    assert errors.did_you_mean("zzz", ["wandb"]) == "; known: wandb."
    assert errors.did_you_mean("zzz", []) == "; known: (none)."


def test_a_warning_points_at_the_users_line() -> None:
    """Not into the library: the file it names is this one."""
    with pytest.warns(KeepfastWarning, match="look here") as warned:
        warn("look here")
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    "text", ["\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "a\nb\tc\rd", "\u202eevil", "\udcff", "\x00"]
)
def test_text_of_a_file_commands_no_terminal(text: str) -> None:
    """It is spelled out, on one line; in a message that has lines of its own, these stay."""
    found = errors.shown(text)
    assert found.isprintable()
    assert found.isascii()
    assert str(errors.InvalidValue(f"one\n  {errors.shown(text)}")) == f"one\n  {found}"
    assert all(line.isprintable() or "\t" in line for line in str(errors.InvalidValue(text)).split("\n"))


def test_long_text_of_a_file_is_shortened() -> None:
    """Beginning and end are shown, and how much there is; what is short and can be shown is as it was."""
    found = errors.shown("a" * 5_000_000 + "z")
    assert (len(found) < 250, found[:3], found[-1], "(5,000,001 characters)" in found) == (True, "aaa", "z", True)
    assert len(str(errors.CorruptFile(f"`x` is damaged: {'b' * 5_000_000}"))) < 2100
    assert errors.shown("Größe / 報酬 🎯 (mean)") == "Größe / 報酬 🎯 (mean)"
    assert errors.shown(7) == "7"
