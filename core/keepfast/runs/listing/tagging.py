"""The name and the tags that somebody gave a run, in a file of its directory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from keepfast._system.commit import commit_own
from keepfast._system.disk.special import content_of
from keepfast.errors import InvalidValue, as_given, shown

TAGS = "tags.json"

_LONGEST, _MOST = 200, 100
_BYTES = 1 << 20


@final
@dataclass(frozen=True)
class Label:
    """What somebody calls a run.

    Attributes:
        name: its name, "" where it has only that of its directory.
        tags: its tags, sorted.
    """

    name: str = ""
    tags: tuple[str, ...] = ()

    def changed(self, name: str | None = None, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Label:
        """Return the label with another name, more tags and fewer.

        Raises:
            InvalidValue: if a tag or the name is none, or a tag to remove is not there.
        """
        added, gone = [_checked(tag) for tag in add], set(remove)
        if strange := sorted(gone - set(self.tags)):
            raise InvalidValue(f"the run has no tag `{strange[0]}`; it has: {', '.join(self.tags) or '(none)'}")
        tags = tuple(sorted({*self.tags, *added} - gone))
        if len(tags) > _MOST:
            raise InvalidValue(f"a run has at most {_MOST} tags, and these would be {len(tags)}")
        return replace(self, tags=tags, name=self.name if name is None else name and _checked(name))


def _checked(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST or shown(text) != text:
        raise InvalidValue(
            f"{as_given(text)} is no name for a run or a tag; allowed: printable text of 1 to {_LONGEST} characters"
        )
    return text


def read_label(run: Path) -> Label:
    """Return what a run is called; nothing where nobody said, or the file makes no sense."""
    path = run / TAGS
    try:
        if not path.is_file() or path.stat().st_size > _BYTES:
            return Label()
        document = json.loads(content_of(path).decode())
        name, tags = document.get("name", ""), document.get("tags", [])
        return Label(str(name)[:_LONGEST], tuple(sorted(str(tag)[:_LONGEST] for tag in list(tags)[:_MOST])))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Label()


def write_label(run: Path, label: Label) -> None:
    """Commit what a run is called.

    Raises:
        WriteFailed: if the operating system refused.
    """
    text = json.dumps({"name": label.name, "tags": list(label.tags)}, indent=1)
    commit_own(run / TAGS, lambda file: file.write(text.encode()))
