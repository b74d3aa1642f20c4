"""WantedTags: which tags somebody asks for, by name or by regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias, final

from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue, as_given, nearest

Wanted: TypeAlias = "str | re.Pattern[str]"
"""A tag, or a regular expression of tags."""

_SIGNS = re.compile(r"[][*+?{}|^$\\]")
"""What makes a regular expression of a text; tags have brackets and dots anyway."""

_STATISTIC = re.compile(r"(?<!\\)\((max|min|mean)(?<!\\)\)")
"""The end of many tags, which is no group of a regular expression."""


@final
class WantedTags:
    """Chooses tags, and remembers which of those that were asked for nobody had.

    Args:
        wanted: tags, and regular expressions of tags, which need not match the whole of one.

    Raises:
        InvalidValue: if one is neither.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = {each: _expression(each) for each in wanted}
        self._unmet = dict.fromkeys(self._wanted)
        self._seen: set[str] = set()

    def among(self, tags: Iterable[str]) -> list[str]:
        """Return those of some tags that are wanted."""
        tags = list(tags)
        self._seen.update(tags)
        chosen: set[str] = set()
        for each, expression in self._wanted.items():
            found = {tag for tag in tags if tag == each or (expression is not None and expression.search(tag))}
            if found:
                self._unmet.pop(each, None)
            chosen |= found
        return [tag for tag in tags if tag in chosen]

    def tell(self) -> None:
        """Warn, in one go, of what no run had."""
        if self._unmet:
            warn(f"no run has {', '.join(self._told(each) for each in self._unmet)}")

    def _told(self, wanted: Wanted) -> str:
        if isinstance(wanted, re.Pattern):
            return f"a tag that matches `{wanted.pattern}`"
        near = nearest(wanted, self._seen)
        return f"the tag `{wanted}`" + (f" (did you mean `{near}`?)" if near else "")


def _expression(wanted: Wanted) -> re.Pattern[str] | None:
    """Return the regular expression that is meant, or None of what is a tag as it stands."""
    if isinstance(wanted, re.Pattern):
        return wanted
    if not isinstance(wanted, str):
        raise InvalidValue(
            f"a tag is {as_given(wanted)} ({type(wanted).__name__}); allowed: a tag, or a regular expression"
        )
    if not _SIGNS.search(wanted):
        return None
    try:
        return re.compile(_STATISTIC.sub(r"\\(\1\\)", wanted))
    except re.error:
        return None
