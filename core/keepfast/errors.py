"""Every error and warning of Keepfast.

Each error is a `KeepfastError` and also the built-in that its caller would expect, so that both
``except keepfast.KeepfastError`` and ``except ValueError`` read naturally.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any, NoReturn, final

_UNSEEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
"""Characters that command a terminal, turn the direction of what follows, or stand for no character at all."""

_IN_A_NAME, _IN_A_MESSAGE = re.compile(f"[\t\n{_UNSEEN}]"), re.compile(f"[{_UNSEEN}]")
_LONGEST_NAME, _LONGEST_LINE, _LONGEST_NUMBER = 200, 2000, 2000


def shown(text: object, most: int = _LONGEST_NAME) -> str:
    """Return text of a file as it may be shown to people: short, on one line, and nothing in it commands a terminal.

    Args:
        text: the text; of another object, what `str` makes of it.
        most: how many characters of it are shown.
    """
    return _IN_A_NAME.sub(_spelled_out, _shortened(str(text), most))


def printable(message: str) -> str:
    """Return a message that may hold text of a file as it may be shown to people, on as many lines as it has."""
    lines = [_shortened(line, _LONGEST_LINE) for line in message.split("\n")]
    return _IN_A_MESSAGE.sub(_spelled_out, "\n".join(lines))


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3]} ... ({len(text):,} characters) ... {text[-(most // 3) :]}"


def _spelled_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class KeepfastError(Exception):
    """Base of every error that Keepfast raises."""

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, and OSError a tuple.
        return printable(str(self.args[0])) if self.args else ""


class KeepfastWarning(UserWarning):
    """Tells of something that did not stop the run but is worth knowing."""


class ConfigError(KeepfastError, ValueError):
    """A configuration has an unknown key, or a value that is not allowed."""


class UnknownPlugin(KeepfastError, KeyError, ValueError):
    """A backend, writer or format was asked for by a name that nobody registered."""


class PluginConflict(KeepfastError, ValueError):
    """Two plugins claim the same name."""


class BrokenPlugin(KeepfastError, ImportError):
    """A plugin that was asked for failed to import or to register."""


class MissingDependency(KeepfastError, ImportError):
    """A package that the requested part needs is not installed."""


class InvalidValue(KeepfastError, TypeError, ValueError):
    """A value cannot be used for what it was given for (a metric that is no number, say)."""


class ShapeMismatch(KeepfastError, ValueError):
    """An array has another shape than the place it was meant for."""


class UnknownTensor(KeepfastError, KeyError, ValueError):
    """A memory has no tensor of the name that was asked for."""


class UnsupportedModule(KeepfastError, TypeError):
    """An object was registered as a module that no backend can capture."""


class LoadMismatch(KeepfastError, ValueError, RuntimeError):
    """A file and the modules it is loaded into do not fit; lists every difference at once."""


class LoadFailed(KeepfastError, ValueError, RuntimeError):
    """A load was ended by an error of somebody else's: of a module, a plugin or the system; names the module."""


class NotFound(KeepfastError, FileNotFoundError):
    """There is no checkpoint, run or memory where one was asked for."""


class DirectoryError(KeepfastError, OSError):
    """A directory that Keepfast was told to write in cannot be written in."""


class WriteFailed(KeepfastError, OSError):
    """A file could not be made durable; what was durable before is untouched."""


class WaitedInVain(KeepfastError, TimeoutError):
    """What is done behind training has not come to an end for so long that it is not waited for any more."""


class WriterFailed(KeepfastError, RuntimeError):
    """A writer raised, and the configuration asks for that to be an error."""


class CorruptFile(KeepfastError, OSError, ValueError):
    """A file is damaged; names the file and the part."""


class CorruptCheckpoint(CorruptFile):
    """A checkpoint is damaged, or holds what a checkpoint must not hold."""


class CorruptMemory(CorruptFile):
    """A memory file is damaged, or holds what a memory file must not hold."""


class HubError(KeepfastError, OSError):
    """A hub of models refused, could not be reached, or sent something damaged."""


class RemoteError(KeepfastError, OSError):
    """An object store refused, could not be reached, or sent something damaged."""


class NewerFormat(KeepfastError, OSError, ValueError):
    """A file is of a later format than this version of Keepfast knows; a later Keepfast reads it."""


class Unreadable(KeepfastError, OSError, ValueError):
    """A file may be whole, and it is Keepfast that cannot read it; says what it holds, and what to do."""


class OutOfMemory(KeepfastError, MemoryError):
    """What a file holds takes more memory than the process may have; the file may be whole."""


class UsageError(KeepfastError, RuntimeError):
    """A call was made at a moment, or on an object, where it makes no sense."""


def refuse(reason: str, *_given: object) -> NoReturn:
    """Refuse a call, whatever it is given.

    Raises:
        UsageError: always; says why.
    """
    raise UsageError(reason)


@final
class _Shown(reprlib.Repr):
    """Shows values shortly, and arrays of frameworks without what they hold, which may be far away, or gone."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxstring, self.maxlong = 3, 60, 60, 40

    def repr_int(self, x: int, level: int) -> str:
        """Return a number; of one that Python spells out for nobody, how large it is."""
        if x.bit_length() > _LONGEST_NUMBER:
            return f"<a number of {x.bit_length():,} bits>"
        return super().repr_int(x, level)

    def repr1(self, x: Any, level: int) -> str:
        """Return one value, at a level of others."""
        kind = type(x)
        try:
            if hasattr(kind, "dtype") and hasattr(kind, "shape") and not kind.__module__.startswith("numpy"):
                return f"<{kind.__name__} {x.dtype} {tuple(x.shape)}>"
            return super().repr1(x, level)
        except Exception:  # noqa: BLE001  (it is shown in an error that tells what is wrong)
            return f"<{kind.__name__}>"


_SHOWN = _Shown()


def as_given(value: object) -> str:
    """Return a value that was given as errors show it: short, however deep it is, and whatever its `repr` raises."""
    return _SHOWN.repr(value)[:100]


def nearest(given: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name most like the given one, or None where nothing is close; 1 is closest."""
    found = difflib.get_close_matches(str(given), list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return the tail of an error about an unknown name: what is known, and the nearest of it."""
    names = sorted(known)
    close = nearest(given, names)
    listing = f"; known: {', '.join(names) or '(none)'}."
    return listing + (f" Did you mean `{close}`?" if close else "")
