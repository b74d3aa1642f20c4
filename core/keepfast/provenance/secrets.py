"""Secrets in what a start is told by: command lines, differences of code, errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from keepfast._system.arguments.settings import is_secret
from keepfast.config import MASK

_NAMED = re.compile(r"""(?<![\w.-])(?P<key>[\w.-]{1,80})["']?[ \t]{0,9}(?::=|=>|[:=])[ \t]{0,9}""")
"""A name that something is assigned to: ``api_key = "abc"``, ``--token=abc``, ``"password": "abc"``."""

_VALUE = re.compile(r"""(?P<quote>["'])[^"'\n]+|[^\s"',;&)}\]]+""")
"""What is assigned to it."""

_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@]+@", re.IGNORECASE)
"""A user and a password in an address."""

_CARRIED = re.compile(r"(?P<scheme>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
"""What stands behind the name of a scheme in a header."""


def masked_text(text: str) -> str:
    """Return text without what is assigned to a secret's name, and without the credentials in addresses."""
    text = _CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)
    text = _CARRIED.sub(rf"\g<scheme>{MASK}", text)
    return "".join(_without_assigned(text))


def _without_assigned(text: str) -> Iterator[str]:
    done = at = 0
    while named := _NAMED.search(text, at):
        at = named.end()
        value = _VALUE.match(text, at) if is_secret(_last(named["key"]), "given") else None
        if value is not None:
            yield text[done:at] + (value["quote"] or "") + MASK
            done = at = value.end()
    yield text[done:]


def _last(key: str) -> str:
    """Return the last part of a dotted path, without the dashes of an option."""
    return key.rpartition(".")[2].lstrip("-")


def masked_arguments(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the arguments of a command line without its secrets: ``--token abc`` and ``--token=abc``."""
    follows = False
    for argument in arguments:
        if follows and not argument.startswith("-"):
            yield MASK
        else:
            yield masked_text(argument)
        name = argument.lstrip("-")
        follows = argument.startswith("-") and "=" not in name and is_secret(name, "given")
