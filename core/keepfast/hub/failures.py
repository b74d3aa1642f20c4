"""What goes wrong with the Hub, told with the next step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from keepfast.errors import HubError, InvalidValue, KeepfastError, MissingDependency, NotFound, as_given
from keepfast.interfaces.summary.checks import writable
from keepfast.plugins.lazy import install_hint

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_REFUSED = (401, 403)
_BUSY, _BROKEN = 429, 500
_LONGEST = 1000
"""How many characters a name may have; what an address may have is little more."""


def endpoint() -> str | None:
    """Return the address of the Hub, as HF_ENDPOINT says at the time of the call; None where it is the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def told(repo_id: str, what: str = "", revision: str | None = None) -> Iterator[None]:
    """Turn whatever the client raises into an error of ours that says what to do.

    Args:
        repo_id: the repository.
        what: the file in it that is wanted, "" for the repository as a whole.
        revision: the revision that is wanted.

    Raises:
        NotFound: if there is no such repository, file or revision.
        InvalidValue: if the repository's name is none, or a file or revision could have no such name.
        HubError: if the Hub refuses, or cannot be reached, or the download was cut off.
        MissingDependency: if the client is not installed; says what to run.
    """
    _check("repo_id", repo_id, "`organisation/name`")
    _check("filename", what, "the name of a file of the repository")
    _check("revision", "" if revision is None else revision, "a branch, a tag or a commit, or None")
    try:
        yield
    except KeepfastError:
        raise
    except ImportError as error:
        hint = install_hint(("huggingface_hub",), "hub")
        raise MissingDependency(f"the Hugging Face Hub needs {hint} ({error})") from error
    except Exception as error:
        raise _as_ours(error, f"`{what}` of `{repo_id}`" if what else f"`{repo_id}`", repo_id, revision) from error


def _check(name: str, given: object, allowed: str) -> None:
    if not isinstance(given, str) or "\0" in given or len(given) > _LONGEST or writable(given) != given:
        raise InvalidValue(f"`{name}` is {as_given(given)}; allowed: {allowed}")


def _as_ours(error: Exception, place: str, repo_id: str, revision: str | None) -> KeepfastError:
    try:
        from huggingface_hub import errors
    except ImportError:  # it has not come to the client
        return _of_status(error, place)
    if isinstance(error, errors.GatedRepoError):
        return HubError(f"`{repo_id}` is gated: ask for access on its page, then {_LOG_IN}")
    if isinstance(error, errors.LocalEntryNotFoundError):  # neither a file that is missing there, nor an HTTP error
        return HubError(
            f"{place} is not in the cache, and the Hub cannot be reached; connect, unset HF_HUB_OFFLINE, or give the "
            "path of a file on this machine"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"`{repo_id}` has no revision `{revision}`; give a branch, a tag or a commit that it has")
    if isinstance(error, errors.EntryNotFoundError):
        return NotFound(f"{place}: there is no such file; look at the repository's files, and name one of them")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(f"there is no repository `{repo_id}`, or it is private; check the name, and {_LOG_IN}")
    if isinstance(error, errors.HFValidationError):
        return InvalidValue(f"`{repo_id}` is no name of a repository; allowed: `organisation/name` ({error})")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return HubError(f"{place}: there is no token on this machine; {_LOG_IN}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"{place}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it")
    return _of_status(error, place)


def _of_status(error: Exception, place: str) -> KeepfastError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in _REFUSED:
        reason = f"the Hub refuses the token, or there is none ({status})"
        return HubError(f"{place}: {reason}; {_LOG_IN} (to push, one with write access)")
    if status == _BUSY:
        return HubError(f"{place}: the Hub asks to wait ({status}); try again later")
    if status is not None and status >= _BROKEN:
        return HubError(f"{place}: the Hub is out of order ({status}); try again later")
    reason = f"{type(error).__name__}: {error}"
    return HubError(f"{place} was not transferred ({reason:.300}); check the connection and the disk, and try again")
