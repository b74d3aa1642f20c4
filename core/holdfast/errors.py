"""Every error and warning of Holdfast.

Each error is a `HoldfastError` and also the built-in that its caller would expect, so that both
``except holdfast.HoldfastError`` and ``except ValueError`` read naturally.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HoldfastError(Exception):
    """Base of every error that Holdfast raises."""

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, and OSError a tuple.
        return str(self.args[0]) if self.args else ""


class HoldfastWarning(UserWarning):
    """Tells of something that did not stop the run but is worth knowing."""


class ConfigError(HoldfastError, ValueError):
    """A configuration has an unknown key, or a value that is not allowed."""


class UnknownPlugin(HoldfastError, KeyError, ValueError):
    """A backend, writer or format was asked for by a name that nobody registered."""


class PluginConflict(HoldfastError, ValueError):
    """Two plugins claim the same name."""


class BrokenPlugin(HoldfastError, ImportError):
    """A plugin that was asked for failed to import or to register."""


class MissingDependency(HoldfastError, ImportError):
    """A package that the requested part needs is not installed."""


class InvalidValue(HoldfastError, TypeError, ValueError):
    """A value cannot be used for what it was given for (a metric that is no number, say)."""


class ShapeMismatch(HoldfastError, ValueError):
    """An array has another shape than the place it was meant for."""


class UnknownTensor(HoldfastError, KeyError, ValueError):
    """A memory has no tensor of the name that was asked for."""


class UnsupportedModule(HoldfastError, TypeError):
    """An object was registered as a module that no backend can capture."""


class LoadMismatch(HoldfastError, ValueError, RuntimeError):
    """A file and the modules it is loaded into do not fit; lists every difference at once."""


class NotFound(HoldfastError, FileNotFoundError):
    """There is no checkpoint, run or memory where one was asked for."""


class DirectoryError(HoldfastError, OSError):
    """A directory that Holdfast was told to write in cannot be written in."""


class WriteFailed(HoldfastError, OSError):
    """A file could not be made durable; what was durable before is untouched."""


class WriterFailed(HoldfastError, RuntimeError):
    """A writer raised, and the configuration asks for that to be an error."""


class CorruptFile(HoldfastError, OSError, ValueError):
    """A file is damaged; names the file and the part."""


class CorruptCheckpoint(CorruptFile):
    """A checkpoint is damaged, or holds what a checkpoint must not hold."""


class CorruptMemory(CorruptFile):
    """A memory file is damaged, or holds what a memory file must not hold."""


class UsageError(HoldfastError, RuntimeError):
    """A call was made at a moment, or on an object, where it makes no sense."""


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
